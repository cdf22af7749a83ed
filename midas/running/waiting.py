"""Waits that end: for a batch of worker processes, and of processes that train together for one another."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from midas.running.limits import RETRY, SIGNALS, AskedError, StuckError, asked, since_last_sign

LOOK_EVERY = 2.0
"""Seconds between looks at what asks this process to leave, while it waits for a batch."""
LONGEST = 600.0
"""Seconds that a batch may take, and one more for each of its images."""
GRACE = 10.0
"""Seconds without a step after which one of several processes that was asked to leave does so as it is."""
FEWER = "a smaller transfer.workers needs less, 0 none"
SHARED = Path("/dev/shm")
"""Through which torch's workers hand over their batches."""


class Awaited:
    """The batches of a loader whose workers may hang or be killed.

    Args:
        loader: of torch, with workers; its `timeout` and what begins its workers are set.
        alone: whether this process trains alone, so that it may leave while it waits.
    """

    def __init__(self, loader: DataLoader[Any], alone: bool):
        self.loader, self.alone = loader, alone
        loader.timeout = LOOK_EVERY
        loader.worker_init_fn = partial(_shielded, loader.worker_init_fn)
        self.longest = LONGEST + (loader.batch_size or 1)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches.

        Raises:
            StuckError: none came for long, or a worker was killed.
            AskedError: this process was asked to leave while it waited.
        """
        batches, start = _iterator(self.loader), time.monotonic()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:  # torch's for the end of a wait, too
                self._look(error, time.monotonic() - start)
                continue
            yield batch
            start = time.monotonic()

    def _look(self, error: RuntimeError, waited: float) -> None:
        """Raise what there is to raise after so many seconds; return if there is nothing yet."""
        killed, late = "exited unexpectedly" in str(error), str(error).startswith("DataLoader timed out")
        if not (killed or late):
            raise error
        why: Exception
        if self.alone and asked() is not None:
            why = AskedError()
        elif killed:
            why = StuckError(f"a process that reads images was killed, for lack of memory perhaps; {FEWER}")
        elif waited > self.longest:
            why = StuckError(f"no batch came for {waited:.0f} s; the disk may hang, or {SHARED} be full; {FEWER}")
        else:
            return
        _end_workers()  # torch would wait five seconds for each that hangs
        raise why from None


def _shielded(begin: Callable[[int], None] | None, worker: int) -> None:
    """Begin a worker that outlives what asks all processes of a job to leave: what it reads is needed up to the last step."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if begin is not None:
        begin(worker)


def _end_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


atexit.register(_end_workers)  # one that hangs would be waited for


def _iterator(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's, without torch's handler for the end of a worker: that raises an error in the midst of a training step."""
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    return batches


def check_shared_memory(image: tuple[int, int], batch: int, workers: int, batches: int, warns: bool = True) -> None:
    """Compare the room in shared memory with what workers hold at once.

    Args:
        image: height and width.
        batch: images in a batch, of all processes that train together.
        workers: of each of them.
        batches: of an epoch.
        warns: whether to say that there may be too little; one of several processes does.

    Raises:
        ValueError: not one batch has room.
    """
    try:
        found = os.statvfs(SHARED)
    except OSError:
        return  # another system's, or none
    if workers == 0 or found.f_blocks == 0:  # of no fixed size
        return
    room, one = found.f_bavail * found.f_frsize, batch * (3 * image[0] * image[1] + 8)
    most = one * min(2 * workers, batches)  # torch prepares two for each worker
    if room < one:
        raise ValueError(
            f"transfer.workers: {workers} is not allowed; a batch takes {_mb(one)} in {SHARED}, which has {_mb(room)} left (a "
            f"container's --shm-size); 0 needs none"
        )
    if room < most and warns:
        print(
            f"warning: transfer.workers: {workers} may hold {_mb(most)} at once in {SHARED}, which has {_mb(room)} left; should "
            f"it fill up, take fewer, or 0",
            file=sys.stderr,
            flush=True,
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:.3g} MB" if size < 1e9 else f"{size / 1e9:.3g} GB"


def leave_if_others_hang(where: str) -> None:
    """From now on, this process ends with `RETRY` where it was asked to by a signal and no step follows for `GRACE` seconds.

    For one of several that train together: it may wait for the others in a call that no signal interrupts, and one of them may
    hang. What it has computed since the last checkpoint is computed again.

    Args:
        where: name of the step.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to at once, whatever the main thread waits for

    def watch() -> None:
        while not set(os.read(reader, 100)) & set(SIGNALS):
            pass
        start = time.monotonic()
        while min(time.monotonic() - start, since_last_sign()) < GRACE:
            time.sleep(GRACE / 20)
        print(
            f"{where}: asked to leave, and no step for {GRACE:.0f} s; it goes on from its checkpoint", file=sys.stderr
        )
        sys.stderr.flush()
        _end_workers()
        os._exit(RETRY)

    threading.Thread(target=watch, daemon=True).start()
