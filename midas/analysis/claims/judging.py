"""Judge the paper's claims: ``python -m midas.analysis.claims RUN FOLDER`` writes claims.json and claims.md.

A verdict is one of `VERDICTS`. A claim is judged only at a size, with seeds, data and a protocol that allow it; what was measured
is shown in any case.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from midas.analysis.claims.accuracy import best_published, optimal_cell, top1, transfer_error
from midas.analysis.claims.findings import Finding, Measured
from midas.analysis.claims.weights import class_similarity, dip_rejections, weight_spread
from midas.analysis.markdown import cell, plain
from midas.config.keys import Config
from midas.files.writing import write_text
from midas.plan.claims import Claim, Claims, read_claims
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

REPRODUCED, NOT_REPRODUCED, NOT_TESTED = "reproduced", "not reproduced", "not tested at this size"
VERDICTS = {REPRODUCED: "✔", NOT_REPRODUCED: "✘", NOT_TESTED: "○"}
"""Each with a sign that doesn't need colour."""

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Metric:
    """What is measured for a claim.

    Attributes:
        expected: the expected value in words; `{claim}` is filled in.
        criterion: the rule in words.
        find: measures and applies the rule.
    """

    expected: str
    criterion: str
    find: Callable[[Plan, Claim], Finding]


METRICS: dict[str, Metric] = {
    "optimal_cell": Metric(
        "cell no. {claim.expected:.0f} with every seed",
        "Every seed's decoded cell is the benchmark's cell no. {claim.expected:.0f}.",
        optimal_cell,
    ),
    "top1": Metric(
        "{claim.expected:.2f} %",
        "The 95 % t interval of the mean test accuracy over seeds lies above {claim.expected:.2f} % less a tolerance of "
        "{claim.tolerance:g} points.",
        top1,
    ),
    "best_published": Metric(
        "best in at least {claim.expected:.0f} spaces",
        "In at least {claim.expected:.0f} spaces the 95 % t interval of the mean test error over seeds lies below the least "
        "published mean of networks of the same layers and channels.",
        best_published,
    ),
    "weight_spread": Metric(
        "no spread without patches, a spread with them",
        "The spread is the greatest less the least mean weight of the convolutions, averaged over the first two cells, in units "
        "of the weight that each operation would have if all had the same. Its 95 % t interval over seeds lies below "
        "{claim.tolerance:g} for every compared method without patches, and above for every one with patches.",
        weight_spread,
    ),
    "dip_rejections": Metric(
        "less than {claim.expected:g} % rejected",
        "The 95 % t interval over seeds of the percentage of weights for which the test rejects lies below {claim.expected:g} "
        "(where seeds don't vary: the Clopper-Pearson interval over all weights).",
        dip_rejections,
    ),
    "class_similarity": Metric(
        "p < {claim.expected:g} in both permutation tests",
        "p < {claim.expected:g} in the permutation test of the similarity within groups of classes against that between groups, "
        "and for every seed in the permutation test of the class's effect on the weights.",
        class_similarity,
    ),
    "transfer_error": Metric(
        "top-1 error below {claim.expected:g} %, under 600 M multiply-adds",
        "Every network has fewer than 600 M multiply-adds, and the 95 % t interval of the mean top-1 error over seeds lies below "
        "{claim.expected:g} %.",
        transfer_error,
    ),
}


def judge(plan: Plan, claims: Claims, claim: Claim) -> dict[str, Any]:
    """One claim with its verdict.

    Returns:
        id, text, verdict, reason, expected, criterion, source, assumptions, measured (the judged numbers), further, files.

    Raises:
        ValueError: a file of an experiment is missing or damaged.
    """
    metric = METRICS[claim.metric]
    finding = metric.find(plan, claim)
    obstacles = [*_too_little(plan.config, claims, claim, finding.measured), *finding.obstacles]
    if obstacles:
        verdict, reason = NOT_TESTED, "; ".join(obstacles)
    else:
        verdict, reason = REPRODUCED if finding.holds else NOT_REPRODUCED, finding.because
        if not plan.config.paper_protocol:
            reason += f" (judged at size {plan.config.size}, not under the paper's protocol)"
    return {
        "id": claim.id,
        "text": claim.text,
        "verdict": verdict,
        "reason": reason,
        "expected": metric.expected.format(claim=claim),
        "criterion": metric.criterion.format(claim=claim),
        "source": claim.source,
        "assumptions": claim.assumptions,
        "measured": [asdict(number) for number in finding.measured],
        "further": [asdict(number) for number in finding.further],
        "files": sorted({file for number in finding.measured + finding.further for file in number.files}),
    }


def _too_little(config: Config, claims: Claims, claim: Claim, measured: Iterable[Measured]) -> list[str]:
    """Why size, protocol or seeds don't allow a verdict."""
    reasons, sizes = [], claims.sizes
    if config.size not in sizes:
        reasons.append(f"size {config.size} is not listed in {config.claims}")
    elif sizes.index(config.size) < sizes.index(claim.from_size):
        larger = " or larger" if claim.from_size != sizes[-1] else ""
        reasons.append(f"needs size {claim.from_size}{larger}")
    elif claim.paper_protocol and not config.paper_protocol:
        reasons.append("needs the paper's protocol")
    seeds = min((number.n for number in measured), default=claim.seeds)
    if seeds < claim.seeds:
        reasons.append(f"too few seeds: {seeds}, needs {claim.seeds}")
    return reasons


