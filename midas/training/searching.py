"""A search with all that it changes: from what it is told to the weights that it ends with, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics, in_order
from midas.images.reading import Images
from midas.images.seeds import seed_step
from midas.methods.composition import compose
from midas.methods.decoding import decode_weights
from midas.methods.epochs import Epoch, Evaluated
from midas.plan.runs import SearchRun
from midas.running.durable import Keeper
from midas.running.limits import leave_if_asked
from midas.running.progress import Progress
from midas.spaces import get_space
from midas.spaces.genotype import Genotype
from midas.supernet.weights import Change
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.recorded import RecordedSteps
from midas.training.sums import SearchSums


class Searching:
    """A search that is under way.

    Args:
        run: what is searched.
        images: all training images, on the device.
        device: that it is searched on.

    Attributes:
        halves: indices of the images of the training and the validation half.
        valid: images of the validation half.
        statistics: that images are normalised with.
        composition: the method.
        bilevel: takes the steps; it has the supernet.
        history: a row for each finished epoch.
        norms: of all architecture parameters together, as drawn and after each epoch.
    """

    def __init__(self, run: SearchRun, images: Images, device: torch.device):
        self.run, self.settings, self.device = run, run.search, device
        self.statistics = Statistics.of(images)
        self.halves = search_halves(run.dataset, len(images), run.search.first_images)
        train, self.valid = (images.take(half) for half in self.halves)
        seed_step(run.seed, "initialise", 0, 0)
        self.composition = compose(run.method, get_space(run.space), run.search.epochs)
        supernet = make_supernet(self.composition, run.search, run.dataset.classes, device)
        self.bilevel = Bilevel(supernet, run.search, device, self.composition.learning)
        self.loaders = [
            Loader(half, self.statistics, run.search.batch_size, run.seed, name, run.dataset, order=order)
            for half, name, order in ((train, "train", "shuffled"), (self.valid, "valid", run.search.valid_batches))
        ]
        self.hooks = [make() for make in self.composition.hooks]
        self.sums, self.history = SearchSums(), list[dict[str, Any]]()
        self.norms = [self.bilevel.norm()]
        self.taken: dict[str, Tensor] | None = None
        """The supernet of the epoch whose weights will be decoded, where it isn't the last."""

    def epochs(self, keeper: Keeper) -> Iterator[tuple[int, int]]:
        """Run the epochs that are left, kept by `keeper`; stops after each step.

        Yields:
            Epochs that are done, and steps of the next.
        """
        if (state := keeper.load()) is not None:
            self._restore(state)
        graph = self.settings.cuda_graph and self.device.type == "cuda"
        recorded = RecordedSteps(self.bilevel, self.loaders, self.sums) if graph else None
        epochs = self.settings.epochs + self.composition.more_epochs
        progress = Progress(epochs, "search")
        while len(self.history) < epochs and not self.composition.choice.ends(self.history):
            epoch = len(self.history)
            for _ in self._steps(epoch, progress, recorded):
                if keeper.due():
                    self.sums.check(epoch)
                    keeper.save({**self._state(), "within": self.sums.state()})
                    leave_if_asked("search")
                yield epoch, self.sums.step
            self.sums.check(epoch)
            self._end(epoch)
            keeper.save(self._state())
            row = self.history[-1]
            progress.epoch(epoch, **{n: row[n] for n in ("train_loss", "train_accuracy", "valid_accuracy", "entropy")})
            leave_if_asked("search")
            self.sums.clear()
        if self.taken is not None:
            self.bilevel.supernet.load_state_dict(self.taken)

    def _steps(self, epoch: int, progress: Progress, recorded: RecordedSteps | None) -> Iterator[None]:
        """The steps of an epoch that are left; stops after each."""
        self.bilevel.begin(epoch)
        learns, first = self.composition.learns(epoch), self.sums.step
        steps = min(map(len, self.loaders))  # the halves may differ by one image
        if recorded is None:
            batches = zip(*(loader.epoch(epoch, first) for loader in self.loaders), strict=False)
        else:
            recorded.begin(epoch, first)
        for step in progress.steps(range(first, steps), steps, epoch, first):
            seed_step(self.run.seed, "noise", epoch, step)  # of the operation "noise" (S4)
            if recorded is None:
                on_train, on_valid = next(batches)
                self.bilevel.step(on_train, on_valid, self.sums, learns)
            else:
                recorded(learns)
            self.sums.step = step + 1
            yield

    def _end(self, epoch: int) -> None:
        """An epoch ends: its row, what the method does then, and whether its weights are those that are taken so far."""
        self.history.append(self._row(epoch))
        self.norms.append(self.bilevel.norm())
        if self.hooks:
            seed_step(self.run.seed, "hooks", epoch, 0)  # the same after a kill
        for hook in self.hooks:
            hook(Epoch(self.bilevel.passes, self.history, self.bilevel.restrictions, self.evaluate))
        if len(self.history) == self.settings.epochs and self.composition.more_epochs:
            self.bilevel.forget()  # what follows begins anew
        if self.history[-1].keys() != self.history[0].keys():
            raise ValueError(f"search: epoch {epoch + 1} has other columns in its history than the first one")
        choice = self.composition.choice
        if choice.column is not None and choice.best(self.history) == epoch:
            self.taken = {name: x.detach().clone() for name, x in self.bilevel.supernet.state_dict().items()}

    def _row(self, epoch: int) -> dict[str, Any]:
        """The epoch's row of the history."""
        on_train, on_valid = self.sums.train, self.sums.valid
        p, alignment = on_valid.mean("p"), on_train.mean("alignment")
        assert p is not None
        seen = Evaluated(on_valid.number("valid_loss"), on_valid.number("valid_accuracy"))
        if self.settings.statistics == "running":
            seed_step(self.run.seed, "evaluation", epoch, 0)  # of what is drawn in it: the same after a kill
            seen = self.evaluate()
        return {
            "epoch": epoch + 1,
            "lr": self.bilevel.lr(epoch),
            "train_loss": on_train.number("train_loss"),
            "train_accuracy": on_train.number("train_accuracy"),
            "valid_loss": seen.loss,
            "valid_accuracy": seen.accuracy,
            "entropy": on_valid.number("entropy"),
            **{f"p_{name}": float(p[:, :, o].mean()) for o, name in enumerate(self.composition.space.operations)},
            **({} if alignment is None else {"alignment": float(alignment)}),
            "genotype": str(self._decoded()),
        }

    def _decoded(self) -> Genotype:
        """The cell that the epoch's weights stand for."""
        p, pi = self.sums.valid.mean("p"), self.sums.valid.mean("pi")
        if (settled := self.bilevel.supernet.settled()) is not None:
            p, pi = settled[0].double().cpu().numpy(), None
        assert p is not None
        kinds, how = self.bilevel.supernet.kinds, self.composition
        return decode_weights(p, pi, kinds, how.space, how.decode_none, how.threshold, how.decode_pooled)

    @torch.no_grad()
    def evaluate(self, change: Change | None = None) -> Evaluated:
        """The supernet on the whole validation half, unaugmented, with batch statistics as in search or with running ones.

        Args:
            change: of its weights, of which nothing is left.
        """
        if change is not None:
            with self.bilevel.supernet.changed(change):
                return self.evaluate()
        supernet = self.bilevel.supernet
        triton, supernet.triton = supernet.triton, False  # its kernels are compiled for the size of a training batch
        whole = torch.zeros(2, dtype=torch.float64, device=self.device)
        with supernet.evaluated():
            for x, y in in_order(self.valid, self.statistics, self.settings.batch_size):
                whole += len(y) * torch.stack(self.bilevel.passes.loss(x, y))
        supernet.triton = triton
        return Evaluated(*(whole / len(self.valid)).tolist())

    def _state(self) -> dict[str, Any]:
        """All that a checkpoint needs, at the end of an epoch."""
        state = {**self.bilevel.state(), "history": self.history, "norms": self.norms}
        state |= {"hooks": [hook.state() for hook in self.hooks]} if self.hooks else {}
        return state | ({"taken": self.taken} if self.taken is not None else {})

    def _restore(self, state: dict[str, Any]) -> None:
        self.bilevel.restore(state)
        self.history += state["history"]
        self.norms = state["norms"]
        for hook, own in zip(self.hooks, state.get("hooks", ()), strict=True):
            hook.restore(own, self.bilevel.passes)
        self.taken = state.get("taken")
        if within := state.get("within"):
            self.sums.restore(within, self.device)
