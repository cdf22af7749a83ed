"""Part 4, the report: one page of all that the slices of a folder have found, for people and as JSON; and what is packed.

Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lease import packing
from benchmarks.lease.slices import SEARCHED, WAYS, Rows, Slice, is_wrong, right_ways
from midas.analysis.claims.judging import judge
from midas.analysis.tables.accuracy import BENCHMARK_DATA
from midas.config.keys import ConfigError, parse
from midas.files.writing import write_text
from midas.plan.cells import Cell
from midas.plan.claims import read_claims
from midas.plan.plan import Plan
from midas.running.provenance import ROOT, commit
from midas.spaces.benchmark import ACCURACIES

CLAIM = "C1"
AIM_RATIO, AIM_STEP_SECONDS = 0.2, 0.009
"""Of a training pass to plain code's; of a search step, all searches at once counted: four of 50 epochs in 12 minutes."""


def write(asked: Slice, failed: list[str], stopped: str | None = None) -> str:
    """Write report.md, report.json and carry/.

    Args:
        asked: for what was asked.
        failed: a line for each part that failed.
        stopped: why the slice ended early, if it did.

    Returns:
        The page.
    """
    plan, damaged = None, []
    if Path("config.yaml").exists():
        try:
            plan = Plan(parse(yaml.safe_load(Path("config.yaml").read_text())))
        except (yaml.YAMLError, ConfigError, UnicodeDecodeError) as error:
            damaged.append(f"config.yaml ({' '.join(str(error).split())[:200]})")
    searches = [] if plan is None else [state_of(plan, cell) for cell in plan.cells(searched=True)]
    unfinished = [row for row in searches if row["state"] != "finished"]
    unfinished.sort(key=lambda row: (-row["epochs"], row["method"], row["seed"]))
    machine = next((m for name in ("slices", *(f"right_{w}" for w in WAYS), "fast") if (m := _machine(Rows(name)))), {})
    digest, without = packing.pack([Path(row["folder"]) for row in unfinished])
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "machine": machine,
        "asked": {key: getattr(asked, key) for key in ("device", "minutes", "only")},
        "size": None if plan is None else plan.config.size,
        "failed": failed,
        "stopped": stopped,
        "right": {way: Rows(f"right_{way}").read() for way in WAYS},
        "fast": Rows("fast").read(),
        "slices": Rows("slices").read(),
        "searches": searches,
        "claim": None if plan is None or plan.config.nas_bench_201_table is None else verdict(plan),
        "packed": {"sha256": digest, "without": [*damaged, *without]},
    }
    text = "\n".join(_page(found)) + "\n"
    for folder in (Path(), packing.CARRY):
        write_text(folder / "report.md", text)
        write_text(folder / "report.json", json.dumps(found, indent=1) + "\n")
    return text


def _machine(rows: Rows) -> dict[str, Any] | None:
    return rows.machine or next((row for row in reversed(rows.read()) if "device" in row), None)


def state_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """How far a search is, and what it found."""
    folder = plan.cell_folder(cell)
    own = [r for r in Rows("search").read() if (r.get("method"), r.get("seed")) == (cell.method, cell.seed)]
    row: dict[str, Any] = {"method": cell.method, "seed": cell.seed, "folder": folder.as_posix(), "epochs": 0}
    row |= {"of": cell.experiment.search.epochs, "state": "not begun"}
    if (folder / "search_checkpoint/newest.pt").exists():
        row["state"] = "unfinished"
    for known in own:
        row |= known
    try:
        if (cost := _json(folder / "search/metrics.json")) is not None:
            row |= {"epochs": row["of"], "epoch_seconds": cost["cost"]["wall_seconds"] / row["of"]}
            row |= {"begun_by_source": cost["cost"].get("begun_by_source")}
        if (genotype := _json(folder / "decode/genotype.json")) is not None:
            row |= {"genotype": genotype["text"], "state": "finished"}
        if (lookup := _json(folder / "lookup/metrics.json")) is not None:
            row |= {"cell": lookup["cell"]}
    except (ValueError, KeyError, TypeError) as error:
        row |= {"state": "damaged", "error": f"{folder}: {type(error).__name__}: {error}"}
    return row


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def verdict(plan: Plan) -> dict[str, Any] | None:
    """The claim on this space, by the seeds that are finished; None where none is."""
    only = [e.model_copy(update={"methods": ["midas"], "ablation": []}) for e in plan.config.experiments]
    claims = read_claims(ROOT / "config/claims.yaml")
    claim = next(claim for claim in claims.claims if claim.id == CLAIM)
    try:
        return judge(Plan(plan.config.model_copy(update={"experiments": only})).finished(), claims, claim)
    except (ConfigError, KeyError, TypeError, ValueError):  # nothing is finished, or a file is damaged, as its row says
        return None


