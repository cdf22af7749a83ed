"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from midas.running.memory import keep_freed_memory

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

kept = keep_freed_memory()
before = resident()
maps = [torch.ones(16 << 20) for _ in range(4)]  # 64 MB each
full = resident() - before
del maps
print(kept, full, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of other systems isn't spoken to")
def test_freed_memory_stays_and_nothing_is_taken_in_advance():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, full, after = done.stdout.split()
    assert 250 < float(full) < 400, "megabytes: what was allocated, and no more"
    assert kept == "False" or float(after) > 0.9 * float(full)
