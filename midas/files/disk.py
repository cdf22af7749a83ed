"""Locks, and writing through to the disk, where a file system has them; where it hasn't, a warning and on.

Parallel file systems, network mounts and shared folders of virtual machines may lack either. Nothing here needs torch.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

LACKING = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What a file system answers that doesn't know a call."""
NO_LOCKS = LACKING | {errno.ENOLCK, errno.EBADF}
"""The second is NFS's, of a file that is open for reading."""
NO_FOLDERS = LACKING | {errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}
"""Of a folder that can't be opened, or not be written through."""


def claim(descriptor: int, path: Path) -> bool:
    """Lock an open file for this process; False where its file system has no locks, which is said once.

    Raises:
        BlockingIOError: another process has it.
        OSError: another error.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _say("has no locks: nothing stops two jobs from working on one folder or GPU", path, error)
        return False
    return True


def flush(descriptor: int, path: Path) -> None:
    """Write a file through to the disk, where its file system can.

    Raises:
        OSError: it can, but fails: a full or a broken disk.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        _pass_over(error, LACKING, path)


def flush_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk, where its file system can.

    Raises:
        OSError: it can, but fails.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _pass_over(error, NO_FOLDERS, folder)


def _pass_over(error: OSError, lacking: set[int], path: Path) -> None:
    if error.errno not in lacking:
        raise error
    _say("can't be told to write at once: a power failure may cost the newest checkpoint", path, error)


_said: set[str] = set()


def _say(what: str, path: Path, error: OSError) -> None:
    """Say it once a process, of the first path."""
    if what not in _said:
        print(f"warning: the file system of {path} {what} ({error.strerror})", file=sys.stderr, flush=True)
    _said.add(what)
