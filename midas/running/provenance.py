"""Where a number comes from: source digest, commit, versions, hardware; and the `metrics.json` that carries them."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from midas.files.writing import write_text
from midas.running.memory import peak_resident

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "timm", "numpy", "scipy", "diptest")

THIS = "midas/running/provenance.py"
GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""Variables by which the environment names a repository."""

ROUNDING = ("amx", "avx", "bf16", "f16", "fma", "fp16", "sme", "sse", "sve")
"""How instructions are called that a sum's rounding may depend on."""

NOT_IN_DIGEST = ("midas.config", "midas.plan", "midas.running.provenance", "midas.running.step", "midas.files.writing")
"""What acts on a step's numbers only through its resolved JSON, which is compared by itself, or only writes them down."""
STILL_IN_DIGEST = ("midas.plan.claims",)
"""What of it is read by a step too."""


SAME_NUMBERS = Path(__file__).with_name("same_numbers.json")
"""Digest of a step's source -> that of an earlier one which was shown to leave the same files (benchmarks/same_outputs.py)."""


@cache
def digest(step: str) -> str:
    """Digest of the source that a step's numbers depend on, by which finished runs are known to be up to date.

    It is that of an earlier source where this one was moved or cut alone and leaves the same, see `SAME_NUMBERS`.

    Args:
        step: name of the module below `midas`, e.g. "search".
    """
    found = digest_of_source(step)
    return json.loads(SAME_NUMBERS.read_text()).get(found, found)


def digest_of_source(step: str) -> str:
    """Digest of a step's module and all of `midas` that it imports.

    Comments, docstrings and layout don't count: `midas.search` edited in words alone doesn't rerun a search.
    """
    seen: dict[str, str] = {}
    for module in (f"midas.{step}", f"midas.{step}.__main__"):
        _collect(module, seen)
    lines = [f"{name} {seen[name]}" for name in sorted(seen)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _collect(module: str, seen: dict[str, str]) -> None:
    base = ROOT / Path(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    without = f"{module}.".startswith(tuple(f"{name}." for name in NOT_IN_DIGEST)) and module not in STILL_IN_DIGEST
    if module in seen or without or not path.exists():
        return
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):  # less docstrings, also those of constants
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]  # type: ignore[attr-defined]
    native = path.with_suffix(".cpp")  # compiled by the module of that name, with the headers beside it
    compiled = [native, *sorted(path.parent.glob("*.h"))] if native.exists() else []
    source = "".join([ast.unparse(tree), *(file.read_text() for file in compiled)])
    seen[module] = hashlib.sha256(source.encode()).hexdigest()
    for found in imports:
        if isinstance(found, ast.ImportFrom):
            names = [f"{found.module}.{alias.name}" for alias in found.names] + [str(found.module)]
        else:
            names = [alias.name for alias in found.names]
        for name in names:
            if name.startswith("midas.") or name == "midas":
                _collect(name, seen)


def commit() -> str | None:
    """The commit of the checkout, with "+changes" where the tree differs from it; None outside a repository of its own.

    A repository around the checkout, or one that the environment names, isn't that of this code.
    """
    environment = {name: value for name, value in os.environ.items() if name not in GIT_PLACES}
    # a repository that is named isn't looked for in the folders above; nor must it belong to this user
    git = ["git", "--no-optional-locks", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}"]
    call: dict[str, Any] = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 10}
    try:
        # the second is the code itself, which may lie unpacked in a repository of other things
        names = subprocess.run([*git, "rev-parse", "HEAD", f"HEAD:{THIS}"], check=True, **call).stdout.split()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], check=True, **call).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return names[0] + ("+changes" if changed.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def instructions() -> str:
    """Instructions that torch and its libraries choose kernels by: its own level, then what the processor can.

    Rounding follows them, and it grows: two processors of one level, of which one multiplies matrices of bfloat16, end a search
    with other accuracies.
    """
    import torch

    can = torch.cpu.get_capabilities()
    names = sorted(name for name in can if can[name] is True and name.startswith(ROUNDING))
    return " ".join([torch.backends.cpu.get_cpu_capability(), *names])


def write_metrics(
    path: Path,
    step: str,
    run: Any,
    numbers: dict[str, Any],
    wall_seconds: float,
    device: Any = None,
    means: dict[str, Any] | None = None,
) -> None:
    """Write a step's `metrics.json`.

    Args:
        path: the file; it appears whole or not at all.
        step: name of the module below `midas`.
        run: the step's resolved configuration (a pydantic model).
        numbers: what the step measured; equal for equal runs, so no times belong here.
        wall_seconds: time of the step, over all its restarts.
        device: torch device that was used, None for steps without torch.
        means: by what else the numbers came about.
    """
    content = {
        **numbers,
        "config": run.model_dump(mode="json"),
        "provenance": {
            "step": step,
            "source_digest": digest(step),
            "commit": commit(),
            "versions": versions(),
        },
        "cost": {"wall_seconds": round(wall_seconds, 3), **_hardware(device), **(means or {})},
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _hardware(device: Any) -> dict[str, Any]:
    facts = {"device": processor(), "cores": os.cpu_count(), "peak_memory_bytes": peak_resident()}
    if device is not None:
        facts["instructions"] = instructions()
    if device is not None and device.type == "cuda":
        import torch

        facts["device"] = torch.cuda.get_device_name(device)
        facts["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return facts
