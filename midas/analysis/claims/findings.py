"""What was measured for a claim, where, and on which side of a limit it lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from midas.analysis.statistics.seeds import summarise
from midas.config.keys import Experiment
from midas.plan.claims import Claim
from midas.plan.plan import Plan


@dataclass(frozen=True)
class Site:
    """Where something is measured."""

    space: str
    dataset: str
    method: str


@dataclass(frozen=True)
class Measured:
    """A number over the seeds.

    Attributes:
        quantity: what it is, with its unit.
        mean: over the seeds, or what `interval` says.
        low: lower end of the interval, None where there is none.
        high: upper end.
        interval: what the interval is, empty where there is none.
        values: of each seed, empty where the number is one for all.
        n: number of seeds.
        site: where.
        files: what it was read from.
    """

    quantity: str
    mean: float
    low: float | None
    high: float | None
    interval: str
    values: list[float]
    n: int
    site: Site
    files: list[str]


@dataclass(frozen=True)
class Finding:
    """What was found on one claim.

    Attributes:
        measured: the numbers that are judged.
        holds: whether the rule is met; only asked where there are no obstacles.
        because: why, in words.
        obstacles: what forbids a verdict.
        further: numbers that help to understand it.
    """

    measured: list[Measured] = field(default_factory=list)
    holds: bool = False
    because: str = ""
    obstacles: list[str] = field(default_factory=list)
    further: list[Measured] = field(default_factory=list)


def over_seeds(quantity: str, values: Sequence[float], site: Site, files: Sequence[Path]) -> Measured:
    """Mean over the seeds with its t interval, none where seeds don't vary; percentages stay between 0 and 100."""
    row = summarise(values)
    low = high = None
    if len(set(values)) > 1:
        low, high = row["low"], row["high"]
        if quantity.endswith("(%)"):
            low, high = max(low, 0.0), min(high, 100.0)
    interval = "" if low is None else row["interval"]
    numbers = [float(value) for value in values]
    return Measured(
        quantity, row["mean"], low, high, interval, numbers, len(values), site, [f.as_posix() for f in files]
    )


def compare(measured: Measured, limit: float, wanted: str) -> tuple[bool | None, str]:
    """Whether an interval lies on the wanted side of a limit ("above" or "below"): True, False, or None for on both."""
    number = f"{measured.quantity}, {measured.site.method}"
    if measured.low is None or measured.high is None:
        return None, f"{number}: no interval"
    sides = {"above": measured.low > limit, "below": measured.high < limit}
    side = next((side for side, holds in sides.items() if holds), None)
    words = f"lies {side}" if side else "lies on both sides of"
    text = f"{number}: {measured.low:.4g} to {measured.high:.4g} {words} {limit:.4g}"
    return (None if side is None else side == wanted), text


def judged(
    measured: list[Measured],
    parts: Sequence[tuple[bool | None, str]],
    obstacles: list[str],
    further: Sequence[Measured] = (),
) -> Finding:
    """A claim whose parts must all hold; undecided if a part is and none fails."""
    states = [state for state, _ in parts]
    undecided = "undecided: " if None in states and False not in states else ""
    return Finding(measured, all(states), undecided + "; ".join(text for _, text in parts), obstacles, list(further))


def sites_of(
    plan: Plan,
    claim: Claim,
    methods_of: Callable[[Experiment], list[str]] = lambda experiment: experiment.methods,
    what: str = "experiment",
) -> tuple[list[Site], list[str]]:
    """Where a claim is measured, and what forbids to judge it there.

    Args:
        plan: the plan.
        claim: the claim.
        methods_of: methods of an experiment that have what is measured.
        what: that, in words.
    """
    sites, obstacles = [], []
    for space in claim.spaces:
        offered = [e for e in plan.config.experiments if e.space == space and methods_of(e)]
        exact = [experiment for experiment in offered if experiment.dataset == claim.dataset]
        chosen = next(iter(exact or offered[claim.place : claim.place + 1]), None)
        if chosen is None:
            searched = what == "experiment" and any(e.space == space for e in plan.config.experiments)
            obstacles.append(f"no evaluated method in {space}" if searched else f"no {what} in {space}")
            continue
        method = _method(plan, claim, methods_of(chosen))
        if method is None:
            obstacles.append(f"{claim.method or 'an attention method'} is not evaluated in {space} on {chosen.dataset}")
            continue
        obstacles += stand_ins(claim, space, chosen.dataset)
        sites.append(Site(space, chosen.dataset, method))
    return sites, list(dict.fromkeys(obstacles))


def _method(plan: Plan, claim: Claim, methods: list[str]) -> str | None:
    """The method that a claim is about, by default the first attention method; None where it isn't among `methods`."""
    wanted = (
        [m for m in methods if plan.config.methods[m].weights == "attention"]
        if claim.method is None
        else [claim.method]
    )
    return next((method for method in wanted if method in methods), None)


def stand_ins(claim: Claim, space: str, dataset: str) -> list[str]:
    """That a space or data set is not the claim's."""
    pairs = [(space, claim.spaces), (dataset, [claim.dataset])]
    return [f"{found} stands in for {wanted[0]}" for found, wanted in pairs if found not in wanted]


def files_of(plan: Plan, site: Site, file: str, seeds: Sequence[int] | None = None) -> list[Path]:
    """A file of each seed.

    Raises:
        ValueError: files are missing, a line for each.
    """
    folders = [plan.folder(site.space, site.dataset, site.method, seed) for seed in seeds or plan.config.seeds]
    return existing([folder / file for folder in folders])


def existing(files: list[Path]) -> list[Path]:
    """The same files.

    Raises:
        ValueError: files are missing, a line for each.
    """
    missing = [file for file in files if not file.exists()]
    if missing:
        raise ValueError("\n".join(f"{file}: missing" for file in missing))
    return files
