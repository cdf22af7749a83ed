"""C++ beside Python: compiled at the first use, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def cache_folder() -> Path:
    """The folder in the user's cache; one for temporary files where there is no home, or it can't be written to.

    Raises:
        OSError: there is no folder to write to.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "midas")
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # of Path.home: no variable HOME, and no such user
        pass
    folder = Path(tempfile.gettempdir(), f"midas-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user")
    return folder


def library(source: Path, flags: Sequence[str]) -> Path:
    """The library of this source, compiler and processor, compiled unless it is there already.

    Args:
        source: a file of C++; headers lie beside it.
        flags: for the compiler.

    Raises:
        OSError: there is no compiler, or no folder to write to.
        subprocess.CalledProcessError: it doesn't compile.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise OSError(f"there is no compiler {os.environ.get('CXX', 'c++')!r}")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    cpu = Path("/proc/cpuinfo")
    able = next((line for line in cpu.read_text().splitlines() if line[:5] == "flags"), "") if cpu.exists() else ""
    text = [file.read_text() for file in (source, *sorted(source.parent.glob("*.h")))]
    name = hashlib.sha256(repr((text, tuple(flags), version, able)).encode()).hexdigest()[:16]
    folder = cache_folder()
    target = folder / f"{source.stem}-{name}.so"
    if not target.exists():
        own = target.with_suffix(f".{os.getpid()}")  # renamed when complete: several jobs may start at once
        try:
            subprocess.run([compiler, *flags, "-o", own, source], capture_output=True, text=True, check=True)
            own.replace(target)
        finally:
            own.unlink(missing_ok=True)
    return target
