"""What a configuration file says: read with changes of its top keys, and what is left of it without its mistakes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midas.config.keys import Config
from midas.files.yaml_files import parse_yaml, read_yaml


def read_config(path: Path, changes: list[str]) -> dict[str, Any]:
    """A configuration file with some of its top keys replaced by ``key=value``, the value in YAML.

    Raises:
        ValueError: the file can't be read, isn't YAML or has a key twice, or a change isn't of that form.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: not a configuration; it must be a mapping of keys to values")
    values: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not (key and sign):
            raise ValueError(f"{change!r} is not allowed; key=value")
        if key in values:
            raise ValueError(f"{change!r} is not allowed; {key} was given before, each key once")
        values[key] = parse_yaml(value, change)
    return raw | values


def without_errors(raw: dict[str, Any]) -> Config | None:
    """The configuration less its wrong keys, so that the other checks can still speak; None if required keys are wrong."""
    if not isinstance(raw, dict):
        return None
    raw = copy.deepcopy(raw)
    try:
        Config.model_validate(raw)
    except ValidationError as error:
        for problem in error.errors():
            *path, last = (part for part in problem["loc"] if part != "[key]")
            node: Any = raw
            try:
                for part in path:
                    node = node[part]
                if isinstance(node, dict):
                    node.pop(last, None)
            except (KeyError, IndexError, TypeError):
                return None
    try:
        return Config.model_validate(raw)
    except ValidationError:
        return None
