"""What leaves a machine that is given back: few files of limited size, which the next slice unpacks.

They hold the results as they are published, checkpoints of searches that aren't finished, compiled kernels, and rows. Left out
is what can be computed again: older checkpoints, and of a dump the weights of most images (their mean and deviation stay).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from midas.publish import IMAGES, reduce_dump

FILES, FILE_BYTES, BYTES = 8, 16_000_000, 64_000_000
"""At most so many files, of so many bytes each and together; two are the report's."""
COMPILED = {".cubin", ".json", ".so"}
"""Of the cache of kernels, what a GPU needs."""
CARRY = Path("carry")
TEMPORARY = Path("packing.tar.gz")
NAME = "slice.tar.gz"
BEGUN = "slice.json"
"""Where it is, a folder is that of a slice."""


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


def pack(unfinished: list[Path]) -> tuple[str, list[str]]:
    """Write the files of the folder carry/ anew.

    Args:
        unfinished: folders of searches that go on, those that are furthest first.

    Returns:
        SHA-256 of the whole; what is not in it: damaged dumps, and, where there was no room, compiled kernels, then checkpoints.
    """
    count, kernels = len(unfinished), Path("triton").exists()
    damaged, dropped = _archive(unfinished, kernels), kernels
    while TEMPORARY.stat().st_size > min(BYTES, (FILES - 2) * FILE_BYTES) and (kernels or count):
        count, kernels = count - (not kernels), False
        _archive(unfinished[:count], kernels)
    CARRY.mkdir(exist_ok=True)
    for old in CARRY.glob(f"{NAME}.*"):
        old.unlink()
    whole = hashlib.sha256()
    with TEMPORARY.open("rb") as file:
        for number, piece in enumerate(iter(partial(file.read, FILE_BYTES), b"")):
            (CARRY / f"{NAME}.{number}").write_bytes(piece)
            whole.update(piece)
    TEMPORARY.unlink()
    without = ["the compiled kernels"] if dropped and not kernels else []
    return whole.hexdigest(), [*damaged, *without, *(folder.as_posix() for folder in unfinished[count:])]


def _archive(unfinished: list[Path], kernels: bool) -> list[str]:
    """Write all into one file; what is damaged and left out."""
    damaged = []
    with tarfile.open(TEMPORARY, "w:gz", compresslevel=1) as archive:  # weights hardly shrink, whatever the effort
        for path in _wanted(unfinished, kernels):
            content = None
            if path.name == "example.npz":  # an image, which may not be passed on; nothing in its place, but a file
                content = _npz()
            elif path.name == "arch.npz":
                try:
                    content = _reduced(path)
                except ValueError as error:
                    damaged.append(f"{path.as_posix()} ({error})")
                    continue
            _add(archive, path, content)
    return damaged


def _add(archive: tarfile.TarFile, path: Path, content: bytes | None) -> None:
    """Add a file, or other content by its name and date; a search may put a newer one in its place meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # it was there when files were listed
        return
    with file:
        facts = archive.gettarinfo(arcname=path.as_posix(), fileobj=file)
        if content is not None:
            facts.size = len(content)
        archive.addfile(facts, file if content is None else io.BytesIO(content))


def settle_kernels(folder: Path) -> None:
    """Let a cache of kernels that was moved be found: Triton keeps the paths of its files in it."""
    for group in folder.glob("*/__grp__*.json"):
        try:
            names = json.loads(group.read_text())["child_paths"]
        except (ValueError, KeyError, TypeError):  # damaged: Triton compiles it anew
            group.unlink()
            continue
        group.write_text(json.dumps({"child_paths": {name: str(group.resolve().with_name(name)) for name in names}}))


def _npz() -> bytes:
    empty = io.BytesIO()
    np.savez(empty)
    return empty.getvalue()


def _reduced(path: Path) -> bytes:
    reduced = path.with_name("reduced.npz")
    try:
        reduce_dump(path, reduced, IMAGES)
        return reduced.read_bytes()
    finally:
        reduced.unlink(missing_ok=True)


def unpack(source: Path, target: Path) -> None:
    """Begin a slice's folder with what an earlier one left: its folder, or one with the files that were packed there.

    Raises:
        ValueError: nothing of a slice lies in `source`, or its pieces are damaged.
    """
    fresh = target.with_name(f".{target.name}.{os.getpid()}")  # the folder is begun when all of it is there
    try:
        _unpack(source, fresh)
        shutil.copytree(fresh, target, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns(BEGUN))
        (fresh / BEGUN).replace(target / BEGUN)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _unpack(source: Path, target: Path) -> None:
    folder = next((f for f in (source, source / CARRY) if (f / f"{NAME}.0").exists()), None)
    if (source / BEGUN).exists():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("data", "carry", "lock"))
        return
    if folder is None:
        raise ValueError(f"--resume {source}: holds no slice; needed: {BEGUN}, or {NAME}.0 and what follows it")
    pieces = sorted(folder.glob(f"{NAME}.*"), key=lambda path: int(path.suffix[1:]))
    content = b"".join(piece.read_bytes() for piece in pieces)
    if (report := folder / "report.json").exists() and hashlib.sha256(content).hexdigest() not in report.read_text():
        raise ValueError(
            f"--resume {source}: {len(pieces)} files {NAME}.* are not those of its report; one is missing or damaged"
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"--resume {source}: {NAME}.* can't be unpacked: {error}") from error
