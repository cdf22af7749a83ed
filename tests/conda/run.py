"""Runs config/test.yaml with `--sdm conda`: each rule in an environment of its own, made from the list that it names.

There is no conda in it but a stand-in, see tests/conda/stand_in.py: this proves that each list can be solved and installed, that
Snakemake makes and activates the environments, and that each step finds its imports there. It says nothing of conda-forge.

    python tests/conda/run.py [PYTHON]   needs py-rattler, uv, snakemake, and a Python 3.12 to make environments of (PYTHON)

Ends with 0: all claims hold, 1: one doesn't, 77: something it needs isn't installed. Six minutes on one core, 7 GB.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ACTIVATE = 'export CONDA_PREFIX="$1"\nexport PATH="$1/bin:$PATH"\n'
ABSENT = {
    "train.yaml": ("matplotlib", "snakemake"),
    "analysis.yaml": ("torch", "snakemake"),
    "environment.yml": ("rattler",),
}
"""What must not be found in an environment, lest its Python be another's."""

failed: list[str] = []


def claim(held: bool, text: str) -> None:
    """Print a claim and whether it held."""
    print(f"{'PASS' if held else 'FAIL'}  {text}", flush=True)
    if not held:
        failed.append(text)


def python() -> str | None:
    """An interpreter of the version that the environments ask for."""
    for found in (*sys.argv[1:], sys.executable, "python3.12"):
        call = [found, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 12))"]
        if shutil.which(found) and subprocess.run(call, capture_output=True).returncode == 0:
            return found
    return None


def run(home: Path, interpreter: str) -> None:
    """Make the channel and the stand-in, run the workflow, and look at what came out."""
    from stand_in import make_channel

    make_channel(home / "channel", interpreter)
    (home / "bin").mkdir()
    (home / "bin/activate").write_text(ACTIVATE)
    command = home / "bin/conda"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/conda/stand_in.py" "{home}" "$@"\n')
    command.chmod(0o755)

    call = ["snakemake", "--cores", "1", "--nocolor", "--sdm", "conda", "--conda-prefix", str(home / "envs")]
    call += [
        "--configfile",
        "config/test.yaml",
        "--config",
        f"results_dir={home}/results",
        f"figures_dir={home}/figures",
    ]
    path = f"{home}/bin{os.pathsep}{os.environ['PATH']}"
    with (home / "snakemake.log").open("w") as log:
        done = subprocess.run(call, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=log, stderr=subprocess.STDOUT)
    text = (home / "snakemake.log").read_text()
    claim(done.returncode == 0, f"Snakemake with --sdm conda finishes: exit code {done.returncode}")
    if failed:
        print(text[-5000:])
        return
    look(home, text)


def look(home: Path, text: str) -> None:
    """Judge a run that finished."""
    made = re.findall(r"Environment for \S*?([\w.]+) created \(location: (\S+)\)", text)
    claim(
        sorted(name for name, _ in made) == sorted(ABSENT), f"it made an environment of {', '.join(n for n, _ in made)}"
    )
    for name, folder in made:
        code = f"import importlib.util as u; print([m for m in {ABSENT[name]} if u.find_spec(m)])"
        found = subprocess.check_output([ROOT / folder / "bin/python", "-c", code], text=True).strip()
        claim(found == "[]", f"{name}: none of {', '.join(ABSENT[name])} is in it: {found}")
    lines = (r"^Job \d+: ", r"^Activating conda environment: ")
    jobs, activated = (len(re.findall(line, text, re.MULTILINE)) for line in lines)
    claim(0 < jobs == activated, f"each of {jobs} jobs activated an environment: {activated} did")
    numbers = [json.loads(path.read_text()) for path in (home / "results").rglob("metrics.json")]
    used = {metrics["provenance"]["versions"]["python"] for metrics in numbers}
    claim(
        {v.rpartition(".")[0] for v in used} == {"3.12"},
        f"{len(numbers)} results say by which Python: {', '.join(used)}",
    )
    claim((home / "results/test/report.html").exists(), "the report is there")


def main() -> None:
    """Say what is missing, or run."""
    interpreter = python()
    needed = {"py-rattler": find_spec("rattler"), "uv": shutil.which("uv"), "snakemake": shutil.which("snakemake")}
    needed["a Python 3.12"] = interpreter
    if lacking := [name for name, found in needed.items() if not found]:
        print(f"SKIPPED: {', '.join(lacking)} isn't installed")
        sys.exit(77)
    print(
        "No conda here: a stand-in of that name over py-rattler, with a channel made of this machine's Python and PyPI."
    )
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), str(interpreter))
    print(f"\n{len(failed)} of the claims FAILED" if failed else "\nall claims PASS")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
