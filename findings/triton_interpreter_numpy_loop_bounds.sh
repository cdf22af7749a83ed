#!/usr/bin/env bash
# Triton 3.6.0 (torch 2.11.0): in the interpreter, a loop whose bound is an argument of the kernel, range(0, n), runs with numpy 2.3.5
# and ends in a TypeError with numpy 2.4.6, which no longer turns an array of one dimension and one element into a number. Nothing in
# Triton's requirements says so: numpy stands there for its own tests alone, without a version. The same kernel compiled for a GPU is not concerned.
#
# Fails if both versions of numpy give the same.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cat > "$home/run.py" <<'EOF'
import numpy
import torch
import triton
import triton.language as tl


@triton.jit
def counted(out, n):
    total = 0
    for _ in range(0, n):
        total += 1
    tl.store(out, total)


out = torch.zeros(1, dtype=torch.int32)
try:
    counted[(1,)](out, 3)
    print(f"numpy {numpy.__version__}: {out.item()} turns")
except Exception as error:
    while error.__cause__ is not None:
        error = error.__cause__
    print(f"numpy {numpy.__version__}: {type(error).__name__}: {error}")
EOF
python3 -m venv "$home/venv"
cd "$home"
venv/bin/pip install --quiet torch==2.11.0 triton==3.6.0 numpy==2.3.5
older=$(TRITON_INTERPRET=1 venv/bin/python run.py)
venv/bin/pip install --quiet numpy==2.4.6
newer=$(TRITON_INTERPRET=1 venv/bin/python run.py)
printf '%s\n%s\n' "$older" "$newer"
grep -q "numpy 2.3.5: 3 turns" <<< "$older"
grep -q "numpy 2.4.6: TypeError" <<< "$newer"
