"""The command line that all steps share: ``python -m midas.<step> RUN FOLDER``."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from midas.config.keys import ConfigError, parse
from midas.config.kinds import Strict
from midas.running.limits import RETRY, SAVE_EVERY, Limits, StuckError, listen

Run = TypeVar("Run", bound=Strict)

USAGE = """usage: python -m {module} RUN FOLDER
  RUN     the resolved configuration of the run: JSON, or a file that holds it; the key "config" of a metrics.json is one
  FOLDER  where the outputs go"""
USAGE_LONG = """usage: python -m {module} RUN FOLDER [--minutes N] [--save-every S] [--workflow]
  RUN     the resolved configuration of the run: JSON, or a file that holds it; the key "config" of a metrics.json is one
  FOLDER  where the outputs go; the checkpoint lies beside it, in FOLDER_checkpoint
  N       minutes after which this process is killed: shortly before, it saves and leaves with exit code 75
  S       seconds between checkpoints within an epoch, 600 unless told
  --workflow  a workflow calls, which says by FOLDER_checkpoint/accepted that it has the outputs; until then a finished run whose
          outputs are gone is written out again from its checkpoint, afterwards it is trained again"""


def main(model: type[Run], step: Callable[[Run, Path], None], long: bool = False) -> None:
    """Run a step from the command line; wrong input ends in one line a mistake and exit code 2.

    Args:
        model: of its run.
        step: what to call.
        long: whether it keeps checkpoints and can be asked to leave, see `midas.running.limits`.
    """
    arguments = _arguments(long)
    if (
        arguments.run.endswith(".run.json") and os.environ.get("RANK", "0") == "0"
    ):  # a workflow's, whose log has all attempts
        print(_heading(arguments.folder), file=sys.stderr, flush=True)
    if long:
        listen(Limits.of(arguments.minutes, arguments.save_every, arguments.workflow))
    try:
        step(_read(arguments.run, model), Path(arguments.folder))
    except BlockingIOError as error:
        _end(str(error), RETRY)
    except StuckError as error:
        _end(str(error), 1)
    except ValueError as error:
        _end(str(error), 2)
    except OSError as error:
        _end(f"{error.filename or arguments.folder}: {error.strerror or error}", 1)
    except (MemoryError, RuntimeError) as error:
        if (wanted := _memory_wanted(error)) is None:
            raise
        trained = [name for name in ("search", "retrain", "transfer") if name in model.model_fields]
        keys = [f"smaller {n}.batch_size or {n}.channels, or {n}.precision: bfloat16, need less" for n in trained]
        _end("; ".join([f"out of memory: {wanted} more were wanted", *keys]), 1)


def _heading(folder: str) -> str:
    """What heads an attempt in a log: when, what, where."""
    job = "".join(f", job {os.environ[key]}" for key in ("SLURM_JOB_ID",) if key in os.environ)
    return f"--- {time.strftime('%Y-%m-%d %H:%M:%S %z')} {_module()} {folder}, host {socket.gethostname()}{job}"


def _arguments(long: bool) -> argparse.Namespace:
    usage = (USAGE_LONG if long else USAGE).format(module=_module())
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = lambda message: sys.exit(usage)  # type: ignore[method-assign]
    parser.add_argument("run")
    parser.add_argument("folder")
    if long:
        parser.add_argument("--minutes", type=_positive)
        parser.add_argument("--save-every", type=_positive, default=SAVE_EVERY)
        parser.add_argument("--workflow", action="store_true")
    return parser.parse_args()


def _positive(text: str) -> float:
    if not (number := float(text)) > 0:
        raise ValueError(text)
    return number


def _end(message: str, code: int) -> NoReturn:
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)
    sys.exit(code)


def _memory_wanted(error: BaseException) -> str | None:
    """How much memory an allocation asked for that failed; None if it's another error."""
    if isinstance(error, MemoryError):
        return "some bytes"
    found = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    known = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return (found[1] if found else "some bytes") if known else None


def _module() -> str:
    """Name of the module that was started with ``python -m``."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


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
