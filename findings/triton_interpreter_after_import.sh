#!/usr/bin/env bash
# Triton 3.6.0 (torch 2.11.0, numpy 2.4.6): TRITON_INTERPRET=1 set after the first import of triton gives a mixture. A kernel that is
# decorated from then on is interpreted, but functions of triton.language that are kernels themselves (tl.sum, tl.zeros, ...) were
# decorated at the import and stay compiled: calling them ends in "Cannot call @triton.jit'd outside of the scope of a kernel".
# A kernel without them runs, so the variable seems to have worked. It bites where another package imports triton first (timm does).
#
# Fails if setting it late makes tl.sum run, or if setting it early doesn't.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.11.0 triton==3.6.0 numpy==2.4.6
cat > "$home/kernels.py" <<'EOF'
import triton
import triton.language as tl


@triton.jit
def copied(x, out):
    i = tl.arange(0, 4)
    tl.store(out + i, tl.load(x + i))


@triton.jit
def added_up(x, out):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, 4)), 0))
EOF
cat > "$home/run.py" <<'EOF'
import os
import sys

import torch

if sys.argv[1] == "late":
    import triton  # noqa: F401

os.environ["TRITON_INTERPRET"] = "1"
import kernels

x = torch.arange(4.0)
for kernel, expected in ((kernels.copied, x), (kernels.added_up, x.sum()[None])):
    out = torch.full_like(expected, -1)
    try:
        kernel[(1,)](x, out)
        print(kernel.fn.__name__, "right" if torch.equal(out, expected) else "wrong")
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        print(kernel.fn.__name__, f"{type(error).__name__}: {error}")
EOF
cd "$home"
late=$(venv/bin/python run.py late)
early=$(venv/bin/python run.py early)
printf 'set after the import of triton:\n%s\nset before:\n%s\n' "$late" "$early"
grep -q "^copied right" <<< "$late"
grep -q "^added_up .*outside of the scope of a kernel" <<< "$late"
grep -q "^added_up right" <<< "$early"
