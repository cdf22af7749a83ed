"""First-order bilevel search: ``python -m midas.search RUN FOLDER``.

Batch by batch, as in DARTS: one step of the architecture on the validation half, one of the weights on the training half.
Writes arch.npz (the dump P and pi over the validation half), example.npz (one image's maps, for figure 1), history.csv
(a row an epoch) and, last, metrics.json. Killed at any moment it continues from its last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.data import Images, Loader, Statistics, in_order, load, search_halves, seed_step
from midas.datasets import class_names
from midas.decode import decode_weights
from midas.devices import pick_device
from midas.durable import FirstBad, Keeper, leave_if_asked
from midas.memory import keep_freed_memory
from midas.passes import Pass, Replayed, TrainingPass
from midas.plan import SearchRun
from midas.progress import Progress
from midas.provenance import digest, write_metrics, write_table
from midas.settings import Method, Search
from midas.spaces import get_space
from midas.step import main
from midas.supernet import Supernet, kernels
from midas.supernet.network import NodeView


class Averages:
    """Sums over the batches of an epoch, kept on the device until its end."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.batches = 0
        self.bad = FirstBad()

    def add(self, **values: Tensor | None) -> None:
        """Add one batch's values."""
        self.batches += 1
        for name, value in values.items():
            if value is not None:
                if name.endswith("loss"):
                    self.bad.look(value, self.batches - 1)
                self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value

    def mean(self, name: str) -> np.ndarray | None:
        """Mean over batches, in double precision; None for what was never added."""
        return (self.sums[name].double() / self.batches).cpu().numpy() if name in self.sums else None

    def number(self, name: str) -> float:
        """Mean of a scalar."""
        return float(self.sums[name].double() / self.batches)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": self.sums, "batches": self.batches}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.sums, self.batches = {name: value.to(device) for name, value in state["sums"].items()}, state["batches"]


class FirstOrder:
    """Both optimisers of a search and the two kinds of step."""

    def __init__(self, supernet: Supernet, settings: Search, device: torch.device):
        self.supernet, self.settings, self.device = supernet, settings, device
        self.weights, self.architecture = supernet.weight_parameters(), supernet.architecture_parameters()
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        # frozen projections leave nothing to train
        self.architecture_optimizer = (
            torch.optim.Adam(
                self.architecture, settings.arch_lr, settings.arch_betas, weight_decay=settings.arch_weight_decay
            )
            if self.architecture
            else None
        )
        self._architecture_pass: Pass = partial(self._pass, self.architecture)
        self._weight_pass: Pass = partial(self._pass, self.weights)
        if settings.cuda_graph and device.type == "cuda":
            self._architecture_pass, self._weight_pass = Replayed(self._architecture_pass), Replayed(self._weight_pass)

    def lr(self, epoch: int) -> float:
        """Learning rate of the weights in an epoch (from 0): a cosine from lr to lr_min."""
        s = self.settings
        return s.lr_min + (s.lr - s.lr_min) * (1 + math.cos(math.pi * epoch / s.epochs)) / 2

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy (percent) of a batch."""
        if self.settings.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            logits = self.supernet(x)
        return F.cross_entropy(logits.float(), y), (logits.detach().argmax(1) == y).float().mean() * 100

    def architecture_step(self, x: Tensor, y: Tensor, averages: Averages) -> None:
        """One step of the architecture parameters, its statistics added to `averages`."""
        found = self._architecture_pass(x, y)
        p, pi = found.p, found.pi
        averages.add(
            valid_loss=found.loss, valid_accuracy=found.accuracy, entropy=_entropy(p), p=p.mean(0), pi=_mean(pi)
        )
        if self.architecture_optimizer is not None:
            _set_gradients(self.architecture, found.gradients)
            self.architecture_optimizer.step()

    def weight_step(self, x: Tensor, y: Tensor, averages: Averages) -> None:
        """One step of the weights."""
        found = self._weight_pass(x, y)
        averages.add(train_loss=found.loss, train_accuracy=found.accuracy)
        _set_gradients(self.weights, found.gradients)
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.weight_optimizer.step()

    def _pass(self, parameters: list[nn.Parameter], x: Tensor, y: Tensor) -> TrainingPass:
        """Forward, and backward to these parameters alone: half of it is saved, and the maps that the others would need."""
        chosen = {id(parameter) for parameter in parameters}
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(id(parameter) in chosen)
        with torch.set_grad_enabled(bool(parameters)):
            loss, accuracy = self.loss(x, y)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if parameters else ()
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(True)
        return TrainingPass(loss.detach(), accuracy, gradients, *self.supernet.mixture())

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        optimizer = self.architecture_optimizer
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture_optimizer": optimizer.state_dict() if optimizer else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        if self.architecture_optimizer is not None:
            self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])


def _set_gradients(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _mean(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.mean(0)


def _entropy(p: Tensor) -> Tensor:
    """Mean entropy in nats of the distribution over the operations of an edge, p [images, cells, edges, operations]."""
    share = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    return torch.special.entr(share).sum(-1).mean()


def make_supernet(space: str, method: Method, settings: Search, classes: int, device: torch.device) -> Supernet:
    """The supernet that a search begins with, on its device and in its memory layout."""
    if settings.fast and device.type == "cpu":
        keep_freed_memory()
    merged = device.type == "cuda" if settings.merge_edges is None else settings.merge_edges
    supernet = Supernet(
        get_space(space), method, settings.channels, settings.cells, classes, merged=merged, fast=settings.fast
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return supernet.to(device).to(memory_format=layout)


def search(run: SearchRun, folder: Path) -> None:
    """Search, or continue a search, and write its outputs."""
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    images, _ = load(run.dataset, device)
    statistics = Statistics.of(images)
    train, valid = (images.take(half) for half in search_halves(run.dataset, len(images)))
    seed_step(run.seed, "initialise", 0, 0)
    settings = run.search
    supernet = make_supernet(run.space, run.method, settings, run.dataset.classes, device)
    method = FirstOrder(supernet, settings, device)
    loaders = [
        Loader(half, statistics, settings.batch_size, run.seed, name, run.dataset)
        for half, name in ((train, "train"), (valid, "valid"))
    ]
    identity = {"config": run.model_dump(mode="json"), "source_digest": digest("search")}
    with Keeper(folder, identity) as keeper:
        history = _epochs(run, method, loaders, keeper)
        _write(run, folder, supernet, history, valid, statistics, device, keeper)


class Sums:
    """What an epoch has come to so far: the steps that are done, and sums over them."""

    def __init__(self) -> None:
        self.step, self.train, self.valid = 0, Averages(), Averages()

    def check(self, epoch: int) -> None:
        """Stop where a loss isn't finite; epochs count from 0."""
        min(self.valid.bad, self.train.bad, key=FirstBad.number).check("search", epoch)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "train": self.train.state(), "valid": self.valid.state()}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        self.train.restore(state["train"], device)
        self.valid.restore(state["valid"], device)


