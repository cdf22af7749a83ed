"""What do tables say around their numbers? Captions, headings and notes: sizes, protocols, devices, what doesn't compare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from midas.analysis.results import load_metrics
from midas.config.keys import Experiment
from midas.config.method import Method
from midas.config.parts import PARTS
from midas.plan.plan import Plan
from midas.spaces import get_space

NOT_COMPARABLE = ", under the papers' own protocols: they don't compare with the rows above"
SEARCHED = "one search (or random draw)"
RETRAINED = f"{SEARCHED} and one retraining"
NOT_STATED = "in published rows: not stated by the source"
SAME_FUNCTION = Path(__file__).parents[3] / "benchmarks/same_function.json"
"""How far cells of NAS-Bench-201 that compute the same function are apart, as `benchmarks.same_function` measured it."""


def device_note(what: str, numbers: pd.DataFrame, quantity: str) -> str:
    """What the runs behind a quantity ran on."""
    names = sorted({name for name in numbers.loc[numbers["quantity"] == quantity, "device"] if name})
    return f"{what}, on {', '.join(names)}." if names else f"{what}."


def tested_parts(files: Iterable[tuple[str, Path]]) -> list[str]:
    """Of which folder the test images of data sets were, a sentence each; none of data sets of which no file says it.

    Args:
        files: data set and `metrics.json` of each training.

    Raises:
        ValueError: a file is missing or damaged.
    """
    parts: dict[str, set[str | None]] = {}
    for dataset, file in files:
        parts.setdefault(dataset, set()).add(load_metrics(file).get("test_part"))
    return [
        f"Test images of {dataset}: {', '.join(sorted(f'{part}/' if part else 'not recorded' for part in found))}."
        for dataset, found in parts.items()
        if found != {None}
    ]


def _first_order(method: Method) -> bool:
    return method.weights == "static" and not any(getattr(method, name) for name in PARTS if name != "taken")


def first_order_note(plan: Plan, methods: Sequence[str]) -> list[str]:
    """That DARTS as it was published chose among one operation more than static methods do in its space, if some do."""
    chosen = [plan.config.methods[name] for name in methods]
    fewer = dict.fromkeys(n for n, m in zip(methods, chosen, strict=True) if _first_order(m) and not m.offer_none)
    if not fewer:
        return []
    count = len(get_space("darts").operations)
    ours = f"{', '.join(fewer)}: first-order DARTS over the {count} operations of this space."
    return [
        f'{ours} The published rows of DARTS were searched with "none" as one more in the softmax (key offer_none).'
    ]


def same_function_note() -> str:
    """That single cells of the benchmark are compared with an error."""
    found = json.loads(SAME_FUNCTION.read_text())["c10_test_acc_200"]
    return (
        "In the benchmark, cells that compute the same function differ, too, by what a training does by chance: on the CIFAR-10 "
        f"test by up to {found['largest']:.1f} points, {found['median']:.1f} in the median; in the best tenth of the functions "
        f"by up to {found['good_largest']:.1f} (benchmarks/same_function.json). Single cells that are less apart have no order."
    )


def counted(count: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def retrainings(plan: Plan, space: str) -> str:
    """What the cells of a space were trained as, data set by data set."""
    texts = {
        e.dataset: f"{e.retrain.cells}x{e.retrain.channels}, {counted(e.retrain.epochs, 'epoch')}"
        for e in plan.config.experiments
        if e.space == space and e.retrain
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{dataset} {text}" for dataset, text in texts.items())


def published_heading(plan: Plan, where: str = "") -> str:
    """Heading of published numbers: they compare with those of the paper's protocol alone."""
    return f"Published numbers{where}{'' if plan.config.paper_protocol else NOT_COMPARABLE}"


def about(plan: Plan, run: str) -> str:
    """Size, seeds, what the spread is over, and how far from the paper's protocol.

    Args:
        plan: the plan.
        run: what is done once for each seed.
    """
    config = plan.config
    seeds = f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    over = f"Mean ± sample standard deviation over n seeds, each {run}."
    spread = over if len(config.seeds) > 1 else f"One seed, {run}: no spread."
    protocol = "" if config.paper_protocol else " Not the paper's protocol."
    return f"Size {config.size} ({config.note}); {seeds}. {spread}{protocol}"


def own_settings(experiment: Experiment, method: str) -> str:
    """What a method's searches do otherwise than the others of the experiment; empty if nothing."""
    usual, own = experiment.search.model_dump(), experiment.search_by(method).model_dump()
    name = f"{own['protocol']}: " if own["protocol"] != usual["protocol"] and own["protocol"] else ""
    changed = [f"{key} {value}" for key, value in own.items() if key != "protocol" and value != usual[key]]
    return name + ", ".join(changed)
