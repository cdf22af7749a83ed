#!/usr/bin/env bash
# torch 2.15.0: torch.backends.cpu.get_cpu_capability() looks like what a run's rounding depends on, but it names torch's own kernels
# alone. Convolutions are oneDNN's, which chooses by the processor (and ONEDNN_MAX_CPU_ISA): one seed, one "AVX512", and a bfloat16
# convolution with other values with and without AVX512 or matrix units. Machines of equal capability need not give equal bytes; record
# torch.cpu.get_capabilities() too. (Wants a processor with AVX512; ends with 77 on others.)
#
# Fails if the values are equal, or if the capability says that they may differ.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
grep -q avx512f /proc/cpuinfo || { echo "no AVX512 here"; exit 77; }
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cat > "$home/conv.py" <<'EOF'
import hashlib

import torch

torch.manual_seed(0)
x = torch.randn(64, 16, 32, 32).bfloat16().to(memory_format=torch.channels_last)
y = torch.nn.functional.conv2d(x, torch.randn(16, 16, 3, 3).bfloat16(), padding=1)
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(y.float().numpy().tobytes()).hexdigest()[:8])
EOF
read -r whole values <<< "$(ONEDNN_MAX_CPU_ISA=DEFAULT "$home/venv/bin/python" "$home/conv.py")"
read -r limited others <<< "$(ONEDNN_MAX_CPU_ISA=AVX2 "$home/venv/bin/python" "$home/conv.py")"
echo "torch 2.15.0: capability $whole, convolution $values; oneDNN limited to AVX2: capability $limited, convolution $others"
[ "$whole" = "$limited" ] && [ "$values" != "$others" ]
