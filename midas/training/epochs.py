"""How are the epochs of a training run, kept and resumed? The same on small images and on large ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from midas.running.durable import Keeper
from midas.running.limits import AskedError, StuckError, leave_if_asked
from midas.running.progress import Progress
from midas.training.trainer import Training

History = list[dict[str, float]]


def run_epochs(
    training: Training[Any],
    keeper: Keeper,
    history: History,
    train: Callable[[int, Callable[[], None]], dict[str, float]],
    steps: int,
    every: int = 1,
    agree: Callable[[bool], bool] = bool,
) -> None:
    """Train the epochs that are left, saving at their ends and within them.

    Args:
        training: what is trained; its step's name is the keeper's.
        keeper: keeps it.
        history: rows of the finished epochs, see `resume`; those of others are added.
        train: trains and tests one epoch, counted from 0, from step `training.sums.step` on; calls its second argument after
            each training step.
        steps: of an epoch.
        every: steps between the questions whether to save, which cost processes that train together a message.
        agree: whether one of those processes says yes.
    """
    name = keeper.name
    progress = Progress(training.settings.epochs, name)
    for epoch in range(len(history), training.settings.epochs):

        def save(epoch: int = epoch) -> None:
            training.sums.bad.check(name, epoch)
            keeper.save({"trainer": training.state_dict(), "history": history, "within": training.within()})
            leave_if_asked(name)

        def after_step(save: Callable[[], None] = save) -> None:
            step, last = training.sums.step, training.sums.step == steps
            # before a test, which may take minutes, a checkpoint of a minute is old
            if (last or step % every == 0) and agree(keeper.due(60.0 if last else None)):
                save()

        try:
            row = train(epoch, after_step)
        except (AskedError, StuckError):  # it waited, in an epoch or a test
            if training.alone and training.sums.step > 0:
                save()
            leave_if_asked(name)
            raise
        check_finite(row, epoch, name)
        if keeper.writes:
            progress.epoch(epoch, **row)
        history.append({"epoch": epoch + 1, **row})
        keeper.save({"trainer": training.state_dict(), "history": history})
        leave_if_asked(name)


def resume(training: Training[Any], keeper: Keeper) -> History:
    """Go on from a checkpoint; returns rows of the finished epochs."""
    state = keeper.load()
    if state is None:
        return []
    training.load_state_dict(state["trainer"])
    if within := state.get("within"):
        training.go_on(within)
    return state["history"]


def check_finite(row: dict[str, float], epoch: int, step: str) -> None:
    """Stop a training that has diverged; epochs count from 0.

    Raises:
        ValueError: a loss is no longer finite.
    """
    for name in ("train_loss", "test_loss"):
        if not math.isfinite(row[name]):
            raise ValueError(
                f"{name} of epoch {epoch + 1} is {row[name]}; the last checkpoint before it is kept, a smaller {step}.lr or "
                f"{step}.clip may help"
            )
