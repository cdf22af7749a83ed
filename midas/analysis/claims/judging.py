"""Does a claim hold? Its metric, the rule in words, and the verdict with its reason.

A verdict is one of `VERDICTS`. A claim is judged only at a size, with seeds, data and a protocol that allow it; what was measured
is shown in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from midas.analysis.claims.accuracy import best_published, optimal_cell, top1, transfer_error
from midas.analysis.claims.findings import Finding, Measured
from midas.analysis.claims.weights import class_similarity, dip_rejections, weight_spread
from midas.config.keys import Config
from midas.plan.claims import Claim, Claims, read_claims
from midas.plan.plan import Plan

REPRODUCED, NOT_REPRODUCED, NOT_TESTED = "reproduced", "not reproduced", "not tested at this size"
VERDICTS = {REPRODUCED: "✔", NOT_REPRODUCED: "✘", NOT_TESTED: "○"}
"""Each with a sign that doesn't need colour."""


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
