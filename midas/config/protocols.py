"""Protocols of the originals' searches: what one word of a configuration stands for.

D50 is the search of DARTS on its space (Liu et al., ICLR 2019); N100 that on NAS-Bench-201 in the codes of SDARTS, beta-DARTS
and DrNAS (with other details also of DARTS-PT and Lambda-DARTS); A50 that of the benchmark's authors (Dong and Yang, ICLR
2020), whose rows of DARTS are the published ones.
"""

from __future__ import annotations

from typing import Any

_COMMON: dict[str, Any] = {
    "channels": 16, "batch_size": 64, "lr": 0.025, "lr_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0,
    "arch_lr": 3e-4, "arch_betas": (0.5, 0.999), "arch_weight_decay": 1e-3,
    "order": "architecture_first", "valid_batches": "fresh", "nesterov": False, "clip_architecture": False,
    "first_images": None,
}  # fmt: skip
PROTOCOLS: dict[str, dict[str, Any]] = {
    "D50": {**_COMMON, "cells": 8, "epochs": 50},
    "N100": {**_COMMON, "cells": 5, "epochs": 100, "clip_architecture": True},
    "A50": {
        **_COMMON, "cells": 5, "epochs": 50, "clip_architecture": True, "nesterov": True, "weight_decay": 5e-4,
        "order": "weights_first", "valid_batches": "random",
    },
}  # fmt: skip

ADDED: dict[str, Any] = {
    "protocol": None, "order": "architecture_first", "valid_batches": "shuffled", "nesterov": False, "clip_architecture": False,
    "statistics": "batch", "first_images": None,
}  # fmt: skip
"""Keys that a search has since runs were published, with the values of before."""
ADDED_TO_RETRAIN: dict[str, Any] = {"leave_out": 0}
"""The same of a retraining."""
ADDED_TO_EXPERIMENT: dict[str, Any] = {"search_of": {}, "retrain_as": "retrain", "retrain_also": {}}
"""The same of an experiment."""


def expanded(given: Any) -> Any:
    """Settings of a search with what their protocol stands for, where they don't say otherwise."""
    if not isinstance(given, dict):
        return given
    name = given.get("protocol")
    return PROTOCOLS[name] | given if isinstance(name, str) and name in PROTOCOLS else given


def switches(search: dict[str, Any]) -> list[str]:
    """In what a search differs from this project's own order of things, in words for a table."""
    return [text for key, value, text in _WORDS if search[key] == value]


_WORDS = (
    ("order", "weights_first", "weights learn before the architecture"),
    ("valid_batches", "fresh", "each validation batch from a fresh shuffle"),
    ("valid_batches", "random", "validation images drawn one by one"),
    ("nesterov", True, "Nesterov's momentum"),
    ("clip_architecture", True, "the architecture's gradient counts in clipping"),
    ("statistics", "running", "evaluated with running statistics"),
)
