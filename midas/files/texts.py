"""Text of a file that its user names: plain or compressed, in UTF-8 or with a byte-order mark that says what else."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path


def _unzip(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        if len(files) != 1:
            raise ValueError(f"it holds {len(files)} files; one is wanted")
        return archive.read(files[0])


PACKED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
    b"PK\x03\x04": ("zip", _unzip),
}
"""First bytes of a compressed file -> its kind and what unpacks it."""
OTHERS = {b"(\xb5/\xfd": "Zstandard", b"7z\xbc\xaf'\x1c": "7z", b"\x1f\x9d": "compress"}
"""First bytes of kinds that Python 3.11 can't unpack."""
MARKS = {  # those of UTF-32 first: one begins as that of UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


def read_text(path: Path) -> str:
    """The text of a file, its byte-order mark taken away.

    Raises:
        OSError: the file can't be read.
        ValueError: it is damaged, compressed in another way, or no text.
    """
    raw = path.read_bytes()
    for start, (kind, unpack) in PACKED.items():
        if raw.startswith(start):
            try:
                raw = unpack(raw)
            except (
                OSError,
                EOFError,
                zlib.error,
                lzma.LZMAError,
                zipfile.BadZipFile,
                ValueError,
                RuntimeError,
            ) as error:
                raise ValueError(f"a {kind} file that can't be unpacked: {error}") from error
            break
    for start, kind in OTHERS.items():
        if raw.startswith(start):
            kinds = ", ".join(kind for kind, _ in PACKED.values())
            raise ValueError(f"a {kind} file; allowed: plain text, {kinds}")
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8: {error}") from error
    if "\0" in text:
        raise ValueError("not text in UTF-8: it holds bytes of zero")
    return text
