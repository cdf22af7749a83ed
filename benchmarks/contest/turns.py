"""How do contestants take their turns? Each in a process of its own, one after the other or all at once."""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from benchmarks.contest.contestants import Contestant, stepper
from midas.running.memory import peak_resident
from midas.spaces import get_space

Turns = list[tuple[float, float, int]]
"""(Wall seconds, CPU seconds, peak bytes) of each turn."""


def work(connection: Connection, contestant: Contestant) -> None:
    """A process: (wall seconds, CPU seconds, peak bytes) of a turn for each message that comes."""
    torch.set_num_threads(contestant.threads)
    cuda = contestant.device == "cuda"
    # with fewer oneDNN crashes on large maps, see `midas.plan.check`; partial channels are a quarter of them
    channels = 16 if contestant.kind.endswith("transfer") else 4 if contestant.method.partial else 2
    smallest = replace(
        contestant, batch=2, channels=channels, cells=get_space(contestant.space).min_cells, cuda_graph=False
    )
    if not cuda:
        stepper(smallest)()
    before = 0 if cuda else peak_resident()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    step = stepper(contestant)
    while connection.recv():
        start, cpu = time.perf_counter(), time.process_time()
        step()
        if cuda:
            torch.cuda.synchronize()
        taken = time.perf_counter() - start, time.process_time() - cpu
        connection.send((*taken, torch.cuda.max_memory_allocated() if cuda else peak_resident() - before))


def measure(contestants: list[Contestant], repeats: int, warm_up: int = 2, at_once: bool = False) -> list[Turns]:
    """Turns of each contestant, `warm_up` of each before those that count; one after the other, or all at once."""
    context, started = multiprocessing.get_context("spawn"), []
    for contestant in contestants:
        mine, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, contestant), daemon=True)
        process.start()
        theirs.close()
        started.append((process, mine))
    turns: list[Turns] = [[] for _ in contestants]
    for repeat in range(warm_up + repeats):
        order = list(zip(turns, started, contestants, strict=True))[:: -1 if repeat % 2 else 1]
        for group in [order] if at_once else [[one] for one in order]:
            for _, (_, connection), _ in group:
                connection.send(True)
            for own, (_, connection), contestant in group:
                try:
                    own.append(connection.recv())
                except EOFError:
                    sys.exit(f"{contestant}: its process ended; most likely memory didn't suffice")
    for process, connection in started:
        connection.send(False)
        process.join()
    return [found[warm_up:] for found in turns]
