"""Time and memory of dumps and analyses of the paper's size: ``python -m benchmarks.analysis``.

A played supernet gives weights of 25,000 images x 8 cells x 14 edges x 7 operations; the search's own code writes them, for each
method and seed that config/paper.yaml's figures 1 to 5 look into; then its statistics and figures are made from them, each by its
command. Writes benchmarks/analysis.json and prints it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from midas.plan.check import load
from midas.running.memory import peak_resident
from midas.running.provenance import processor, versions

IMAGES, BATCH = 25_000, 64


def write(path: Path) -> int:
    """Write one dump, and say by how many bytes that raised this process's peak of memory."""
    import torch

    from midas.images.loader import Statistics, in_order
    from midas.images.reading import Images
    from midas.spaces import get_space
    from midas.training.dump import write_dump

    space = get_space("darts")
    kinds = [layer.kind for layer in space.skeleton(8)]
    edges, operations = len(space.cells[kinds[0]].edges), len(space.operations)
    labels = torch.arange(IMAGES) % 10

    class Played:
        """Weights that lean to one operation or another with the image's class."""

        def __init__(self) -> None:
            self.space, self.kinds, self.done = space, kinds, 0
            self.cells = [SimpleNamespace(mixing=SimpleNamespace(attends=True))]

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            self.count = len(x)
            return torch.zeros(len(x), 10)

        def mixture(self) -> tuple[torch.Tensor, torch.Tensor]:
            here = labels[self.done : self.done + self.count]
            self.done += self.count
            logits = 0.1 * torch.randn(self.count, len(kinds), edges, operations)
            logits[..., 1] += 0.02 * here[:, None, None]
            return logits.softmax(-1), torch.rand(self.count, len(kinds), 20)

    pixels = torch.zeros(IMAGES, 3, 4, 4, dtype=torch.uint8)
    images = Images(pixels, labels)
    before = peak_resident()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    statistics = Statistics(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    write_dump(path, Played(), in_order(images, statistics, BATCH), images.labels, names)  # type: ignore[arg-type]
    return peak_resident() - before


def clocked(*command: str, stdout: Any = None) -> dict[str, float]:
    """Seconds and peak memory of ``python -m`` a command (Linux); what it prints goes to `stdout`."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": usage.ru_maxrss * 1024}


def main() -> None:
    """Run from the command line; with a file's name it writes one dump there and prints the memory that took."""
    if len(sys.argv) == 2:
        print(write(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = yaml.safe_load(Path("config/paper.yaml").read_text()) | {"results_dir": folder, "figures_dir": folder}
        plan = load(raw)
        analysis = plan.config.analysis
        assert analysis is not None
        found: dict[str, Any] = {"processor": processor(), "versions": versions(), "rows": {}}
        for method in dict.fromkeys([analysis.method, *analysis.compare]):
            for seed in plan.config.seeds:
                path = plan.folder(analysis.space, analysis.dataset, method, seed) / "search/arch.npz"
                path.parent.mkdir(parents=True)
                found["rows"]["one dump"] = clocked("benchmarks.analysis", str(path))
        target = str(plan.root / "analysis")
        found["rows"]["statistics"] = clocked("midas.analysis.statistics", plan.present(), target)
        for number in (2, 3, 4, 5):
            found["rows"][f"figure {number}"] = clocked("midas.analysis.figures", plan.present(number), folder)
        found["dumps"] = len(list(Path(folder).rglob("arch.npz")))
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
