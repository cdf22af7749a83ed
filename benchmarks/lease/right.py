"""Part 1, is it right: device against CPU, in float64 and within bounds in others; recorded steps against the same one by one.

``python -m benchmarks.lease.right UNTIL WAY`` checks one of `WAYS` in the folder of a slice, case by case, until a time: the
spaces NAS-Bench-201, DARTS and S4, static weights and attention, every set of the softmax, keys as they are and normalised. The
reference is torch's own code on the CPU.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lease.machine import machine
from benchmarks.lease.slices import SEARCHED, WAYS, Rows, Slice, left, own_failure
from midas.config.method import Method
from midas.config.settings import Search, Transfer
from midas.data import prepare
from midas.images.datasets import KNOWN
from midas.images.loader import Loader, Statistics
from midas.images.reading import Images
from midas.methods.composition import compose, supernet_of
from midas.methods.decoding import random_genotype
from midas.networks.depthwise import use_own_gradients
from midas.networks.operations import noise
from midas.plan.runs import DataRun, TransferRun
from midas.spaces import SPACES, get_space
from midas.supernet import Supernet
from midas.supernet.operations import Noise
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.recorded import RecordedSteps
from midas.training.sums import SearchSums
from midas.transfer import transfer

EXACT = 1e-8
"""Largest difference to the CPU in float64, relative to the largest value of a tensor: convolutions sum in another order."""
BOUNDS = {
    "float32": {"loss": 1e-4, "p": 1e-4, "cosine": 1e-3},
    "bfloat16": {"loss": 0.02, "p": 0.05, "cosine": 0.15},
}
"""To float64: of the loss, relatively; of the weights p; 1 - cosine of all gradients (a ReLU at 0 goes either way, so single ones
may differ by hundredths). On a CPU, at the search's size, 1e-7, 3e-7 and 1e-5 were seen; in bfloat16 0.002, 0.019 and 0.014. A
GPU showed that float32 at hundredths means a wrong gradient (benchmarks/README.md)."""
GRAPH = 0.05
"""Of what recorded steps change, relatively, of the weights or the architecture: rounding grows from step to step."""
STEPS = 6
"""Steps that are compared, more than are computed before the recording."""


class Size(NamedTuple):
    """Of what is checked."""

    channels: int
    images: int
    side: int


def size_of(space: str, tiny: bool) -> Size:
    """In the searched space the search's own, whose kernels are then compiled already."""
    return Size(4, 4, 16) if tiny else Size(16, 64 if space == SEARCHED else 16, 32)


TRANSFER = Transfer(
    **{"dataset": "digit_photos", "methods": ["midas"], "image_size": 64, "channels": 16, "cells": 5, "epochs": 2},
    **{
        "batch_size": 32,
        "lr": 0.1,
        "warmup_epochs": 0,
        "auxiliary": 0,
        "color_jitter": 0,
        "crop_scale": 0.7,
        "workers": 2,
    },
)
TRANSFER_SECONDS = 20.0
"""That it may take."""
CHANCE = 10.0
"""Accuracy of a guess among ten digits in percent."""


class Case(NamedTuple):
    """What is checked."""

    space: str
    weights: str
    distribution: str
    normalise: str = "none"
    projected: str = "means"

    @property
    def method(self) -> Method:
        """The method of its searches: with length 1 the product times 4, with projected maps a ReLU of them."""
        keys: dict[str, Any] = self._asdict() | {"patch_size": 8}
        keys |= {"scale": 4.0} if self.normalise == "length" else {}
        keys |= {"activation": "relu"} if self.projected == "maps" else {}
        return Method.model_validate({key: value for key, value in keys.items() if key != "space"})


CASES = [
    Case(space, weights, distribution)
    for space in (SEARCHED, "darts", "s4")
    for distribution in ("edge", "pairs", "node")
    for weights in ("attention", "static")
    if (space, distribution) != (SEARCHED, "pairs")  # whose first node has one edge
]
CASES[2:2] = [Case(SEARCHED, "attention", "edge", "length", projected) for projected in ("means", "maps")]
CASES += [Case("darts", "attention", "pairs", "length")]


class Found(NamedTuple):
    """What a training pass leaves."""

    loss: Tensor
    p: Tensor
    gradients: list[Tensor]


