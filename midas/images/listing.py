"""What lies in a folder of images: its parts, their classes, the files of each. Nothing here needs torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}

TESTED_ON = {"folder": ("test", "val"), "imagenet": ("val",), "digit_photos": ("val",)}
"""Folders that test images may lie in, the first one there is taken. The classes of ImageNet's own test images aren't public."""


def folder_parts(path: Path, kind: str = "folder") -> tuple[Path, Path]:
    """Folders of the training and the test images.

    Args:
        path: the folder of both.
        kind: of the data set, a key of `TESTED_ON`.

    Raises:
        ValueError: one of them is missing.
    """
    train, test = path / "train", next((path / n for n in TESTED_ON[kind] if (path / n).is_dir()), None)
    if not train.is_dir() or test is None:
        first, *others = TESTED_ON[kind]
        raise ValueError(f"{path}: an image folder needs train/ and {first}/" + "".join(f" (or {n}/)" for n in others))
    return train, test


class Listing(NamedTuple):
    """What lies in a folder of training or test images.

    Attributes:
        files: class name -> image files, both in alphabetical order. A class may have none.
        left_out: why something is not read -> what that is. Hidden files are left out, since other systems leave some of them
            beside images, under their names and with other contents.
    """

    files: dict[str, list[Path]]
    left_out: dict[str, list[Path]]


def list_part(part: Path) -> Listing:
    """What is read of a folder of training or test images. All that reads such a folder asks here. Links are followed.

    Raises:
        ValueError: a folder can't be read, or a class's name is no text.
    """
    found = Listing({}, {})

    def leave_out(why: str, entry: os.DirEntry[str]) -> None:
        found.left_out.setdefault(why, []).append(Path(entry.path))

    for folder in _entries(part):
        if folder.name.startswith("."):
            leave_out("hidden", folder)
        elif not _is_folder(folder):
            leave_out("beside_classes", folder)
        else:
            files = found.files[_class_name(folder)] = []
            for file in _entries(Path(folder.path)):
                if file.name.startswith("."):
                    leave_out("hidden", file)
                elif _is_folder(file):
                    leave_out("folder_in_class", file)
                elif Path(file.name).suffix.lower() not in IMAGE_SUFFIXES:
                    leave_out("other_suffix", file)
                else:  # a link to nothing too: who opens it names it
                    files.append(Path(file.path))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; each knows whether it is a folder, without a look at the disk for a million files."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: can't be read: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _class_name(folder: os.DirEntry[str]) -> str:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:  # tables couldn't be written
        raise ValueError(f"{folder.path!r}: the name of a class must be UTF-8; rename the folder") from error
    return folder.name


def folder_files(part: Path) -> dict[str, list[Path]]:
    """Class name -> image files, both in alphabetical order.

    Raises:
        ValueError: a folder can't be read, or a class's name is no text.
    """
    return list_part(part).files


def check_class_folders(path: Path) -> None:
    """ImageNet's folders of classes must be the same; its files are not looked at, which takes long."""
    train, val = ({e.name for e in _entries(path / n) if _is_folder(e) and e.name[0] != "."} for n in ("train", "val"))
    if train and not val:
        raise ValueError(
            f"{path / 'val'}: has no folder for each class, as train/ has; sort the images into such folders"
        )
    if different := sorted(train ^ val):
        raise ValueError(f"{path}: train and val have other classes: {few(different)}")


def few(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
