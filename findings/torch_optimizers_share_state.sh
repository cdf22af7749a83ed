#!/usr/bin/env bash
# torch 2.15.0 (2.11.0 too): optimizer.load_state_dict does not copy. It copies the dictionaries, and a tensor only if device or type
# change. Two optimizers restored from one state_dict, or one from the other's, then have the same momentum: a step of either moves the
# buffers of both, and nothing says so. Module.load_state_dict, which is called beside it, does copy. (Seeds or replicas that branch off
# from one checkpoint within a process are the case; reading the file once for each, or copy.deepcopy, avoids it.)
#
# Fails if the buffers are no longer shared.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$home/venv/bin/python" - <<'EOF'
import torch

first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
sgd = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (first, second)]
first(torch.ones(1, 2)).sum().backward()
sgd[0].step()
second.load_state_dict(first.state_dict())
sgd[1].load_state_dict(sgd[0].state_dict())
buffers = [o.state[m.weight]["momentum_buffer"] for o, m in zip(sgd, (first, second))]
before = buffers[1].clone()
sgd[0].step()
shared, moved = buffers[0].data_ptr() == buffers[1].data_ptr(), not torch.equal(before, buffers[1])
weights = first.weight.data_ptr() == second.weight.data_ptr()
print(f"torch {torch.__version__}: momentum shared: {shared}, moved by the other's step: {moved}, weights shared: {weights}")
assert shared and moved and not weights
EOF
