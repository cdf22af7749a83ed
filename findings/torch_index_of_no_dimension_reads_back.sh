#!/usr/bin/env bash
# torch 2.15.0 (2.11.0 too): x[i] with an integer tensor i of no dimension is not an index on the device. The value is read back to the
# host (aten::_local_scalar_dense), then a plain select follows: on a GPU a wait for all work before it, within a CUDA graph's recording
# an error. The same number as a tensor of one element and one dimension stays on the device, by x[i] as by index_select.
#
# Fails if a tensor of no dimension is no longer read back, or one of one dimension is.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$home/venv/bin/python" - <<'EOF'
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Called(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


x, found = torch.randn(4, 3), {}
for name, call in {
    "x[tensor(0)]": lambda: x[torch.zeros((), dtype=torch.int64)],
    "x[tensor([0])]": lambda: x[torch.zeros(1, dtype=torch.int64)],
    "x.index_select(0, tensor([0]))": lambda: x.index_select(0, torch.zeros(1, dtype=torch.int64)),
}.items():
    names = []
    with Called():
        call()
    found[name] = "_local_scalar_dense" in names
    print(f"torch {torch.__version__}: {name}: {', '.join(names)}")
assert list(found.values()) == [True, False, False], found
EOF
