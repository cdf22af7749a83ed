#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.15.0: equal tensors with equal metadata are not equal bytes. The format's metadata are a flat map from
# text to text, and the library writes its keys in an order that differs from call to call, within one process too, whatever the order
# of the dictionary that it is given; tensors have a fixed order. With one key (e.g. JSON text that holds all there is to say) the
# bytes are equal. Whoever compares files of weights by their sums finds them different with the same weights.
#
# Fails if 50 calls with four keys give one file, or 50 calls with one key several.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 safetensors==0.8.0 numpy==2.4.6 packaging
"$home/venv/bin/python" - <<'EOP'
import safetensors
import torch
from safetensors.torch import save

tensors = {"weight": torch.zeros(2), "bias": torch.ones(2)}
several = {save(tensors, {"channels": "16", "cells": "5", "classes": "10", "cell": "x"}) for _ in range(50)}
one = {save(tensors, {"network": '{"channels": 16, "cells": 5}'}) for _ in range(50)}
print(f"safetensors {safetensors.__version__}: {len(several)} different files of 50 with four keys of metadata, {len(one)} with one")
assert len(several) > 1
assert len(one) == 1
EOP