def _epochs(run: SearchRun, method: FirstOrder, loaders: list[Loader], keeper: Keeper) -> list[dict[str, Any]]:
    """Run the epochs that are left; returns a row for each epoch."""
    history: list[dict[str, Any]] = []
    sums = Sums()
    state = keeper.load()
    if state is not None:
        method.restore(state)
        history = state["history"]
        if within := state.get("within"):
            sums.restore(within, method.device)
    progress = Progress(run.search.epochs, "search")
    for epoch in range(len(history), run.search.epochs):
        for _ in _steps(run, method, loaders, epoch, sums, progress):
            if keeper.due():
                sums.check(epoch)
                keeper.save({**method.state(), "history": history, "within": sums.state()})
                leave_if_asked("search")
        sums.check(epoch)
        history.append(_row(run, method, epoch, sums))
        keeper.save({**method.state(), "history": history})
        progress.epoch(
            epoch, **{name: history[-1][name] for name in ("train_loss", "train_accuracy", "valid_accuracy", "entropy")}
        )
        leave_if_asked("search")
        sums = Sums()
    return history


def _steps(
    run: SearchRun, method: FirstOrder, loaders: list[Loader], epoch: int, sums: Sums, progress: Progress
) -> Iterator[None]:
    """The steps of an epoch that are left; stops after each."""
    train, valid = loaders
    for group in method.weight_optimizer.param_groups:
        group["lr"] = method.lr(epoch)
    first = sums.step
    pairs = zip(
        train.epoch(epoch, first), valid.epoch(epoch, first), strict=False
    )  # the halves may differ by one image
    batches = progress.steps(pairs, min(len(train), len(valid)), epoch, first)
    for step, (train_batch, valid_batch) in enumerate(batches, first):
        seed_step(run.seed, "noise", epoch, step)  # of the operation "noise" (S4)
        method.architecture_step(*valid_batch, sums.valid)
        method.weight_step(*train_batch, sums.train)
        sums.step = step + 1
        yield


def _row(run: SearchRun, method: FirstOrder, epoch: int, sums: Sums) -> dict[str, Any]:
    """The epoch's row of the history."""
    on_train, on_valid = sums.train, sums.valid
    space, p = method.supernet.space, on_valid.mean("p")
    assert p is not None
    genotype = decode_weights(p, on_valid.mean("pi"), method.supernet.kinds, space, run.method.decode_none)
    return {
        "epoch": epoch + 1,
        "lr": method.lr(epoch),
        "train_loss": on_train.number("train_loss"),
        "train_accuracy": on_train.number("train_accuracy"),
        "valid_loss": on_valid.number("valid_loss"),
        "valid_accuracy": on_valid.number("valid_accuracy"),
        "entropy": on_valid.number("entropy"),
        **{f"p_{name}": float(p[:, :, o].mean()) for o, name in enumerate(space.operations)},
        "genotype": str(genotype),
    }


