"""Part 3: searches side by side on one device until the time is up, each resumed from where the slice before left it.

``python -m benchmarks.lease.searches UNTIL`` runs those of config.yaml in the folder of a slice, method by method and seed by
seed, as many at once as part 2 found to pay. Each is the pipeline's own search: same files, checkpoint and log in the same
folders. On a GPU each has a stream of its own. Finished ones are decoded and, where there is a table, looked up.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.lease.machine import machine
from benchmarks.lease.slices import STRUCK, Rows, Slice, left
from midas.config.keys import parse
from midas.data import prepare
from midas.decode import decode
from midas.images.halves import search_halves
from midas.images.reading import Images, load
from midas.lookup import lookup
from midas.plan.cells import Cell
from midas.plan.plan import Plan
from midas.plan.runs import DataRun, DecodeRun, LookupRun, SearchRun, decisive, identity_of
from midas.running.checkpoint import differences, read
from midas.running.limits import Limits, asked, listen
from midas.search import digests, searching
from midas.training.recorded import RecordingError

SAVE_EVERY = 30.0
LEAVE = {False: 15.0, True: 3.0}
"""Seconds before the end at which searches leave, by whether sizes are tiny; one that ends just then still writes."""
ROUNDING = {"cuda_graph", "triton"}
"""Keys of a search that change rounding alone: another slice may have others."""
UNKNOWN = {"cuda": 4, "cpu": 1}
"""Searches at once where part 2 didn't say how many pay."""
ENOUGH = 1.05
"""Fewer at once are preferred where a step takes at most so much longer."""


def at_once(rows: list[dict[str, Any]], device: str) -> int:
    """The fewest searches at once, in one process, at which a step takes about the least time, all of them counted."""
    seconds = {r["searches"]: r["step_seconds"] for r in rows if r.get("by") == "one process" and "step_seconds" in r}
    if not seconds:
        return UNKNOWN[device]
    return min(count for count, taken in seconds.items() if taken <= ENOUGH * min(seconds.values()))


