"""Small transfers: cells, settings, images by hand, and what tests read of a transfer's folder."""

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from midas.images.listing import folder_files
from midas.networks.skeletons import build
from midas.running.processes import Group
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse
from midas.training.photos import PhotoLoader
from midas.training.transferring import Transferring as Trainer

ALONE = Group(torch.device("cpu"))
OUTPUTS = ("history.csv", "model.safetensors", "metrics.json")
CELL = (
    "[('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('avg_pool_3x3', 0), "
    "('skip_connect', 1), ('skip_connect', 3), ('sep_conv_3x3', 2)]"
)
DARTS = f"Genotype(normal={CELL}, normal_concat=[2, 3, 4, 5], reduce={CELL}, reduce_concat=[2, 3, 4, 5])"


NOISY = DARTS.replace("skip_connect", "noise")
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
SMALL = {
    "dataset": "colours",
    "methods": ["midas"],
    "image_size": 32,
    "channels": 4,
    "cells": 3,
    "epochs": 3,
    "batch_size": 12,
    "lr": 0.05,
    "warmup_epochs": 1,
    "label_smoothing": 0.0,
    "auxiliary": 0.0,
    "precision": "float32",
    "workers": 0,
}
ALL_OPTIONS = {"drop_path": 0.3, "label_smoothing": 0.1, "ema": 0.8, "mixup": 0.2, "cutmix": 1.0}
COLOURS = {"10": (150, 60, 60), "9": (60, 150, 60), "a": (60, 60, 150)}
"""Classes whose order by number would be another than by name."""
TEST_IMAGES = 21


def files(folder, *names):
    return [(folder / name).read_bytes() for name in names]


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def keys(x):
    """A name for each of the images [B, 3, h, w], by its pixels."""
    return [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in x]


def loader(run, training=True, group=ALONE):
    return PhotoLoader(run.dataset, run.transfer, run.seed, group, training)


def make_trainer(run, updates=4):
    network = build(parse(DARTS), 4, 3, 3, run.transfer.auxiliary > 0, imagenet=True)
    return Trainer(network, run.transfer, 0, 3, updates, ALONE)


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def kept(folder, run):
    """The network that a run has written, ready to be tested."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        genotype = parse(json.loads(file.metadata()["network"])["genotype"])
    assert genotype == load_genotype(Path(run.genotype))
    network = build(genotype, 4, 3, 3, run.transfer.auxiliary > 0, imagenet=True)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def by_hand(run):
    """The test images as the network must see them, and their classes: middle 7/8, resized, normalised as timm says."""
    images, labels = [], []
    for label, paths in enumerate(folder_files(Path(run.dataset.path) / "val").values()):
        for path in paths:
            with Image.open(path) as image:
                scale = 36 / min(image.size)
                size = [36 if side == min(image.size) else int(36 * side / min(image.size)) for side in image.size]
                assert scale > 0
                large = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            left, top = (round((side - 32) / 2) for side in large.size)
            pixels = np.asarray(large.crop((left, top, left + 32, top + 32))) / 255
            images.append((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
            labels.append(label)
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float(), torch.tensor(labels)
