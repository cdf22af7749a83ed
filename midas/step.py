"""The command line that all steps share: ``python -m midas.<step> RUN FOLDER``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from midas.config import ConfigError, parse
from midas.settings import Strict

Run = TypeVar("Run", bound=Strict)

USAGE = """usage: python -m {module} RUN FOLDER
  RUN     the resolved configuration of the run: JSON, or a file that holds it; the key "config" of a metrics.json is one
  FOLDER  where the outputs go"""


def main(model: type[Run], step: Callable[[Run, Path], None]) -> None:
    """Run a step from the command line; wrong input ends in one line a mistake and exit code 2."""
    if len(sys.argv) != 3:
        sys.exit(USAGE.format(module=_module()))
    try:
        step(_read(sys.argv[1], model), Path(sys.argv[2]))
    except ValueError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


def _module() -> str:
    """Name of the module that was started with ``python -m``."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem


def _read(argument: str, model: type[Run]) -> Run:
    text = argument if argument.lstrip().startswith("{") else _read_file(Path(argument))
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError([f"RUN: not JSON: {error}"]) from error
    if isinstance(raw, dict) and "provenance" in raw:  # a metrics.json: run the same again
        raw = raw.get("config")
    return parse(raw, model)


def _read_file(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"RUN: {path} can't be read: {getattr(error, 'strerror', None) or error}"]) from error
