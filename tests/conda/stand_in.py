"""Answers to `conda` as Snakemake calls it. This is NOT conda, and neither is it called so by tests/conda/run.py.

What is real: conda's solver and installer as py-rattler writes them anew (pixi's), conda packages, Snakemake's own code for
deployment, the list of each environment, and packages from PyPI in an environment that has no others. What isn't: the channel
conda-forge. Its place is taken by a folder with three packages, made of a Python 3.12 on this machine, the pip in it, and a call
of this machine's C++ compiler; and pip sections are installed by uv, which reads the same requirements faster.
"""

from __future__ import annotations

import asyncio
import bz2
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import yaml
from rattler import Channel, install, solve
from rattler.index import index_fs
from rattler.platform import Subdir

VERSION = "24.7.1"
"""The oldest that Snakemake takes."""
LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "__pycache__"}
FACTS = """
import json, platform, sys, sysconfig
found = sysconfig.get_config_vars()
shared = f"{found['LIBDIR']}/{found['LDLIBRARY']}" if found["Py_ENABLE_SHARED"] else ""
print(json.dumps([platform.python_version(), sys.executable, sysconfig.get_path("stdlib"), shared]))
"""


def make_channel(folder: Path, python: str) -> None:
    """Write a channel: `python`, an interpreter of this machine; `pip`, the wheel that it brings; `cxx-compiler`, a call."""
    version, executable, library, shared = json.loads(subprocess.check_output([python, "-c", FACTS]))
    minor = ".".join(version.split(".")[:2])
    standard = [path for path in Path(library).rglob("*") if not LEFT_OUT & set(path.relative_to(library).parts)]
    files = {f"lib/python{minor}/{path.relative_to(library)}": path.read_bytes() for path in standard if path.is_file()}
    if shared:
        files[f"lib/{Path(os.path.realpath(shared)).name}"] = Path(shared).read_bytes()
    files |= {f"bin/{name}": Path(os.path.realpath(executable)).read_bytes() for name in (f"python{minor}", "python")}
    _write_package(folder / str(Subdir.current()), "python", version, [], files.items())
    (wheel,) = Path(library).glob("ensurepip/_bundled/pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = [
            (f"lib/python{minor}/site-packages/{name}", archive.read(name))
            for name in archive.namelist()
            if not name.endswith("/")
        ]
    _write_package(folder / str(Subdir.current()), "pip", wheel.name.split("-")[1], [f"python {minor}.*"], content)
    compiler = [("bin/c++", f'#!/bin/sh\nexec {shutil.which("c++")} "$@"\n'.encode())] if shutil.which("c++") else []
    _write_package(folder / str(Subdir.current()), "cxx-compiler", "1", [], compiler)
    (folder / "noarch").mkdir()
    asyncio.run(index_fs(folder, write_zst=False, write_shards=False))


def _write_package(
    folder: Path, name: str, version: str, depends: list[str], files: Iterable[tuple[str, bytes]]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends}
    index |= {"subdir": folder.name, "arch": None, "platform": None}
    # little is gained by the smaller of the levels, and much time lost
    with (
        bz2.open(folder / f"{name}-{version}-0.tar.bz2", "wb", 1) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        paths = []
        for path, content in files:
            _add(archive, path, content, 0o755 if path.startswith("bin/") else 0o644)
            paths.append({"_path": path, "path_type": "hardlink", "size_in_bytes": len(content)})
        _add(archive, "info/index.json", json.dumps(index).encode())
        _add(archive, "info/paths.json", json.dumps({"paths": paths, "paths_version": 1}).encode())


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


async def create(file: Path, prefix: Path, channel: Path) -> None:
    """`conda env create`: solve and install, then the section of pip."""
    wanted = yaml.safe_load(file.read_text())
    assert wanted["channels"] == ["conda-forge", "nodefaults"], (
        f"{file}: other channels than the stand-in takes the place of"
    )
    specs = [spec for spec in wanted["dependencies"] if isinstance(spec, str)]
    records = await solve(sources=[Channel(channel.as_uri())], specs=specs, platforms=[str(Subdir.current()), "noarch"])
    await install(records, target_prefix=prefix, cache_dir=channel.parent / "packages", show_progress=False)
    pip = next((entry["pip"] for entry in wanted["dependencies"] if isinstance(entry, dict)), [])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pip))
        requirements.flush()
        python = str(prefix / "bin/python")
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, "-r", requirements.name], check=True)


def main(arguments: list[str], home: Path) -> None:
    """Answer a call. `home` holds bin/activate, beside this command, and the channel."""
    match arguments:
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(home), "platform": str(Subdir.current())}))
        case ["--version"]:
            print(f"conda {VERSION}")
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", prefix]:
            asyncio.run(create(Path(file), Path(prefix), home / "channel"))
        case ["clean", "-y", "--tarballs"]:
            pass
        case _:
            sys.exit(f"the stand-in for conda has no answer to: {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[2:], Path(sys.argv[1]))