def completed(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity with the keys that its code didn't know yet, at their defaults."""
    try:
        run = SearchRun.model_validate(identity["config"] | identity["machine"])
    except (KeyError, TypeError, ValueError):  # it has keys that this code doesn't know
        return identity
    return identity | {"config": without_rounding(run)}


def without_rounding(run: SearchRun) -> dict[str, Any]:
    """What decides the numbers of a search, less the keys that change rounding alone."""
    config = decisive(run)
    return config | {"search": {key: value for key, value in config["search"].items() if key not in ROUNDING}}


Starting = Callable[["Searched"], str | None]


class Searched:
    """One search of this slice.

    Args:
        plan: of the configuration.
        cell: which.
    """

    def __init__(self, plan: Plan, cell: Cell):
        self.plan, self.cell = plan, cell
        self.folder = plan.cell_folder(cell)
        self.names: dict[str, Any] = {"method": cell.method, "seed": cell.seed}
        self.steps: Iterator[tuple[int, int]] | None = None
        self.stream: torch.cuda.Stream | None = None
        self.place = (0, 0)
        self.said = time.monotonic()

    @cached_property
    def run(self) -> SearchRun:
        """What it is told."""
        return SearchRun.model_validate_json(self._run("search"))

    def _run(self, step: str) -> str:
        experiment = self.cell.experiment
        return self.plan.run(step, experiment.space, experiment.dataset, **self.names)

    @property
    def finished(self) -> bool:
        """Whether all of its files are there."""
        last = "lookup/metrics.json" if self.plan.config.nas_bench_201_table else "decode/genotype.json"
        return (self.folder / last).exists()

    def identity(self, device: torch.device, data: dict[str, str]) -> dict[str, Any]:
        """What a checkpoint must be of to be gone on with: by the contents of the data, wherever they lie."""
        return identity_of("search", self.run, device, **data) | {"config": without_rounding(self.run)}

    def start(self, images: Images, device: torch.device, data: dict[str, str], other_code: bool) -> str | None:
        """Begin or go on; why not, if not."""
        wanted = self.identity(device, data)
        try:
            there = read(self.folder / "search_checkpoint/newest.pt")["identity"]
        except (FileNotFoundError, ValueError):  # none, or damaged, which the checkpoint says and passes over
            there = wanted
        differing = list(differences(completed(there), wanted))
        by_code = [difference.split(":")[0] for difference in differing] == ["source_digest"]
        if differing and not (other_code and by_code):
            way = "; --other-code goes on with it" if by_code else ""
            return f"its checkpoint is kept and not gone on with: {'; '.join(differing)}{way}"
        if (self.folder / "search/metrics.json").exists():
            self.steps = iter(())
        else:
            self.steps = searching(self.run, self.folder / "search", device, images, there)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        return None

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """On its own stream, what it prints in its own log, as the workflow's rule has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            log = stack.enter_context((self.folder / "search.log").open("a"))
            stack.enter_context(redirect_stderr(log))
            stack.enter_context(redirect_stdout(log))
            stack.enter_context(torch.cuda.stream(self.stream))
            yield

    def advance(self) -> bool:
        """Take a step; False when there is none left and all files are written."""
        assert self.steps is not None
        with self._apart():
            if (place := next(self.steps, None)) is not None:
                self.place = place
                return True
            decode(DecodeRun.model_validate_json(self._run("decode")), self.folder / "decode")
            if self.plan.config.nas_bench_201_table:
                lookup(LookupRun.model_validate_json(self._run("lookup")), self.folder / "lookup")
            return False

    def kept(self, epoch_steps: int) -> dict[str, Any]:
        """Epochs that are done and kept, those of `epoch_steps`, and seconds of each."""
        try:
            state = read(self.folder / "search_checkpoint/newest.pt")["state"]
        except (OSError, ValueError):  # its own load says so and passes over it
            state = {"history": [], "seconds": 0.0}
        step = state["within"]["step"] if state.get("within") else 0
        epochs = len(state["history"]) + step / epoch_steps
        of = self.run.search.epochs
        return {"epochs": round(epochs, 3), "of": of, "epoch_seconds": state["seconds"] / epochs if epochs else None}


def take_turns(waiting: deque[Searched], count: int, start: Starting, epoch_steps: int, rows: Rows) -> None:
    """Step by step, `count` at once; one that fails is left out, and when it is time to leave none is begun.

    Args:
        waiting: searches.
        count: of them at once.
        start: begins one; why not, if not.
        epoch_steps: of each.
        rows: where it is said how far they are.
    """
    running: list[Searched] = []
    while running or (waiting and not asked()):
        while waiting and len(running) < count and not asked():
            search = waiting.popleft()
            if reason := start(search):
                rows.add(**search.names, state="kept", error=reason)
            else:
                running.append(search)
        for search in list(running):
            if state := _state_after(search, epoch_steps, rows):
                running.remove(search)
                rows.add(**search.names, state=state, **search.kept(epoch_steps))


def _state_after(search: Searched, epoch_steps: int, rows: Rows) -> str | None:
    """Take a step of a search; how it ended, if it did."""
    try:
        if not search.advance():
            return "finished"
    except SystemExit:  # asked to leave, it has saved
        return "unfinished"
    except Exception as error:
        with (search.folder / "search.log").open("a") as log:
            traceback.print_exc(file=log)
        rows.add(**search.names, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if isinstance(error, RecordingError):  # others' checkpoints are at most as old as they are saved
            sys.exit(STRUCK)
        return "failed"
    if time.monotonic() - search.said > SAVE_EVERY:
        search.said, (epoch, step) = time.monotonic(), search.place
        rows.add(
            **search.names, state="unfinished", epochs=round(epoch + step / epoch_steps, 3), of=search.run.search.epochs
        )
    return None


def halves_of(plan: Plan, run: SearchRun) -> tuple[Tensor, Tensor]:
    """Indices of the halves; what is known of the images goes where the workflow has it."""
    prepare(DataRun(dataset=run.dataset), Path("rows/data"))
    facts = Path("rows/data/metrics.json")
    target = plan.root / "data" / run.dataset.name / "metrics.json"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(facts, target)
    return search_halves(run.dataset, json.loads(facts.read_text())["train_images"])


def main(until: float) -> None:
    """Search until the time is up."""
    told, rows = Slice.read(), Rows("search")
    if told.fail == "search":
        raise RuntimeError("asked to fail")
    device = torch.device(told.device)
    torch.set_num_threads(1)
    plan = Plan(parse(yaml.safe_load(Path("config.yaml").read_text())))
    searches = [Searched(plan, cell) for cell in plan.cells(searched=True)]
    waiting = deque(search for search in searches if not search.finished)
    if not waiting:
        return
    listen(Limits(time.monotonic() + left(until), LEAVE[told.tiny], SAVE_EVERY))
    run = waiting[0].run
    halves, (images, _) = halves_of(plan, run), load(run.dataset, device)
    data, epoch_steps = digests(images, halves), min(map(len, halves)) // run.search.batch_size
    count = told.at_once or at_once(Rows("fast").read(), told.device)
    search_settings = waiting[0].run.search.model_dump(mode="json", include={"precision", "merge_edges", *ROUNDING})
    Rows("slices").add(**machine(device), **search_settings, at_once=count, minutes=told.minutes)
    take_turns(waiting, count, lambda search: search.start(images, device, data, told.other_code), epoch_steps, rows)


if __name__ == "__main__":
    main(float(sys.argv[1]))
