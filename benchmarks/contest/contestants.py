"""What takes part? A pass of plain code or of this project's, a step of a search, or one of training a found cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contest.plain import PlainSupernet
from midas.config.method import Method
from midas.config.settings import Retrain, Search, Transfer
from midas.measuring.synthetic import SyntheticSearch, random_batch
from midas.methods.composition import compose
from midas.methods.decoding import random_genotype
from midas.networks.depthwise import use_own_gradients
from midas.networks.skeletons import build
from midas.running.processes import Group
from midas.spaces import get_space
from midas.training.bilevel import make_supernet
from midas.training.recorded import Recorded

CELLS = {"nas_bench_201": 5, "darts": 8}
"""Cells of the paper's supernets."""
CLASSES = 10
MIDAS, STATIC = Method(), Method(weights="static")


@dataclass(frozen=True)
class Contestant:
    """What takes part.

    Attributes:
        kind: plain (a pass of plain code's static supernet), pass, step (of a search); network or plain_network (a found cell is
            retrained), transfer or plain_transfer (it is trained on large images).
        space: name of the space.
        method: of a pass or step.
        precision: float32 or bfloat16.
        device: cpu or cuda.
        threads: of a CPU.
        batch: images.
        channels: initial ones.
        cells: as the configuration counts them.
        cuda_graph, merge_edges, triton, fast: see `Search`.
        epochs: of the search that a step belongs to.
        side: of the images in pixels.
    """

    kind: str
    space: str
    method: Method = MIDAS
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 2
    batch: int = 64
    channels: int = 16
    cells: int = 5
    cuda_graph: bool = False
    merge_edges: bool | None = None
    triton: bool = False
    fast: bool = True
    epochs: int = 1
    side: int = 32


def stepper(c: Contestant) -> Callable[[], object]:
    """Makes a contestant; each call computes once."""
    torch.manual_seed(0)
    device = torch.device(c.device)
    x, y = random_batch(c.batch, (c.side, c.side), CLASSES, device)
    ways: dict[str, Any] = {
        name: getattr(c, name) for name in ("cuda_graph", "merge_edges", "triton", "fast", "precision")
    }
    settings = Search(channels=c.channels, cells=c.cells, epochs=c.epochs, batch_size=c.batch, **ways)
    if c.kind == "step":
        search = SyntheticSearch(c.space, c.method, settings, CLASSES, device)
        return lambda: search.step((x, y), (x, y))
    if c.kind.endswith(("network", "transfer")):
        return _training(c, device)
    if c.kind == "plain":
        network: nn.Module = PlainSupernet(get_space(c.space), c.channels, c.cells, CLASSES).to(device)
    else:
        network = make_supernet(compose(c.method, get_space(c.space)), settings, CLASSES, device)
        x = x.contiguous(memory_format=torch.channels_last)

    def training_pass() -> None:
        with torch.autocast(c.device, torch.bfloat16, enabled=c.precision == "bfloat16"):
            logits = network(x)
        F.cross_entropy(logits.float(), y).backward()
        for parameter in network.parameters():
            parameter.grad = None

    return Recorded(training_pass) if c.cuda_graph and device.type == "cuda" and c.kind == "pass" else training_pass


def _training(c: Contestant, device: torch.device) -> Callable[[], object]:
    """A step of training a random cell, as the pipeline does it or plainly."""
    from midas.training.retraining import Retraining  # timm takes seconds
    from midas.training.transferring import Transferring

    plain, large = c.kind.startswith("plain"), c.kind.endswith("transfer")
    genotype, auxiliary = random_genotype(get_space(c.space), 0), c.cells >= 3
    network = build(genotype, c.channels, c.cells, CLASSES, auxiliary, imagenet=large)
    network.to(device).to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    use_own_gradients(network, fast=not plain)
    protocol: dict[str, Any] = {
        **{"channels": c.channels, "cells": c.cells, "epochs": 2, "batch_size": c.batch},
        **{"precision": c.precision, "channels_last": not plain},
    }
    trainer: Retraining | Transferring
    if large:
        settings = Transfer(dataset="imagenet", methods=["random"], warmup_epochs=1, **protocol)
        trainer = Transferring(network, settings, 0, CLASSES, 1, Group(device))
    else:
        trainer = Retraining(network, Retrain(**protocol), seed=0)
    batch = random_batch(c.batch, (c.side, c.side), CLASSES, device)
    return lambda: trainer.train([batch], 1)
