#!/usr/bin/env bash
# torch 2.15.0: with one seed, torch.randn_like draws other noise for a tensor in channels-last than for the same tensor in the default
# layout: numbers are handed out in the order of memory. memory_format=torch.contiguous_format gives a seed one meaning again (then
# convert). A network with a noise operation that is run once in each layout, with one seed, gives other outputs, which looks like a
# fault of the faster layout.
#
# Fails if the two draws are equal, or those in one layout are not.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$home/venv/bin/python" - <<'EOF'
import torch

x = torch.zeros(2, 3, 4, 4)
last = x.to(memory_format=torch.channels_last)


def drawn(x, **options):
    torch.manual_seed(0)
    return torch.randn_like(x, **options)


followed = torch.equal(drawn(x), drawn(last))
asked = torch.equal(drawn(x), drawn(last, memory_format=torch.contiguous_format))
print(f"torch {torch.__version__}: equal in both layouts: {followed}; where the default layout is asked for: {asked}")
assert not followed and asked
EOF
