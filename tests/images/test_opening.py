"""One image file as RGB: what is decoded, and that whatever can't be is named."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from midas.images.opening import UnreadableError, open_all, read_rgb

DRAW = np.random.default_rng(0)
COLOURED = DRAW.integers(0, 256, (24, 20, 3), dtype=np.uint8)
GRAY = DRAW.integers(0, 256, (24, 20), dtype=np.uint8)


def png(image, **options):
    content = io.BytesIO()
    image.save(content, "png", **options)
    return content.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_long_text():
    whole = png(Image.fromarray(COLOURED))
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 2**21))
    return whole[:33] + text + whole[33:]  # after the signature and the header


def with_broken_chunk():
    """The pixels in two chunks, the second without a name."""
    pixels = zlib.compress(np.pad(COLOURED.reshape(24, -1), ((0, 0), (1, 0))).tobytes())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 24, 8, 2, 0, 0, 0))
    second = chunk(b"\xff\xff\xff\xff", pixels[100:])
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels[:100]) + second + chunk(b"IEND", b"")


def with_other_header(**fields):
    """A PNG that says something else of its size."""
    size = struct.pack(">IIBBBBB", *({"width": 20, "height": 24} | fields).values(), 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + png(Image.fromarray(COLOURED))[33:]


WHOLE = png(Image.fromarray(COLOURED))
JPEG = io.BytesIO()
Image.fromarray(COLOURED).save(JPEG, "jpeg")
DAMAGED = {
    "nothing": b"",
    "a text": b"no image",
    "a resource fork": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ",
    "half a PNG": WHOLE[: len(WHOLE) // 2],
    "half a JPEG": JPEG.getvalue()[: len(JPEG.getvalue()) // 2],
    "too many pixels": with_other_header(width=20_000, height=20_000),
    "a size of none": with_other_header(width=0),
    "a long text": with_long_text(),
    "a chunk without a name": with_broken_chunk(),
    "a header cut short": WHOLE[:20],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_in_one_line(kind, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(UnreadableError) as caught:
        read_rgb(path)
    assert str(caught.value).startswith(f"{path}: not a readable image: ")
    assert "\n" not in str(caught.value)


def test_damages_are_of_several_kinds_in_pillow(tmp_path):
    kinds = set()
    for content in DAMAGED.values():
        (tmp_path / "x.png").write_bytes(content)
        try:
            Image.open(tmp_path / "x.png").convert("RGB")
        except Exception as error:
            kinds.add(type(error).__name__)
    assert kinds >= {"DecompressionBombError", "OSError", "SyntaxError", "UnidentifiedImageError", "ValueError"}


def test_a_link_to_nothing_and_a_folder_are_named(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("link.png", "folder.png", "two\nlines.png"):
        with pytest.raises(UnreadableError, match=rf"{name[:3]}.*\.png: not a readable image: (No such|Is a dir)"):
            read_rgb(tmp_path / name)


def test_a_workers_error_stays_one_line(tmp_path):
    error = UnreadableError("a.png: not a readable image: cut short")
    text = "Caught UnreadableError in DataLoader worker process 0.\nTraceback: ...\n"
    text += f"{UnreadableError.__module__}.UnreadableError: {error}\n"
    assert str(UnreadableError(text)) == str(error)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_ordinary_images_are_as_pillow_has_them(suffix, tmp_path):
    for image in (Image.fromarray(COLOURED), Image.fromarray(GRAY), Image.fromarray(COLOURED).quantize(16)):
        options = {"lossless": True} if suffix == "webp" else {}
        image.save(tmp_path / f"x.{suffix}", **options)
        np.testing.assert_array_equal(read_rgb(tmp_path / f"x.{suffix}"), image.convert("RGB"))


def test_sixteen_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 24 * 20).astype(np.uint16).reshape(24, 20)
    Image.fromarray(ramp).save(tmp_path / "gray.png")
    read = np.asarray(read_rgb(tmp_path / "gray.png"))
    assert np.abs(read - ramp[..., None] / 257).max() <= 1
    assert (read == 255).mean() < 0.01
    Image.fromarray(GRAY.astype(np.uint16) * 257).save(tmp_path / "same.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "same.png"), Image.fromarray(GRAY).convert("RGB"))


def test_black_is_black_in_sixteen_bits_too(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "x.png")
    assert not np.asarray(read_rgb(tmp_path / "x.png")).any()


@pytest.mark.parametrize("largest", [255, 4095])
def test_twelve_bits_in_sixteen_are_refused(largest, tmp_path):
    Image.fromarray(np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)).save(tmp_path / "x.png")
    with pytest.raises(UnreadableError, match=rf"x\.png: .*16 bits hold values to {largest}, .*store 8 bits"):
        read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("kind", "form"), [("uint16", "tiff"), ("int32", "tiff"), ("float32", "tiff"), ("uint16", "ppm")]
)
def test_numbers_of_no_known_white_are_refused(kind, form, tmp_path):
    Image.fromarray(np.linspace(0, 60_000, 64).astype(kind).reshape(8, 8)).save(tmp_path / "x.png", form)
    with pytest.raises(UnreadableError, match=r"x\.png: .*black and white aren't known"):
        read_rgb(tmp_path / "x.png")


def test_what_pillow_warns_of_is_read_in_silence(tmp_path, monkeypatch):
    palette = Image.fromarray(COLOURED).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(0, 256, 16)))
    Image.fromarray(COLOURED).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), palette.convert("RGB"))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 20 - 1)
        np.testing.assert_array_equal(read_rgb(tmp_path / "large.png"), COLOURED)


def test_transparency_is_dropped_and_of_an_animation_the_first_frame_is_read(tmp_path):
    Image.fromarray(np.dstack([COLOURED, GRAY])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "alpha.png"), COLOURED)
    frames = [Image.fromarray(COLOURED), Image.fromarray(255 - COLOURED)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "moving.png") as moving:
        assert moving.n_frames == 2
    np.testing.assert_array_equal(read_rgb(tmp_path / "moving.png"), COLOURED)


def test_ink_is_read_as_colours(tmp_path):
    ink = Image.fromarray(np.full((16, 16, 3), (200, 40, 90), np.uint8)).convert("CMYK")
    ink.save(tmp_path / "x.jpg", quality=95)
    assert np.abs(np.asarray(read_rgb(tmp_path / "x.jpg")).astype(int) - (200, 40, 90)).max() < 12


def test_all_files_are_opened(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("midas.images.opening.SAY_EVERY", 2)
    for name in "abc":
        Image.fromarray(COLOURED).save(tmp_path / f"{name}.png")
    files = sorted(tmp_path.iterdir())
    open_all(tmp_path, files)
    assert capsys.readouterr().err == "data: 2 of 3 images opened\n"
    files[2].write_bytes(WHOLE[:200])
    with pytest.raises(UnreadableError, match=r"c\.png: not a readable image"):
        open_all(tmp_path, files)
