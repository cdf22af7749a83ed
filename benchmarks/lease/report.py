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
from benchmarks.lease.slices import SEARCHED, WAYS, Rows, Slice, right_ways
from midas.analysis.claims import judge
from midas.analysis.table_accuracy import BENCHMARK_DATA
from midas.benchmark import ACCURACIES
from midas.claims import read_claims
from midas.config import ConfigError, parse
from midas.plan import Cell, Plan
from midas.provenance import ROOT, commit, write_text

CLAIM = "C1"
AIM_RATIO, AIM_STEP_SECONDS = 0.2, 0.009
"""Of a training pass to plain code's; of a search step, all searches at once counted: four of 50 epochs in 12 minutes."""


def write(asked: Slice, failed: list[str]) -> str:
    """Write report.md, report.json and carry/.

    Returns:
        The page.
    """
    plan = Plan(parse(yaml.safe_load(Path("config.yaml").read_text()))) if Path("config.yaml").exists() else None
    searches = [] if plan is None else [state_of(plan, cell) for cell in plan.cells(searched=True)]
    unfinished = [row for row in searches if row["state"] != "finished"]
    unfinished.sort(key=lambda row: (-row["epochs"], row["method"], row["seed"]))
    left_out = packing.pack([Path(row["folder"]) for row in unfinished])
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "asked": {key: getattr(asked, key) for key in ("device", "minutes", "only", "tiny")},
        "failed": failed,
        "right": {way: Rows(f"right_{way}").read() for way in WAYS},
        "fast": Rows("fast").read(),
        "slices": Rows("slices").read(),
        "searches": searches,
        "claim": None if plan is None or not asked.looked_up else verdict(plan),
        "not_packed": left_out,
    }
    text = "\n".join(_page(found)) + "\n"
    for folder in (Path(), packing.CARRY):
        write_text(folder / "report.md", text)
        write_text(folder / "report.json", json.dumps(found, indent=1) + "\n")
    return text


def state_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """How far a search is, and what it found."""
    folder = plan.cell_folder(cell)
    own = [r for r in Rows("search").read() if (r["method"], r["seed"]) == (cell.method, cell.seed)]
    row: dict[str, Any] = {"method": cell.method, "seed": cell.seed, "folder": folder.as_posix(), "epochs": 0}
    row |= {"of": cell.experiment.search.epochs, "state": "not begun"}
    for known in own:
        row |= known
    genotype, lookup = folder / "decode/genotype.json", folder / "lookup/metrics.json"
    if (folder / "search/metrics.json").exists():
        cost = json.loads((folder / "search/metrics.json").read_text())["cost"]
        row |= {"epochs": row["of"], "epoch_seconds": cost["wall_seconds"] / row["of"]}
    if genotype.exists():
        row |= {"genotype": json.loads(genotype.read_text())["text"]}
    if lookup.exists():
        row |= {"cell": json.loads(lookup.read_text())["cell"]}
    return row


def verdict(plan: Plan) -> dict[str, Any] | None:
    """The claim on this space, by the seeds that are finished; None where none is."""
    only = [e.model_copy(update={"methods": ["midas"], "ablation": []}) for e in plan.config.experiments]
    claims = read_claims(ROOT / "config/claims.yaml")
    claim = next(claim for claim in claims.claims if claim.id == CLAIM)
    try:
        return judge(Plan(plan.config.model_copy(update={"experiments": only})).finished(), claims, claim)
    except ConfigError:
        return None


def _page(found: dict[str, Any]) -> Iterator[str]:
    yield from ("# A slice of a GPU's time" if found["asked"]["device"] == "cuda" else "# A slice of a CPU's time", "")
    last: dict[str, Any] = {"device": "searched nothing yet", "versions": {}}
    last |= found["slices"][-1] if found["slices"] else {}
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    yield f"{found['date']}, {last['device']}, {versions}, commit {found['commit']}; slice {len(found['slices'])}."
    if found["asked"]["tiny"]:
        yield from (
            "",
            "Tiny sizes, to show that the command works: no number here says anything of a GPU or of a method.",
        )
    if found["failed"]:
        yield from ("", "**Failed:**", "", *(f"- {line}" for line in found["failed"]))
    yield from ("", "## Right", "", *_right(found["right"]))
    yield from ("", "## Fast", "", *_fast(found["fast"]))
    yield from ("", "## Searches", "", *_searches(found))
    yield from ("", "## To take along", "", *_files(found["not_packed"]))


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join('' if value is None else str(value) for value in row)} |"


