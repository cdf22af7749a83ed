"""Part 2, how fast is it: each way against plain code in the same precision, several searches side by side, the floor.

``python -m benchmarks.lease.fast UNTIL`` measures ways that part 1 found right, in the folder of a slice, until a time. The
yardstick is `benchmarks.contest.plain`, a static supernet as public code writes it. A pass is forward and backward to all
parameters; a step of a search is two passes, both optimisers and the epoch's sums.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contest.contestants import CELLS, Contestant, stepper
from benchmarks.contest.turns import measure
from benchmarks.floor import PASSES, work_of
from benchmarks.lease.machine import machine
from benchmarks.lease.slices import SEARCHED, WAYS, Rows, Slice, left, own_failure, right_ways
from midas.measuring.timing import median_interval

TURNS = 6
"""Of the yardstick and of a way, one after the other; as many as an interval needs."""
TURN_SECONDS = {False: 0.15, True: 0.0}
"""That calls in a row take, by whether sizes are tiny."""
AT_ONCE = (1, 2, 4, 8)
PROCESSES = 4
START_SECONDS = 30.0
"""That so many processes may take to start."""
SEEDS = 4
"""As many would be stacked into one supernet."""


class Clock:
    """Times calls on one device and reads its memory.

    Args:
        device: which.
        turn_seconds: that calls in a row take.
    """

    def __init__(self, device: torch.device, turn_seconds: float):
        self.device, self.cuda, self.turn_seconds = device, device.type == "cuda", turn_seconds

    def wait(self) -> None:
        """For all that was launched."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def clear(self) -> None:
        """Give memory back that nothing holds."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def seconds(self, call: Callable[[], object], calls: int = 1) -> float:
        """Of a call, over `calls` in a row."""
        self.wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self.wait()
        return (time.perf_counter() - start) / calls

    def warm(self, call: Callable[[], object]) -> int:
        """Call it until kernels are chosen and graphs recorded; how many calls fill a turn."""
        taken = [self.seconds(call) for _ in range(6 if self.cuda else 2)]
        return max(1, round(self.turn_seconds / taken[-1]))

    def memory(self, make: Callable[[], Callable[[], object]]) -> tuple[Callable[[], object], int, int | None]:
        """What `make` makes, warm, calls of a turn, and the most memory that it took on a GPU."""
        self.clear()
        before = torch.cuda.memory_allocated(self.device) if self.cuda else 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        call = make()
        calls = self.warm(call)
        return call, calls, torch.cuda.max_memory_allocated(self.device) - before if self.cuda else None


def sized(asked: Slice, space: str, **more: Any) -> Contestant:
    """A contestant of the paper's size, or of a tiny one."""
    cells = {SEARCHED: 1, "darts": 3}
    size = {"channels": 2, "cells": cells[space], "batch": 2, "side": 16} if asked.tiny else {"cells": CELLS[space]}
    return Contestant(**{"kind": "pass", "space": space, "device": asked.device, "threads": 1, **size, **more})


def against(clock: Clock, base: Contestant, keys: dict[str, bool], rows: Rows, **what: Any) -> None:
    """Rows of a pass and a step by one way, turn by turn beside the yardstick."""
    plain, plain_calls, plain_bytes = clock.memory(partial(stepper, replace(base, kind="plain")))
    for kind, share in (("pass", 1), ("step", 2)):
        with own_failure(rows, **what, kind=kind):
            call, calls, taken = clock.memory(partial(stepper, replace(base, kind=kind, **keys)))  # type: ignore[arg-type]
            turns = [(clock.seconds(call, calls), clock.seconds(plain, plain_calls)) for _ in range(TURNS)]
            ratio, low, high = median_interval([mine / (share * theirs) for mine, theirs in turns])
            seconds, base_seconds = (statistics.median(times) for times in zip(*turns, strict=True))
            numbers = {"seconds": seconds, "plain_seconds": share * base_seconds}
            memory = {"peak_bytes": taken, "plain_peak_bytes": plain_bytes}
            rows.add(**what, kind=kind, **numbers, ratio=ratio, ratio_low=low, ratio_high=high, **memory)


def beside(clock: Clock, contestant: Contestant, count: int) -> dict[str, float]:
    """Seconds of a step, all of `count` searches counted, that take turns in one process, on a GPU each on its own stream."""
    steps = [stepper(contestant) for _ in range(count)]
    streams = [torch.cuda.Stream(clock.device) if clock.cuda else None for _ in steps]

    def round_of_all() -> None:
        for step, stream in zip(steps, streams, strict=True):
            with torch.cuda.stream(stream):
                step()

    calls = clock.warm(round_of_all)
    return {"step_seconds": statistics.median(clock.seconds(round_of_all, calls) for _ in range(3)) / count}


def in_processes(contestant: Contestant, count: int) -> dict[str, float]:
    """The same in a process each, which share the device."""
    turns = measure([contestant] * count, repeats=20, warm_up=6, at_once=True)
    slowest = [max(wall for wall, _, _ in together) for together in zip(*turns, strict=True)]
    return {"step_seconds": statistics.median(slowest) / count}


