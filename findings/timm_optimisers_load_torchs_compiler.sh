#!/usr/bin/env bash
# timm 1.0.31 with torch 2.15.0 and torchvision 0.29.2: to import an optimiser or a learning rate schedule of timm is to import all its
# models, torchvision's too, and torch's compiler (torch._dynamo, torch._inductor), which torch alone doesn't load: some 1,500 modules
# and as long again as torch itself. The package imports everything at its top; torchvision's RoI operations ask for the compiler. There
# is no lighter door: a step that is short and wants one schedule pays for it at each start.
#
# Fails if timm.optim or timm.scheduler loads fewer than 1,000 modules, or not the compiler.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6
for part in optim scheduler; do
    "$home/venv/bin/python" - "$part" <<'EOP'
import importlib
import sys
import time

start = time.perf_counter()
import torch

alone, compiler = time.perf_counter() - start, ("torch._dynamo", "torch._inductor")
assert not any(name in sys.modules for name in compiler)
before, start = set(sys.modules), time.perf_counter()
importlib.import_module(f"timm.{sys.argv[1]}")
seconds, new = time.perf_counter() - start, set(sys.modules) - before
loaded = [name for name in (*compiler, "torchvision.models", "timm.models") if name in new]
print(f"torch {torch.__version__}: {alone:.1f} s; then timm.{sys.argv[1]}: {seconds:.1f} s, {len(new)} modules, among them {', '.join(loaded)}")
assert len(new) > 1000 and len(loaded) == 4
EOP
done