def _right(by_way: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    rows = []
    for way, found in by_way.items():
        for space in dict.fromkeys(row["space"] for row in found if "space" in row):
            own = [row for row in found if row.get("space") == space]
            exact = [r["difference"] for r in own if r.get("check") == "float64"]
            graph = [r["difference"] for r in own if r.get("check") == "graph"]
            passed = sum(row["passed"] for row in own)
            rows.append(
                [way, space, f"{passed} of {len(own)}", *(f"{max(x):.1e}" if x else "" for x in (exact, graph))]
            )
    yield from _table(["way", "space", "passed", "float64: largest difference", "graph: largest difference"], rows)
    yield ""
    yield f"Right for {SEARCHED}: {', '.join(right_ways(SEARCHED)) or 'none'}."
    for way, found in by_way.items():
        for row in found:
            if not row.get("passed", False):
                what = ", ".join(str(row[key]) for key in ("space", "weights", "distribution", "check") if key in row)
                yield f"- {way}: {what}: {row.get('error') or row.get('difference')}"


def _fast(rows: list[dict[str, Any]]) -> Iterator[str]:
    def line(r: dict[str, Any]) -> list[object]:
        start = [r["space"], r["way"], r.get("kind")]
        if "error" in r:
            return [*start, r["error"], None, None, None, None]
        interval = "" if r["ratio_low"] is None else f" ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})"
        memory = [None if r[key] is None else f"{r[key] / 1e9:.2f}" for key in ("peak_bytes", "plain_peak_bytes")]
        aim = {True: "yes", False: "no"}[r["ratio"] <= AIM_RATIO] if r["kind"] == "pass" else None
        return [*start, f"{1000 * r['seconds']:.2f}", f"{r['ratio']:.3f}{interval}", aim, *memory]

    head = ["space", "way", "", "ms", "of plain code's time", f"at most {AIM_RATIO}", "GB", "plain GB"]
    yield from _table(head, map(line, (r for r in rows if r["what"] == "way")))
    beside = [r for r in rows if r["what"] == "at once"]
    if beside:
        yield ""
        head = ["searches at once", "by", "ms a step, all counted", f"at most {1000 * AIM_STEP_SECONDS:.0f}"]
        yield from _table(head, map(_beside, beside))
    for r in rows:
        if r["what"] not in ("way", "at once"):
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
        kernels = "; ".join(f"{k['kernel']} {1000 * k['seconds']:.2f} ms in {k['calls']}" for k in r["top"])
        return f"{r['launches']} launches, busy for {1000 * r['busy_seconds']:.2f} ms of a step; {kernels}"
    return f"grouped convolutions take {r['ratio']:.2f} of the time of one after the other"


def _searches(found: dict[str, Any]) -> Iterator[str]:
    columns = [name for name in ACCURACIES if any("cell" in row for row in found["searches"])]

    def line(row: dict[str, Any]) -> list[object]:
        cell, seconds = row.get("cell", {}), row.get("epoch_seconds")
        what = row.get("error") if row["state"] in ("kept", "failed") else row.get("genotype")
        facts = [None if not cell else f"{cell[name]:.2f}" for name in columns]
        taken = f"{seconds:.1f}" if seconds else None
        return [
            row["method"],
            row["seed"],
            row["state"],
            f"{row['epochs']} of {row['of']}",
            taken,
            cell.get("index"),
            *facts,
            _code(what),
        ]

    names = [f"{BENCHMARK_DATA[name.split('_')[0]]} {name.split('_')[1]}" for name in columns]
    head = ["method", "seed", "state", "epochs", "seconds an epoch", "no.", *names, "cell, or why not"]
    yield from _table(head, map(line, found["searches"]))
    if found["slices"]:
        last = found["slices"][-1]
        settings = ", ".join(f"{key} {last[key]}" for key in ("precision", "merge_edges", "cuda_graph", "triton"))
        yield from (
            "",
            f"Searched with {settings}; at once: {last['at_once']}, whose seconds an epoch are those of all together.",
        )
    missing = [
        (row["of"] - row["epochs"], row.get("epoch_seconds")) for row in found["searches"] if row["state"] != "finished"
    ]
    known = [seconds for _, seconds in missing if seconds]
    if missing:
        epochs = sum(count for count, _ in missing)
        at_once = found["slices"][-1]["at_once"] if found["slices"] else 1
        hours = f", some {epochs * max(known) / at_once / 60:.0f} minutes" if known else ""
        yield from (
            "",
            f"Left: {epochs} epochs{hours}. Go on with `--resume` and this folder, or the one of the packed files.",
        )
    claim = found["claim"]
    if claim is not None:
        measured = "; ".join(
            f"{m['quantity']}: {m['mean']:.2f} [{m['low']:.2f}, {m['high']:.2f}]" for m in claim["measured"]
        )
        yield from ("", f"**{claim['id']}: {claim['verdict']}** ({claim['reason']}). {measured}")


def _code(text: object) -> str | None:
    return None if text is None else f"`{str(text).replace('|', chr(0x2502))}`"


def _files(left_out: list[str]) -> Iterator[str]:
    files = sorted(packing.CARRY.glob(f"{packing.NAME}.*"))
    size = sum(os.path.getsize(path) for path in files) / 1e6
    yield f"`carry/`: this report and {len(files)} files of {size:.1f} MB together: results, rows, checkpoints of what goes on."
    for folder in left_out:
        yield f"- no room: {folder}"