def stacked(clock: Clock, base: Contestant, channels: int) -> dict[str, float]:
    """What stacking seeds into one supernet would do to its 3x3 convolutions: grouped ones against one after the other."""
    side, dtype = 32 * base.channels // channels, torch.bfloat16
    x = torch.randn(base.batch, SEEDS * channels, side, side, device=clock.device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randn(SEEDS * channels, channels, 3, 3, device=clock.device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )

    def convolved(groups: int) -> None:
        for one, w in zip(x.chunk(SEEDS // groups, 1), weight.chunk(SEEDS // groups), strict=True):
            leaves = (
                one.detach().contiguous(memory_format=torch.channels_last).requires_grad_(),
                w.detach().requires_grad_(),
            )
            F.conv2d(*leaves, padding=1, groups=groups).sum().backward()

    found = {}
    for name, groups in (("grouped", SEEDS), ("one_by_one", 1)):
        call = partial(convolved, groups)
        found[f"{name}_seconds"] = clock.seconds(call, clock.warm(call))
    return found | {"ratio": found["grouped_seconds"] / found["one_by_one_seconds"]}


def floor(clock: Clock, base: Contestant) -> dict[str, Any]:
    """What a pass must take at least on this device: operations of its convolutions, bytes of its maps."""
    work, dtype = work_of(base), torch.bfloat16
    source = torch.ones(10_000_000 if base.device == "cpu" else 500_000_000, dtype=torch.uint8, device=clock.device)
    target, copies = torch.empty_like(source), 10
    bandwidth = 2 * len(source) / clock.seconds(lambda: target.copy_(source), copies)
    x = torch.randn(base.batch, 64, 16, 16, device=clock.device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randn(64, 64, 3, 3, device=clock.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    call = partial(F.conv2d, x, weight, padding=1)
    clock.warm(call)
    rate = 2 * x.numel() * 64 * 9 / clock.seconds(call, 20)
    return {
        **work,
        "bytes_per_second": bandwidth,
        "operations_per_second": rate,
        "operations_seconds": 6 * base.batch * work["multiply_adds"] / rate,
        "traffic_seconds": PASSES * 2 * base.batch * work["map_elements"] / bandwidth,
    }


def profile(clock: Clock, contestant: Contestant) -> dict[str, Any]:
    """Launches of a call, and what takes its time: the twelve kernels with the most."""
    call = stepper(contestant)
    clock.warm(call)
    kind = torch.profiler.ProfilerActivity.CUDA if clock.cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[kind]) as recorded:
        clock.seconds(call)
    name = "self_device_time_total" if clock.cuda else "self_cpu_time_total"
    launched = [event for event in recorded.key_averages() if getattr(event, name) > 0]  # less calls of the driver
    taken = sorted(launched, key=lambda event: -getattr(event, name))
    top = [{"kernel": e.key[:90], "calls": e.count, "seconds": getattr(e, name) / 1e6} for e in taken[:12]]
    seconds = sum(getattr(event, name) for event in taken) / 1e6
    return {"launches": sum(event.count for event in taken), "busy_seconds": seconds, "top": top}


def noted(rows: Rows, until: float, find: Callable[[], dict[str, Any]], **what: Any) -> None:
    """A row of what is found, if there is time left; of an error, if it fails."""
    if left(until) > 0:
        with own_failure(rows, **what):
            rows.add(**what, **find())


def main(until: float) -> None:
    """Measure, the most important first; what there is no time for is left out."""
    asked, rows = Slice.read(), Rows("fast")
    what: dict[str, Any]
    device, right = torch.device(asked.device), {space: right_ways(space) for space in (SEARCHED, "darts")}
    torch.set_num_threads(1)
    if not rows.begin(machine(device) | {"right": right}):
        return
    if asked.fail == "fast":
        raise RuntimeError("asked to fail")
    clock, last = Clock(device, TURN_SECONDS[asked.tiny]), right[SEARCHED][-1]
    base = sized(asked, SEARCHED, precision="bfloat16")
    chosen = replace(base, kind="step", **WAYS[last])  # type: ignore[arg-type]
    for space, ways in right.items():
        for way in reversed(ways):
            if left(until) > 0:
                what = {"what": "way", "space": space, "way": way, "precision": "bfloat16"}
                with own_failure(rows, **what):
                    against(clock, sized(asked, space, precision="bfloat16"), WAYS[way], rows, **what)
                clock.clear()
        for count in AT_ONCE[: 2 if asked.tiny else None] if space == SEARCHED else ():
            what = {"what": "at once", "way": last, "by": "one process", "searches": count}
            noted(rows, until, partial(beside, clock, chosen, count), **what)
    plainly = replace(chosen, **dict.fromkeys(WAYS[last], False))  # type: ignore[arg-type]
    others: dict[str, Callable[[], dict[str, Any]]] = {
        "floor": partial(floor, clock, base),
        "profile": partial(profile, clock, chosen),
        "profile, eager": partial(profile, clock, plainly),
        **{f"stacked {n} channels": partial(stacked, clock, base, n) for n in (16, 32, 64)},
    }
    for name, find in others.items():
        noted(rows, until, find, what=name, way=last)
    if clock.cuda:
        what = {"what": "at once", "way": last, "by": "processes", "searches": PROCESSES}
        noted(rows, until - START_SECONDS, partial(in_processes, chosen, PROCESSES), **what)
    rows.end()


if __name__ == "__main__":
    main(float(sys.argv[1]))
