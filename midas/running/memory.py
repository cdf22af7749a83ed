"""Memory of this process: its peak; and between the steps of a search kept and used again, in large pages.

A step allocates gigabytes of maps and frees them. By default the C library returns large blocks to the kernel at once, which
then hands out and clears page after page anew in each step.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from functools import cache
from pathlib import Path

TRIM_THRESHOLD, MMAP_MAX, MADV_HUGEPAGE = -1, -4, 14  # malloc.h, sys/mman.h


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory; False where the C library isn't glibc, and nothing was changed."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    libc.mallopt(MMAP_MAX, 0)  # all of it from the heap,
    libc.mallopt(TRIM_THRESHOLD, -1)  # whose end is never given back
    if _addresses_are_free():  # no memory is taken before it is written to, then in large pages
        reserved = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        start = libc.malloc(reserved)
        if start:
            first, last = -(-start >> 21) << 21, (start + reserved) >> 21 << 21
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_HUGEPAGE)
            libc.free(start)
    return True


def _addresses_are_free() -> bool:
    """Whether addresses may be reserved at no cost: without a limit on them, and without strict accounting of memory."""
    policy = Path("/proc/sys/vm/overcommit_memory")
    limits = {resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)}
    return limits == {resource.RLIM_INFINITY} and policy.exists() and policy.read_text().strip() != "2"


def peak_resident() -> int:
    """Peak resident memory of this process in bytes; ru_maxrss is in kilobytes on Linux and in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