def judge_all(config: Config) -> dict[str, Any]:
    """All claims with their verdicts, as claims.json holds them.

    Raises:
        ValueError: the file of the claims is wrong, or files of an experiment are missing or damaged: a line for each.
    """
    plan, claims = Plan(config), read_claims(config.claims)
    judged, problems = [], []
    for claim in claims.claims:
        try:
            judged.append(judge(plan, claims, claim))
        except ValueError as error:
            problems += str(error).splitlines()
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    counts = {verdict: sum(claim["verdict"] == verdict for claim in judged) for verdict in VERDICTS}
    facts = {"size": config.size, "note": config.note, "paper_protocol": config.paper_protocol, "seeds": config.seeds}
    return {**facts, "claims_file": config.claims, "verdicts": counts, "claims": judged}


def number_text(measured: dict[str, Any]) -> str:
    """A measured number with its interval, to equal decimals that give the largest of the three four digits."""
    mean, low, high = (measured[key] for key in ("mean", "low", "high"))
    if low is None:
        return f"{mean:.4g}".replace("-", MINUS)
    largest = max(abs(mean), abs(low), abs(high))
    decimals = min(max(3 - math.floor(math.log10(largest)), 0), 4) if largest > 0 else 0
    return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]".replace("-", MINUS)


def place_text(site: dict[str, str]) -> str:
    """Where something was measured."""
    return f"{site['space']} on {site['dataset']}, {site['method']}"


def short_paths(files: Iterable[str]) -> list[str]:
    """Paths with the seeds' folders as one."""
    return sorted({re.sub(r"/seed\d+/", "/seed*/", file) for file in files})


def to_markdown(judged: dict[str, Any]) -> str:
    """claims.md: the verdicts at a glance, then what stands behind each."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in judged["verdicts"].items())
    lines = [
        f"# The paper's claims at size {judged['size']}",
        "",
        f"{counts}. {plain(judged['note'][:1].upper() + judged['note'][1:])}.",
        "",
        "| | verdict | claim | expected | measured | where | n |",
        "|---|---|---|---|---|---|---:|",
    ]
    for claim in judged["claims"]:
        cells = [claim["id"], _verdict(claim), claim["text"], claim["expected"], *headline(claim)]
        lines.append(_row(*cells))
    lines += ["", "Brackets: the interval that the sections below name; n: seeds.", ""]
    return "\n".join([*lines, *(line for claim in judged["claims"] for line in _section(claim))]).rstrip() + "\n"


def headline(claim: dict[str, Any]) -> tuple[str, str, str]:
    """The numbers that are judged, where they were measured, and over how many seeds; dashes where there are none."""
    measured = claim["measured"]
    if not measured:
        return ("—",) * 3
    values = {axis: list(dict.fromkeys(number["site"][axis] for number in measured)) for axis in measured[0]["site"]}
    varied = [axis for axis, found in values.items() if len(found) > 1]
    texts, quantity = [], ""
    for number in measured:
        heading = "" if number["quantity"] == quantity else f"{number['quantity']}:"
        quantity = number["quantity"]
        texts.append(" ".join(filter(None, [heading, *(number["site"][axis] for axis in varied), number_text(number)])))
    where = place_text({axis: ", ".join(found) for axis, found in values.items()})
    return "; ".join(texts), where, str(min(number["n"] for number in measured))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell(text) for text in cells)} |"


def _verdict(claim: dict[str, Any]) -> str:
    return f"{VERDICTS[claim['verdict']]} {claim['verdict']}"


def _section(claim: dict[str, Any]) -> list[str]:
    lines = [f"## {claim['id']}: {_verdict(claim)}", "", claim["text"], "", f"- Why: {claim['reason']}."]
    lines += [f"- Expected: {claim['expected']} (source: {claim['source']})."]
    lines += [f"- Criterion: {claim['criterion']}", f"- This project's decisions: {claim['assumptions']}"]
    if not claim["measured"]:
        return [*lines, "- Measured: nothing.", ""]
    rows = [
        _row(m["quantity"], number_text(m), m["interval"] or "no interval", str(m["n"]), place_text(m["site"]))
        for m in claim["measured"] + claim["further"]
    ]
    files = ", ".join(f"`{path}`" for path in short_paths(claim["files"]))
    table = ["| measured | value | interval | n | where |", "|---|---|---|---:|---|", *rows]
    return [*lines, f"- Files: {files}.", "", *table, ""]


def write_claims(run: PresentRun, folder: Path) -> None:
    """Write claims.json and claims.md.

    Raises:
        ValueError: the file of the claims is wrong, or files of an experiment are missing or damaged: a line for each.
    """
    judged = judge_all(run.config)
    write_text(folder / "claims.json", json.dumps(judged, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "claims.md", to_markdown(judged))