def _write(
    run: SearchRun,
    folder: Path,
    supernet: Supernet,
    history: list[dict[str, Any]],
    valid: Images,
    statistics: Statistics,
    device: torch.device,
    keeper: Keeper,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = class_names(run.dataset)
    seed_step(run.seed, "noise", run.search.epochs, 0)
    accuracy = write_dump(folder / "arch.npz", supernet, valid, statistics, run.search.batch_size, names)
    write_example(folder / "example.npz", supernet, valid, statistics, run.search.batch_size)
    write_table(folder / "history.csv", history)
    numbers = {
        "valid_accuracy": accuracy,
        "train_accuracy": history[-1]["train_accuracy"],
        "weights_params": sum(p.numel() for p in supernet.weight_parameters()),
        "architecture_params": sum(p.numel() for p in supernet.architecture_parameters()),
        "epochs": len(history),
        "images": len(valid),
    }
    compiled = run.search.fast and device.type == "cpu" and kernels.library() is not None
    means = {"compiled_kernels": compiled, **keeper.attempts}  # without kernels sums are torch's, with another rounding
    write_metrics(folder / "metrics.json", "search", run, numbers, keeper.seconds, device, means)


@torch.no_grad()
def write_dump(
    path: Path, supernet: Supernet, valid: Images, statistics: Statistics, batch_size: int, classes: list[str]
) -> float:
    """Write p and pi of every image of the validation half, unaugmented and with batch statistics as in search (arch.npz).

    Arrays: p float32 [images, cells, edges, operations], pi float32 [images, cells, pairs] where there are pairs, labels
    [images], classes [classes] (their names), kinds [cells], operations [operations], edges [edges, 2] and offered
    [cells, edges, operations]. A static method has one row and the label -1.

    Returns:
        Accuracy of the supernet on these images in percent.
    """
    rows, correct = [], 0
    for x, y in in_order(valid, statistics, batch_size):
        correct += int((supernet(x).argmax(1) == y).sum())
        rows.append(supernet.mixture())
    labels = valid.labels.cpu()
    if not supernet.cells[0].mixing.attends:  # the same weights for all images
        rows, labels = rows[:1], torch.tensor([-1])
    space = supernet.space
    specs = [space.cells[kind] for kind in supernet.kinds]
    arrays = {
        "p": torch.cat([p for p, _ in rows]).float().cpu().numpy(),
        "labels": labels.numpy(),
        "classes": np.array(classes),
        "kinds": np.array(supernet.kinds),
        "operations": np.array(space.operations),
        "edges": np.array(specs[0].edges),
        "offered": np.array([[[o in ops for o in space.operations] for ops in spec.candidates] for spec in specs]),
    }
    pairs = [pi for _, pi in rows if pi is not None]
    if pairs:
        arrays["pi"] = torch.cat(pairs).float().cpu().numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return 100 * correct / len(valid)


@torch.no_grad()
def write_example(path: Path, supernet: Supernet, valid: Images, statistics: Statistics, batch_size: int) -> None:
    """Write the maps and weights of the last node of the first cell for the first validation image (example.npz)."""
    views: list[NodeView] = []
    supernet.cells[0].observer = views.append
    x, _ = next(in_order(valid, statistics, batch_size))
    supernet(x)
    supernet.cells[0].observer = None
    view, spec = views[-1], supernet.cells[0].spec
    slots = supernet.cells[0].mixing.slots[view.node]
    patches = view.weights.p if view.weights.patches is None else view.weights.patches[0]
    patches = patches.flatten(1)[:, slots.mapped]
    np.savez(
        path,
        image=valid.pixels[0].cpu().numpy(),
        label=valid.labels[0].cpu().numpy(),
        cell=0,
        node=view.node,
        operations=np.array([operation for _, operation in view.keys]),
        sources=np.array([spec.edges[edge][0] for edge, _ in view.keys]),
        maps=torch.stack([c.map[0].float().mean(0) for c in view.candidates]).cpu().numpy(),
        grid=np.array(view.weights.grid),
        patch_p=patches.unflatten(0, view.weights.grid).cpu().numpy(),
        p=view.weights.p[0].flatten()[slots.mapped].cpu().numpy(),
        output=view.output[0].float().mean(0).cpu().numpy(),
    )


if __name__ == "__main__":
    main(SearchRun, search, long=True)
