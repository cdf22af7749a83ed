"""What leaves a machine that is given back: few files of limited size, which the next slice unpacks.

They hold the results as they are published, checkpoints of searches that aren't finished, compiled kernels, and rows. Left out
is what can be computed again: older checkpoints, and of a dump the weights of most images (their mean and deviation stay).
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from midas.publish import IMAGES, reduce_dump

FILES, FILE_BYTES, BYTES = 8, 16_000_000, 64_000_000
"""At most so many files, of so many bytes each and together; two are the report's."""
COMPILED = {".cubin", ".json", ".so"}
"""Of the cache of kernels, what a GPU needs."""
CARRY = Path("carry")
TEMPORARY = Path("packing.tar.gz")
NAME = "slice.tar.gz"


def _wanted(unfinished: list[Path], kernels: bool) -> Iterator[Path]:
    """Files, those of checkpoints and of compiled kernels last."""
    yield from (path for path in (Path("slice.json"), Path("config.yaml")) if path.exists())
    for name in ("rows", "logs", "results"):
        for path in sorted(Path(name).rglob("*")):
            if path.is_file() and not any(part.startswith("search_checkpoint") for part in path.parts):
                yield path
    yield from (path for folder in unfinished if (path := folder / "search_checkpoint/newest.pt").exists())
    if kernels:
        yield from (path for path in sorted(Path("triton").rglob("*")) if path.suffix in COMPILED)


def pack(unfinished: list[Path]) -> list[str]:
    """Write the files of the folder carry/ anew.

    Args:
        unfinished: folders of searches that go on, those that are furthest first.

    Returns:
        What found no room: the compiled kernels, then checkpoints of searches by their folders.
    """
    _archive(unfinished, kernels=True)
    count, kernels = len(unfinished), True
    while TEMPORARY.stat().st_size > min(BYTES, (FILES - 2) * FILE_BYTES) and (kernels or count):
        count, kernels = count - (not kernels), False
        _archive(unfinished[:count], kernels)
    CARRY.mkdir(exist_ok=True)
    for old in CARRY.glob(f"{NAME}.*"):
        old.unlink()
    with TEMPORARY.open("rb") as whole:
        for number, piece in enumerate(iter(partial(whole.read, FILE_BYTES), b"")):
            (CARRY / f"{NAME}.{number}").write_bytes(piece)
    TEMPORARY.unlink()
    return [*(() if kernels else ("the compiled kernels",)), *(folder.as_posix() for folder in unfinished[count:])]


def _archive(unfinished: list[Path], kernels: bool) -> None:
    with tarfile.open(TEMPORARY, "w:gz", compresslevel=1) as archive:  # weights hardly shrink, whatever the effort
        for path in _wanted(unfinished, kernels):
            if path.name == "arch.npz":
                _add_reduced(archive, path)
            elif path.name != "example.npz":  # an image, which may not be passed on
                archive.add(path)


def _add_reduced(archive: tarfile.TarFile, path: Path) -> None:
    reduced = path.with_name("reduced.npz")
    try:
        reduce_dump(path, reduced, IMAGES)
        facts = archive.gettarinfo(path)
        content = reduced.read_bytes()
        facts.size = len(content)
        archive.addfile(facts, io.BytesIO(content))
    finally:
        reduced.unlink(missing_ok=True)


def unpack(source: Path, target: Path) -> None:
    """Begin a slice's folder with what an earlier one left: its folder, or one with the files that were packed there.

    Raises:
        ValueError: nothing of a slice lies in `source`, or its pieces are damaged.
    """
    inner = source / CARRY
    pieces = sorted(source.glob(f"{NAME}.*"), key=lambda path: int(path.suffix[1:]))
    if not pieces and (source / "slice.json").exists():
        shutil.copytree(
            source, target, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("data", "carry")
        )
        return
    pieces = pieces or sorted(inner.glob(f"{NAME}.*"), key=lambda path: int(path.suffix[1:]))
    if not pieces:
        raise ValueError(f"--resume {source}: holds no slice; needed: slice.json, or {NAME}.0 and what follows it")
    content = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    try:
        with tarfile.open(fileobj=content) as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"--resume {source}: {NAME}.* can't be unpacked: {error}") from error