def _page(found: dict[str, Any]) -> Iterator[str]:
    yield from ("# A slice of a GPU's time" if found["asked"]["device"] == "cuda" else "# A slice of a CPU's time", "")
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    source = f"source {machine.get('source_digest')}, commit {found['commit'] or 'unknown'}"
    yield f"{found['date']}, {machine.get('device', 'no device was used yet')}; {versions or 'no versions'}; {source}."
    yield f"Slices that have searched: {len(found['slices'])}. The numbers are in report.json; they come from rows/ and results/."
    if str(found["size"]).endswith("tiny"):
        yield from (
            "",
            "Tiny sizes, to show that the command works: no number here says anything of a GPU or of a method.",
        )
    if found["stopped"]:
        yield from ("", f"This slice was {found['stopped']} before its end.")
    if found["failed"]:
        yield from ("", "**Failed:**", "", *(f"- {line}" for line in found["failed"]))
    yield from ("", "## Right", "", *_right(found["right"]))
    yield from ("", "## Fast", "", *_fast(found["fast"]))
    yield from ("", "## Searches", "", *_searches(found))
    yield from ("", "## To take along", "", *_files(found["packed"]["without"]))


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join('' if value is None else str(value) for value in row)} |"


def _right(by_way: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield "Ways to compute a search against torch's own code on the CPU, and recorded steps against the same one by one."
    yield "eager: a module for each edge; merged: edges side by side; graph: and each step recorded; kernels: and sums in Triton."
    yield ""
    rows = []
    for way, found in by_way.items():
        for space in dict.fromkeys(row["space"] for row in found if "space" in row):
            own = [row for row in found if row.get("space") == space]
            worst = [_worst(own, check) for check in ("float64", "float32", "bfloat16", "graph")]
            rows.append([way, space, f"{sum(bool(row.get('passed')) for row in own)} of {len(own)}", *worst])
    differ = ("float64", "float32 (1 - cosine)", "bfloat16 (1 - cosine)", "graph")
    yield from _table(["way", "space", "checks passed", *(f"largest difference, {name}" for name in differ)], rows)
    yield ""
    wrong = [way for way in WAYS if is_wrong(way, SEARCHED)]
    nothing = "none yet: not all was checked in time" if not wrong else f"none; wrong: {', '.join(wrong)}"
    yield f"Right for {SEARCHED}: {', '.join(right_ways(SEARCHED)) or nothing}."
    for way, found in by_way.items():
        for row in found:
            if not row.get("passed", False):
                what = ", ".join(
                    str(row[key]) for key in ("space", "weights", "distribution", "normalise", "check") if key in row
                )
                yield f"- {way}: {what}: {row.get('error') or row.get('difference')}"


def _worst(rows: list[dict[str, Any]], check: str) -> str:
    found = [row["difference"] for row in rows if row.get("check") == check]
    values = [one["cosine"] if isinstance(one, dict) else one for one in found]
    return f"{max(values):.1e}" if values else ""


def _fast(rows: list[dict[str, Any]]) -> Iterator[str]:
    def line(r: dict[str, Any]) -> list[object]:
        start = [r["space"], r["way"], r.get("kind")]
        if "error" in r:
            return [*start, r["error"], None, None, None, None]
        interval = "" if r["ratio_low"] is None else f" ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})"
        memory = [None if r[key] is None else f"{r[key] / 1e9:.2f}" for key in ("peak_bytes", "plain_peak_bytes")]
        aim = {True: "yes", False: "no"}[r["ratio"] <= AIM_RATIO] if r["kind"] == "pass" else None
        return [*start, f"{1000 * r['seconds']:.2f}", f"{r['ratio']:.3f}{interval}", aim, *memory]

    yield "Beside plain code's static supernet in the same precision, turn by turn; in brackets the 95 % interval of the median."
    yield ""
    head = [
        "space",
        "way",
        "pass or search step",
        "ms",
        "of plain code's time",
        f"aim: at most {AIM_RATIO}",
        "GB",
        "plain GB",
    ]
    yield from _table(head, map(line, (r for r in rows if r.get("what") == "way")))
    beside = [r for r in rows if r.get("what") == "at once"]
    if beside:
        yield ""
        head = ["searches at once", "by", "ms a step, all counted", f"aim: at most {1000 * AIM_STEP_SECONDS:.0f} ms"]
        yield from _table(head, map(_beside, beside))
    for r in rows:
        if r.get("what") not in (None, "way", "at once"):
            yield from ("", f"**{r['what']}**: {r.get('error') or _in_words(r)}")


def _beside(r: dict[str, Any]) -> list[object]:
    if "error" in r:
        return [r["searches"], r["by"], r["error"], None]
    reached = "yes" if r["step_seconds"] <= AIM_STEP_SECONDS else "no"
    return [r["searches"], r["by"], f"{1000 * r['step_seconds']:.2f}", reached]


def _in_words(r: dict[str, Any]) -> str:
    if "operations_seconds" in r:
        return (
            f"a pass takes at least {1000 * r['operations_seconds']:.2f} ms for the convolutions' operations "
            f"({r['operations_per_second'] / 1e12:.2f} T operations a second measured), {1000 * r['traffic_seconds']:.2f} ms for "
            f"moving the maps ({r['bytes_per_second'] / 1e9:.0f} GB/s measured)"
        )
    if "top" in r:
        kernels = "; ".join(f"{k['kernel'][:40]} {1000 * k['seconds']:.2f} ms in {k['calls']}" for k in r["top"][:5])
        return f"{r['launches']} launches of a search step, busy for {1000 * r['busy_seconds']:.2f} ms; most: {kernels}"
    return f"3x3 convolutions of four seeds stacked into one supernet would take {r['ratio']:.2f} of their time in turn"


def _searches(found: dict[str, Any]) -> Iterator[str]:
    columns = [name for name in ACCURACIES if any("cell" in row for row in found["searches"])]

    def line(row: dict[str, Any]) -> list[object]:
        cell, seconds = row.get("cell", {}), row.get("epoch_seconds")
        what = row.get("error") if row["state"] in ("kept", "failed", "damaged") else row.get("genotype")
        facts = [None if not cell else f"{cell[name]:.2f}" for name in columns]
        taken, epochs = f"{seconds:.1f}" if seconds else None, f"{row['epochs']:.4g} of {row['of']}"
        state = f"{row['state']}, begun by other code" if row.get("begun_by_source") else row["state"]
        return [row["method"], row["seed"], state, epochs, taken, cell.get("index"), *facts, _code(what)]

    names = [f"{BENCHMARK_DATA[name.split('_')[0]]} {name.split('_')[1]} (%)" for name in columns]
    head = ["method", "seed", "state", "epochs", "seconds an epoch", "cell no.", *names, "cell, or why not"]
    yield from _table(head, map(line, found["searches"]))
    if found["slices"]:
        last = found["slices"][-1]
        way = "merged edges" if last["merge_edges"] else "a module for each edge"
        way += ", recorded" * last["cuda_graph"] + ", Triton's kernels" * last["triton"]
        yield from (
            "",
            f"Searched last in {last['precision']}, {way}, {last['at_once']} at once, which seconds an epoch include.",
        )
    missing = [row for row in found["searches"] if row["state"] != "finished"]
    if missing:
        known = [row["epoch_seconds"] for row in found["searches"] if row.get("epoch_seconds") and row["epochs"] >= 0.1]
        epochs = sum(row["of"] - row["epochs"] for row in missing)
        at_once = found["slices"][-1]["at_once"] if found["slices"] else 1
        minutes = f", at the pace so far {epochs * max(known) / at_once / 60:.1f} minutes" if known else ""
        yield from (
            "",
            f"Left: {epochs:.1f} epochs{minutes}. To go on: `--resume` and the folder of the packed files.",
        )
    claim = found["claim"]
    if claim is not None:
        measured = "; ".join(
            f"{m['quantity']}: {m['mean']:.2f} [{m['low']:.2f}, {m['high']:.2f}]" for m in claim["measured"]
        )
        yield from ("", f"**{claim['id']}: {claim['verdict']}** ({claim['reason']}). {measured}")


def _code(text: object) -> str | None:
    return None if text is None else f"<code>{str(text).replace('|', '&#124;')}</code>"


def _files(without: list[str]) -> Iterator[str]:
    files = sorted(packing.CARRY.glob(f"{packing.NAME}.*"))
    size = sum(os.path.getsize(path) for path in files) / 1e6
    archive = f"{packing.NAME} in {len(files)} piece{'s' * (len(files) != 1)}, {size:.1f} MB"
    yield f"`carry/`: this report, and {archive}: results, rows, logs, checkpoints of what isn't finished, compiled kernels."
    for what in without:
        yield f"- not in it, damaged or without room: {what}"
