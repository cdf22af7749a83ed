"""Whose published rows a method's own stand beside, and with which settings its original searched.

Settings are those of the originals' code: a protocol of `midas.config.protocols` and what the method changes of it; where there
is no code for a space, what later work uses there. A method is known by its parts: its name in a configuration says nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from midas.config.method import Method
from midas.config.parts import PARTS
from midas.config.protocols import PROTOCOLS
from midas.config.settings import Search
from midas.plan.shown import ROBUST_DARTS

Protocols = dict[str, tuple[str, dict[str, Any]]]


class Original(NamedTuple):
    """A method of the field.

    Attributes:
        published: its name among published numbers.
        protocols: space -> protocol of its search, and what it changes of it; "robust": S1 to S4.
        also: another name, in lists that don't say which of two methods they mean.
    """

    published: str
    protocols: Protocols
    also: str = ""


def _same(**changes: Any) -> Protocols:
    return {"nas_bench_201": ("N100", changes), "darts": ("D50", changes)}


def _robust(**changes: Any) -> Protocols:
    return {**_same(**changes), "robust": ("D50", changes)}


RUNNING: dict[str, Any] = {"statistics": "running"}
"""In evaluation; said of those alone whose code was read for it."""
DARTS: Protocols = {"nas_bench_201": ("A50", RUNNING), "darts": ("D50", RUNNING)}
SELECTED: Protocols = {
    "nas_bench_201": ("N100", {"clip_architecture": False, "statistics": "batch"}),
    "darts": ("D50", {"statistics": "batch"}),
}
LAMBDA: dict[str, Any] = {"order": "weights_first", "valid_batches": "shuffled"}
"""Of the NAS-Bench-201 scripts in Lambda-DARTS's repository, which PC-DARTS is read from there as well."""
OF_PARTS: dict[frozenset[str], Original] = {
    frozenset(): Original("DARTS-1st", DARTS, also="DARTS"),  # S1 to S4: order not stated
    frozenset({"unrolled"}): Original(
        "DARTS-2nd", {**DARTS, "nas_bench_201": ("A50", {"order": "architecture_first", **RUNNING})}
    ),
    frozenset({"flat"}): Original("A2M-DARTS", _same(epochs=50)),
    frozenset({"beta"}): Original("beta-DARTS", _same()),
    frozenset({"alignment"}): Original(
        "Lambda-DARTS",
        {
            "nas_bench_201": ("N100", {"arch_lr": 1e-4, **LAMBDA}),
            **dict.fromkeys(("darts", "robust"), ("D50", {"batch_size": 96, "valid_batches": "shuffled"})),
        },
    ),
    frozenset({"gumbel"}): Original(
        "GDAS",
        {
            "nas_bench_201": ("A50", {"epochs": 250, **RUNNING}),
            "darts": ("A50", {"epochs": 250, "cells": 6, "batch_size": 256, **RUNNING}),
        },
    ),
    frozenset({"extra_skip"}): Original("DARTS-", _robust(valid_batches="shuffled")),
    frozenset({"oles"}): Original("OLES", _same(**RUNNING)),
    frozenset({"selection"}): Original("DARTS+PT", SELECTED),
    frozenset({"partial"}): Original(
        "PC-DARTS",
        {
            "nas_bench_201": (
                "N100",
                {"epochs": 50, "batch_size": 256, "lr": 0.1, "lr_min": 0.0, "arch_lr": 6e-4, **LAMBDA},
            ),
            "darts": ("D50", {"batch_size": 256, "lr": 0.1, "lr_min": 0.0, "arch_lr": 6e-4}),
        },
    ),
    frozenset({"dirichlet"}): Original("DrNAS", {"nas_bench_201": ("N100", {})}),  # elsewhere it has partial channels
}
PERTURBED = {
    "random": Original("SDARTS-RS", _robust(**RUNNING)),
    "adversarial": Original("SDARTS-ADV", _robust(**RUNNING)),
}
FAIR = Original(
    "FairDARTS",
    {"darts": ("D50", {"batch_size": 128, "lr": 0.005, "arch_lr": 3e-3, "arch_betas": (0.9, 0.999)})},
)
FIXED = Original("DARTS+PT (fixed alpha)", SELECTED)
MIDAS = Original("MIDAS", {})
"""Its paper names no settings but those of DARTS."""


def original_of(method: Method) -> Original | None:
    """The method of the field that these keys are, None if they are no one's."""
    parts = frozenset(name for name in PARTS if getattr(method, name) is not None)
    if method.alignment is not None and method.alignment.weight == 0:
        parts -= {"alignment"}  # looked at, and nothing else
    if parts & {"flat", "oles"}:
        parts -= {"taken"}  # their originals stop by such a rule
    if method.weights == "static" and method.distribution in (None, "edge"):
        if parts == {"selection"} and method.selection is not None and method.selection.fixed:
            return FIXED
        if parts == {"perturbation"} and method.perturbation is not None:
            return PERTURBED[method.perturbation.kind]
        return OF_PARTS.get(parts)
    if method.distribution == "sigmoid":
        return FAIR if "separation" in parts and parts <= {"separation", "sparse"} else None
    own = method.model_copy(update={"decode_none": None, "detach": False})
    return MIDAS if own == Method() else None


RATES = ("precision", "channels_last", "fast", "merge_edges", "cuda_graph", "triton", "protocol")
"""Settings that change rounding alone, or stand for others."""


def differing(search: Search, original: Original, space: str) -> str:
    """Settings in which a search differs from the original's, theirs in brackets; empty where these aren't known."""
    space = "robust" if space in ROBUST_DARTS else space
    if space not in original.protocols:
        return "not stated"
    protocol, changes = original.protocols[space]
    theirs, ours = PROTOCOLS[protocol] | changes, search.model_dump(exclude=set(RATES))
    found = [
        f"{key} {_text(value)} ({_text(theirs[key])})"
        for key, value in ours.items()
        if key in theirs and value != theirs[key]
    ]
    unknown = [f"{key} (not established)" for key in ours if key not in theirs]
    return ", ".join([*found, *unknown]) or "none"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