def still(self: Noise, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
    """The operation "noise" (S4) without chance, so that two devices agree."""
    drawn = noise(raw, self.stride, self.edges)
    values = torch.linspace(0, 40, drawn.numel(), device=raw.device, dtype=raw.dtype).sin()
    return torch.empty_like(drawn).copy_(values.view(drawn.shape))


def training_pass(network: Supernet, x: Tensor, y: Tensor, precision: str = "float64") -> Found:
    """Loss, weights and all gradients, in float64 on the CPU."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits = network(x)
    loss = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), y)
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
    host = [g.double().cpu() for g in gradients]
    return Found(loss.detach().double().cpu(), network.mixture()[0].double().cpu(), host)


def networks(case: Case, way: dict[str, bool], device: torch.device, size: Size) -> tuple[Supernet, Supernet]:
    """The reference on the CPU in float64, and the same network by a way on the device in float32."""
    settings = Search(channels=size.channels, cells=get_space(case.space).min_cells, epochs=1, **way)
    torch.manual_seed(0)
    mine = make_supernet(compose(case.method, get_space(case.space)), settings, 10, device)
    numbers = size.channels, settings.cells, 10
    reference = supernet_of(SPACES[case.space], case.method, *numbers, merged=mine.merged, fast=False).double()
    use_own_gradients(reference, fast=False)
    reference.load_state_dict(mine.state_dict())
    return reference, mine


def batch(size: Size) -> tuple[Tensor, Tensor]:
    """Images in float64 and labels."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(size.images, 3, size.side, size.side, generator=draw, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last), torch.randint(10, (size.images,), generator=draw)


def differences(case: Case, way: dict[str, bool], device: torch.device, size: Size) -> Iterator[dict[str, object]]:
    """Rows of one case: exact in float64, within bounds in float32 and bfloat16."""
    reference, mine = networks(case, way, device, size)
    x, y = batch(size)
    known = training_pass(reference, x, y)
    found = training_pass(mine.double(), x.to(device), y.to(device))
    worst = max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item()
        for a, b in zip([found.loss, found.p, *found.gradients], [known.loss, known.p, *known.gradients], strict=True)
    )
    yield {"check": "float64", "difference": worst, "bound": EXACT, "passed": worst < EXACT}
    mine.float()
    for name, bounds in BOUNDS.items():
        found = training_pass(mine, x.float().to(device), y.to(device), name)
        gradients, expected = (torch.cat([g.flatten() for g in one.gradients]) for one in (found, known))
        off = {
            "loss": ((found.loss - known.loss).abs() / known.loss).item(),
            "p": (found.p - known.p).abs().max().item(),
            "cosine": 1 - F.cosine_similarity(gradients, expected, 0).item(),
        }
        passed = all(off[key] < bound for key, bound in bounds.items())
        yield {"check": name, "difference": off, "bound": bounds, "passed": passed}


def recorded(case: Case, way: dict[str, bool], device: torch.device, size: Size) -> dict[str, object]:
    """Whether recorded steps leave the parameters that the same steps leave when they are computed one by one."""
    draw = torch.Generator().manual_seed(0)
    count = size.images * STEPS
    pixels = torch.randint(256, (count, 3, size.side, size.side), generator=draw, dtype=torch.uint8)
    images = Images(pixels.to(device), torch.randint(10, (count,), generator=draw).to(device))
    settings = Search(channels=size.channels, cells=get_space(case.space).min_cells, epochs=1, **way)
    changes = []
    for record in (False, True):
        torch.manual_seed(0)
        search = Bilevel(
            make_supernet(compose(case.method, get_space(case.space)), settings, 10, device), settings, device
        )
        parts = search.weights, search.architecture
        before = [_flat(part) for part in parts]
        names = ("train", "valid")
        loaders = [Loader(images, Statistics.of(images), size.images, 0, name, KNOWN["cifar10"]) for name in names]
        steps = RecordedSteps(search, loaders, SearchSums())
        steps.begin(0, 0)
        for _ in range(STEPS):
            steps(True) if record else steps.compute(True)
        changes.append([_flat(part) - old for part, old in zip(parts, before, strict=True)])
    worst = max(((a - b).norm() / a.norm()).item() for a, b in zip(*changes, strict=True))
    return {"check": "graph", "difference": worst, "bound": GRAPH, "passed": worst < GRAPH}


def _flat(parameters: list[torch.nn.Parameter]) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def transferred(device: torch.device) -> dict[str, object]:
    """Whether a random cell learns the embedded JPEG images, read by processes beside this one."""
    with TemporaryDirectory() as name:
        path = Path(name)
        folder = str(path / "images")
        dataset = KNOWN["digit_photos"].model_copy(update={"path": folder, "image": (TRANSFER.image_size,) * 2})
        prepare(DataRun(dataset=dataset, in_memory=False), path / "data")
        random_genotype(SPACES["darts"], 0).save(path / "genotype.json")
        told = {
            "genotype": str(path / "genotype.json"),
            "dataset": dataset,
            "seed": 0,
            "device": device.type,
            "threads": 1,
        }
        transfer(TransferRun(**told, transfer=TRANSFER), path / "transfer")
        metrics = json.loads((path / "transfer/metrics.json").read_text())
    found = {key: metrics[key] for key in ("train_loss", "test_loss", "test_top1")}
    return {"check": "transfer", "difference": found, "bound": CHANCE, "passed": found["test_top1"] > CHANCE}


def main(until: float, name: str) -> None:
    """Check a way, and say so when all is checked."""
    asked, rows = Slice.read(), Rows(f"right_{name}")
    device, way = torch.device(asked.device), WAYS[name]
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False  # only what is checked may differ
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // len(WAYS)))
    if not rows.begin(machine(device)):
        return
    if asked.fail == "right":
        raise RuntimeError("asked to fail")
    if device.type == "cpu" and way.get("cuda_graph"):
        rows.add(way=name, check="device", error="needs a GPU")
        rows.end()
        return
    cases = [case for case in CASES if not asked.tiny or case.distribution == "edge"]
    with patch.object(Noise, "forward", still):
        for case in cases:
            if left(until) <= 0:
                return
            size = size_of(case.space, asked.tiny)
            with own_failure(rows, way=name, **case._asdict(), passed=False):
                if name != "graph":  # computes as merged does
                    for row in differences(case, way, device, size):
                        rows.add(way=name, **case._asdict(), **row)
                if way.get("cuda_graph"):
                    rows.add(way=name, **case._asdict(), **recorded(case, way, device, size))
        if name == "eager" and not asked.tiny and left(until) > TRANSFER_SECONDS:
            with own_failure(rows, way=name, space="transfer", passed=False):
                rows.add(way=name, space="transfer", **transferred(device))
    rows.end()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
