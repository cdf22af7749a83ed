"""Image folders, `train/` and `val/` with a folder for each class: writing the embedded one, counting and checking one."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from midas.images.datasets import IMAGE_FOLDERS, Dataset
from midas.images.listing import IMAGE_SUFFIXES, few, folder_files, folder_parts, list_part

PHOTO_SIDE = 64
Part = tuple[np.ndarray, np.ndarray]

LEFT_OUT = {
    "hidden": "hidden",
    "beside_classes": "beside the folders of classes",
    "folder_in_class": "folders within a class",
    "other_suffix": f"of other suffixes than {' '.join(sorted(IMAGE_SUFFIXES))}",
}
"""Why something in a folder of images is not read, in words."""


def write_photos(path: Path, train: Part, val: Part) -> None:
    """Write gray images as JPEG files `{train,val}/{class}/{number}.jpg`, RGB of 64x64 pixels.

    What an earlier call was killed at is completed: files with the right content stay, others are replaced.

    Args:
        path: the folder.
        train: images [n, h, w] uint8 and their labels.
        val: likewise.

    Raises:
        ValueError: the folder holds other images too.
    """
    expected = {
        path / name / str(label) / f"{number:04d}.jpg": pixels
        for name, part in (("train", train), ("val", val))
        for number, (pixels, label) in enumerate(zip(*part, strict=True))
    }
    for file, pixels in expected.items():
        content = _jpeg(pixels)
        if not (file.exists() and file.read_bytes() == content):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(".writing")
            temporary.write_bytes(content)
            temporary.replace(file)
    found = {
        file for part in folder_parts(path, "digit_photos") for files in folder_files(part).values() for file in files
    }
    if strange := sorted(found - expected.keys()):
        raise ValueError(f"{strange[0]}: is not one of the embedded images; remove {path}, it is written anew")


def _jpeg(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(pixels).resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC).convert("RGB")
    content = io.BytesIO()
    image.save(content, "jpeg", quality=95, subsampling=0)
    return content.getvalue()


def describe(dataset: Dataset) -> dict[str, Any]:
    """Numbers of images and classes, and a digest of the files' names and sizes; no image is decoded.

    Raises:
        ValueError: a folder is missing or a class has no images, or classes are not what the data set's description says.
    """
    path = _existing(dataset)
    parts = {part.name: folder_files(part) for part in folder_parts(path, dataset.kind)}
    classes = _same_classes(path, parts)
    if len(classes) != dataset.classes:
        raise ValueError(f"{path}: has {len(classes)} classes; {dataset.name} has {dataset.classes}")
    files = [file for part in parts.values() for images in part.values() for file in images]
    lines = sorted(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n" for file in files)
    train, test = (sum(map(len, part.values())) for part in parts.values())
    return {
        "train_images": train,
        "test_images": test,
        "classes": len(classes),
        "sha256": hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest(),
    }


def _existing(dataset: Dataset) -> Path:
    assert dataset.path is not None
    path = Path(dataset.path)
    if dataset.kind == "imagenet" and not all((path / name).is_dir() for name in ("train", "val")):
        raise ValueError(
            f"{path}: ImageNet is not downloaded; put its folders train/ and val/ there, with a folder of images for each "
            "class, or name the folder that holds imagenet/ in data_root"
        )
    return path


def _same_classes(path: Path, parts: dict[str, dict[str, list[Path]]]) -> list[str]:
    for name, part in parts.items():
        if empty := [label for label, files in part.items() if not files]:
            raise ValueError(f"{path / name}: no images of {few(empty)}")
    first, second = (list(part) for part in parts.values())
    if first != second:
        raise ValueError(f"{path}: {' and '.join(parts)} have other classes: {few(sorted(set(first) ^ set(second)))}")
    return first


def left_out(dataset: Dataset) -> dict[str, dict[str, int]]:
    """What `metrics.json` says of what lies in a data set's folders and isn't read: numbers, by the reason; said on stderr too.

    Nothing for a data set that is none of folders.

    Raises:
        ValueError: a folder is missing.
    """
    if dataset.kind not in IMAGE_FOLDERS or dataset.path is None:
        return {}
    found: dict[str, list[Path]] = {why: [] for why in LEFT_OUT}
    for part in folder_parts(Path(dataset.path), dataset.kind):
        for why, paths in list_part(part).left_out.items():
            found[why] += paths
    for why, paths in found.items():
        if paths:
            print(f"data: not read, {LEFT_OUT[why]}: {len(paths)}, the first is {paths[0]}", file=sys.stderr)
    return {"left_out": {why: len(paths) for why, paths in found.items()}}
