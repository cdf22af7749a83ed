"""Compiles the Triton kernels of a slice for a GPU that isn't here, so that none of its minutes go into that.

``python -m benchmarks.lease.compiled FOLDER [--config FILE] [--capability 90]`` fills FOLDER/triton, the cache of kernels of a
slice, with the Triton that is installed (its version must be that of the GPU's machine). Kernels are compiled as a call with such
arguments would have them compiled, and not called: the passes run on the CPU, with whatever lies in memory in place of results.
What part 3 needs comes first; all of it takes some ten minutes of a core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.contest.contestants import CELLS
from benchmarks.lease.options import CONFIG
from benchmarks.lease.right import CASES, Case, batch, size_of
from benchmarks.lease.slices import SEARCHED
from midas.config.keys import parse
from midas.config.method import UNSEARCHED, Method
from midas.config.reading import read_config
from midas.config.settings import Search
from midas.methods.composition import compose
from midas.spaces import get_space
from midas.supernet.cpu import kernels
from midas.training.bilevel import Bilevel, make_supernet

CPU = torch.device("cpu")


@contextmanager
def without_gpu(instead: Callable[..., object]) -> Iterator[None]:
    """Within it, the kernels of a GPU take maps of the CPU, and `instead` is called with a kernel and its arguments.

    Nothing computes what they would. The CPU's own kernels are left alone.
    """
    import triton

    from midas.supernet.gpu import attention, attention_kernels, projected_kernels, sum_kernels, sums

    with ExitStack() as stack:
        for module in (sum_kernels, attention_kernels, projected_kernels):
            for kernel in vars(module).values():
                if isinstance(kernel, triton.JITFunction):
                    stack.enter_context(patch.object(kernel, "run", partial(instead, kernel)))
        stack.enter_context(patch.object(sums, "usable", lambda x: x.stride(1) == 1))
        stack.enter_context(patch.object(attention, "usable_rows", lambda *x: True))
        stack.enter_context(patch.object(kernels, "compiled", lambda: None))
        yield


def compiler(capability: int) -> Callable[..., object]:
    """Compiles a kernel for GPUs of a capability as a call with such arguments would."""
    import triton
    from triton.backends.compiler import GPUTarget

    target = GPUTarget("cuda", capability, 32)
    triton.runtime.driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
        )
    )
    return lambda kernel, *args, **options: triton.JITFunction.run(kernel, *args, **{**options, "warmup": True})


def passes(space: str, method: Method, x: torch.Tensor, y: torch.Tensor, **settings: Any) -> None:
    """One pass of the architecture and one of the weights."""
    search = Search(epochs=1, merge_edges=True, **settings)
    supernet = make_supernet(compose(method, get_space(space)), search, 10, CPU)
    supernet.triton = True
    if x.dtype == torch.float64:
        supernet.double()
    order = Bilevel(supernet, search, CPU)
    if order.architecture:
        order.passes.of_architecture((x, y))
    order.passes.of_weights((x, y))


def main() -> int:
    """Compile, what part 3 needs first."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lease.compiled", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="folder of the slice that will run")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the slice's searches")
    parser.add_argument("--capability", type=int, default=90, help="of the GPU, as 90 for Hopper")
    options = parser.parse_args()
    os.environ["TRITON_CACHE_DIR"] = str((options.folder / "triton").resolve())
    config, start = parse(read_config(options.config, [])), time.monotonic()
    channels = config.experiments[0].search.channels
    searched = [(SEARCHED, method, channels) for method in config.methods.values() if method.weights not in UNSEARCHED]
    measured = [(space, Method(weights=weights), 16) for space in CELLS for weights in ("attention", "static")]
    with without_gpu(compiler(options.capability)):
        for space, method, channels in (*searched, *measured):
            cells = 1 if space == SEARCHED else CELLS[space]  # all cells of a stage have the same kernels
            x, y = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
            passes(space, method, x, y, channels=channels, cells=cells, precision="bfloat16")
            _say(options.folder, start, f"{space}, {method.weights}, {channels} channels")
        for case in CASES:
            _check(case)
            _say(options.folder, start, f"part 1: {', '.join(case)}")
    return 0


def _check(case: Case) -> None:
    """The kernels of a case of part 1, in its three types."""
    size = size_of(case.space, tiny=False)
    x, y = batch(size)
    for of_type, precision in ((x, "float32"), (x.float(), "bfloat16"), (x.float(), "float32")):
        cells = get_space(case.space).min_cells
        passes(case.space, case.method, of_type, y, channels=size.channels, cells=cells, precision=precision)


def _say(folder: Path, start: float, what: str) -> None:
    count = sum(1 for _ in (folder / "triton").rglob("*.cubin"))
    print(f"{time.monotonic() - start:.0f} s: {count} kernels, {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
