"""Files in YAML or JSON whose mappings have each key once: PyYAML and Snakemake would take the last and say nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


class _EachOnce(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as it is written, before what ``<<`` merges into it, which its own keys may replace."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                what, line = (key.tag, key.value), key.start_mark.line + 1
                if what in lines:
                    raise _TwiceError(f"key {key.value!r} is there twice, in lines {lines[what]} and {line}; each once")
                lines[what] = line
        return node


class _TwiceError(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"key {key!r} is there twice; each once")
        found[key] = value
    return found


def parse_yaml(text: str, name: str) -> Any:
    """What a text in JSON, or else YAML, says.

    Args:
        text: of a file or an option.
        name: what to call it in messages.

    Raises:
        ValueError: it is neither, or a mapping has a key twice.
    """
    try:
        if text.lstrip().startswith("{"):  # YAML refuses the tabs of a JSON file
            try:
                return json.loads(text, object_pairs_hook=_pairs)
            except json.JSONDecodeError:
                pass
        loader = _EachOnce(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _TwiceError as error:
        raise ValueError(f"{name}: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{name}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> Any:
    """`parse_yaml` of a file.

    Raises:
        ValueError: also if it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_yaml(text, str(path))
