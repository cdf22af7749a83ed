"""What a user's files hold, wherever they lie: digests by which the workflow knows them again. Nothing here needs torch.

They are asked for at every call of Snakemake, so that nothing large is read twice: an npz file keeps check sums of its arrays,
and of a folder the digest of its contents is kept with names, sizes and times of its files.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from midas.files.writing import write_text
from midas.images.datasets import Dataset, image_files

KEPT = "contents.json"
"""Where the digest of a folder is kept, below the folder of the step data."""


def of_file(path: str | None) -> str:
    """Digest of a small file; empty if none is named.

    Raises:
        ValueError: it can't be read.
    """
    if path is None:
        return ""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from error


def of_dataset(dataset: Dataset, folder: Path) -> str:
    """Digest of a data set's files; empty where torchvision checks them, or they aren't read.

    Args:
        dataset: which.
        folder: of the step data, where the digest of an image folder is kept.

    Raises:
        ValueError: the files can't be read.
    """
    path = Path(str(dataset.path))
    if dataset.kind == "npz":
        return _of_npz(path)
    return _of_folder(path, dataset, folder) if dataset.kind == "folder" else ""


def _of_npz(path: Path) -> str:
    """By the check sums that the zip format keeps of each array: the arrays themselves aren't read."""
    try:
        with zipfile.ZipFile(path) as file:
            return _digest(f"{info.filename} {info.file_size} {info.CRC:08x}" for info in file.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: can't be read: {error}") from error


def _of_folder(path: Path, dataset: Dataset, folder: Path) -> str:
    files = image_files(dataset)
    try:
        # with the folders that name classes: two of them that change places have files of the same names, and maybe times
        facts = [(file, file.stat()) for file in [*dict.fromkeys(f for x in files for f in x.parents[:2]), *files]]
    except OSError as error:
        raise ValueError(f"{error.filename}: can't be read: {error.strerror}") from error
    listing = _digest(f"{f.relative_to(path).as_posix()} {s.st_size} {s.st_mtime_ns}" for f, s in facts)
    kept = folder / KEPT
    try:
        known = json.loads(kept.read_text())
        if known["listing"] == listing:
            return known["contents"]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    print(f"{path}: its {len(files)} images are read once, to know them again", file=sys.stderr, flush=True)
    contents = of_images(path, files)
    with suppress(OSError):  # results that may only be read
        write_text(kept, json.dumps({"listing": listing, "contents": contents}) + "\n")
    return contents


def of_images(path: Path, files: Iterable[Path], look: Callable[[Path, bytes], object] = lambda *_: None) -> str:
    """Digest of files below a folder: their names there and what they hold.

    Args:
        path: the folder.
        files: below it.
        look: called with each file and its bytes, so that none is read twice.

    Raises:
        ValueError: a file can't be read.
    """

    def line(file: Path) -> str:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file}: not a readable image: {error.strerror}") from error
        look(file, content)
        return f"{file.relative_to(path).as_posix()} {hashlib.sha256(content).hexdigest()}"

    return _digest(line(file) for file in files)


def _digest(lines: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for line in lines:
        whole.update(f"{line}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()
