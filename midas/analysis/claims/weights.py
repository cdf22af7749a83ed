"""Claims on the mixing weights (figures 2 to 4): what is measured for each, and the rule by which it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from midas.analysis.claims.findings import Finding, Measured, Site, compare, existing, judged, over_seeds, stand_ins
from midas.analysis.results import load_metrics, load_table
from midas.analysis.statistics.weights import FIRST_CELLS, conv_spread
from midas.plan.claims import Claim
from midas.plan.plan import Plan

ROWS = {
    "dip": ("tested", "rejected", "rejected_share", "rejected_benjamini_hochberg"),
    "class_effect": ("eta_squared", "p_value"),
}
"""What the statistics say of each seed."""


def _analysed(plan: Plan, claim: Claim) -> tuple[Site | None, list[str]]:
    """The search that the statistics look into, and what forbids to judge a claim by it."""
    analysis = plan.config.analysis
    if analysis is None:
        return None, ["no analysis of the weights"]
    obstacles = stand_ins(claim, analysis.space, analysis.dataset)
    if claim.method not in (None, analysis.method):
        obstacles.append(f"the analysis is of {analysis.method}, not of {claim.method}")
    return Site(analysis.space, analysis.dataset, analysis.method), obstacles


def weight_spread(plan: Plan, claim: Claim) -> Finding:
    """Whether the weights of the convolutions are the same without patches and differ with them."""
    site, obstacles = _analysed(plan, claim)
    if site is None or plan.config.analysis is None:
        return Finding(obstacles=obstacles)
    methods = dict.fromkeys([*plan.config.analysis.compare, plan.config.analysis.method])
    without = [method for method in methods if plan.config.methods[method].patch_size is None]
    patched = [method for method in methods if method not in without]
    obstacles += [
        f"no method {kind} patches is compared"
        for kind, found in (("without", without), ("with", patched))
        if not found
    ]
    spreads = {method: _spread(plan, Site(site.space, site.dataset, method)) for method in [*without, *patched]}
    parts = [compare(spreads[method], claim.tolerance, "below") for method in without]
    parts += [compare(spreads[method], claim.tolerance, "above") for method in patched]
    return judged(list(spreads.values()), parts, obstacles)


def _spread(plan: Plan, site: Site) -> Measured:
    """Largest less least share of the convolutions in the first two cells, as a multiple of the share of equal weights."""
    (path,) = existing([plan.root / "analysis/weights.csv"])
    table = load_table(path, ("method", "seed", "cell", "operation", "share", "uniform"))
    by_seed = dict(iter(table[table["method"] == site.method].groupby("seed")))
    missing = set(plan.config.seeds) - by_seed.keys()
    if missing:
        raise ValueError(f"{path}: seed {min(missing)} of method {site.method} is missing")
    values = [conv_spread(by_seed[seed]) for seed in plan.config.seeds]
    cells = " and ".join(map(str, FIRST_CELLS))
    return over_seeds(f"spread of the convolutions' weights in cells {cells} (equal weight: 1)", values, site, [path])


def _statistics(plan: Plan) -> tuple[Path, dict[str, Any]]:
    (path,) = existing([plan.root / "analysis/metrics.json"])
    content = load_metrics(path)
    rows = {key: content.get(key) or [{}] for key in ROWS}
    missing = [
        f"{key}.{name}" for key, names in ROWS.items() for name in names if any(name not in r for r in rows[key])
    ]
    missing += [] if "groups" in content else ["groups"]
    if missing:
        raise ValueError(f"{path}: key {', '.join(missing)} is missing")
    return path, content


def dip_rejections(plan: Plan, claim: Claim) -> Finding:
    """Whether the dip test rejects fewer than the expected share of the weights that vary."""
    site, obstacles = _analysed(plan, claim)
    if site is None:
        return Finding(obstacles=obstacles)
    path, content = _statistics(plan)
    tests = content["dip"]
    if not all(row["tested"] for row in tests):
        return Finding(obstacles=[*obstacles, "a seed has no weights that differ between images"])
    what = f"weights whose dip test rejects at {content['dip_level']:g} (%)"
    plain = over_seeds(what, [100 * row["rejected_share"] for row in tests], site, [path])
    if plain.low is None:  # a single seed, or seeds without variation
        counts = (sum(row[key] for row in tests) for key in ("rejected", "tested"))
        low, high = (100 * float(end) for end in binomtest(*counts).proportion_ci(0.95, "exact"))
        plain = replace(
            plain, low=low, high=high, interval="95 % Clopper-Pearson interval, weights taken as independent"
        )
    shares = [100 * row["rejected_benjamini_hochberg"] / row["tested"] for row in tests]
    corrected = over_seeds("the same after Benjamini and Hochberg's correction (%)", shares, site, [path])
    return judged([plain], [compare(plain, claim.expected, "below")], obstacles, [corrected])


def class_similarity(plan: Plan, claim: Claim) -> Finding:
    """Whether groups of classes and the classes themselves tell the weights apart, by permutation tests."""
    site, obstacles = _analysed(plan, claim)
    if site is None:
        return Finding(obstacles=obstacles)
    path, content = _statistics(plan)
    groups, effects = content["groups"], content["class_effect"]
    p_class = [row["p_value"] for row in effects]
    if groups is None:
        return Finding(obstacles=[*obstacles, "no groups of classes (key analysis.groups)"])
    differences = [row["difference"] for row in groups["seeds"]]
    if None in (groups["p_value"], *differences, *p_class):
        return Finding(obstacles=[*obstacles, "the similarity of classes is undefined, since weights don't vary"])
    numbers = [
        _one("p-value of the groups", groups["p_value"], len(effects), site, path),
        _one("largest p-value of the class's effect", max(p_class), len(effects), site, path),
    ]
    further = [
        over_seeds("cosine within less between groups", differences, site, [path]),
        over_seeds("variance that the class explains (%)", [100 * row["eta_squared"] for row in effects], site, [path]),
    ]
    texts = [f"{m.quantity}: {m.mean:.3g}{'' if m.mean < claim.expected else ', not significant'}" for m in numbers]
    return Finding(numbers, all(m.mean < claim.expected for m in numbers), "; ".join(texts), obstacles, further)


def _one(quantity: str, value: float, n: int, site: Site, path: Path) -> Measured:
    """A number that is one for all seeds."""
    return Measured(quantity, value, None, None, "", [], n, site, [path.as_posix()])
