"""Claims on accuracies: what is measured for each, and the rule by which it holds."""

from __future__ import annotations

from scipy.stats import binomtest

from midas.analysis import literature
from midas.analysis.claims.findings import Finding, Measured, Site, compare, files_of, judged, over_seeds, sites_of
from midas.analysis.results import load_number
from midas.analysis.tables import runs
from midas.analysis.tables.accuracy import BENCHMARK_DATA
from midas.plan.claims import Claim
from midas.plan.plan import Plan


def optimal_cell(plan: Plan, claim: Claim) -> Finding:
    """Whether every seed's cell is the benchmark's cell of the expected number."""
    sites, obstacles = sites_of(plan, claim)
    if not sites:
        return Finding(obstacles=obstacles)
    site = sites[0]
    if plan.evaluation(site.space) == "retrain":
        accuracy = _retrained(plan, site, "test accuracy, trained from scratch (%)")
        return Finding([accuracy], obstacles=[*obstacles, "no table of NAS-Bench-201 was given"])
    files = files_of(plan, site, "lookup/metrics.json")
    found = [int(load_number(file, "cell", "index")) for file in files]
    hits, n = found.count(int(claim.expected)), len(found)
    low, high = binomtest(hits, n).proportion_ci(0.95, "exact")
    share = Measured(
        f"seeds whose cell is no. {claim.expected:.0f} (%)", 100 * hits / n, 100 * float(low), 100 * float(high),
        "95 % Clopper-Pearson interval over seeds", [100.0 * (index == claim.expected) for index in found], n, site,
        [file.as_posix() for file in files],
    )  # fmt: skip
    accuracies = [
        over_seeds(f"{data} {half} (%)", [load_number(f, "cell", f"{key}_{half}_acc_200") for f in files], site, files)
        for key, data in BENCHMARK_DATA.items()
        for half in ("valid", "test")
    ]
    because = f"{hits} of {n} seeds; cells no. {', '.join(map(str, found))}"
    return Finding([share], hits == n, because, obstacles, accuracies)


def _retrained(plan: Plan, site: Site, quantity: str, error: bool = False) -> Measured:
    files = files_of(plan, site, "retrain/metrics.json")
    values = [load_number(file, "test_accuracy") for file in files]
    return over_seeds(quantity, [runs.error_of(value) for value in values] if error else values, site, files)


def top1(plan: Plan, claim: Claim) -> Finding:
    """Whether the mean accuracy is at worst the tolerance below the expected one."""
    sites, obstacles = sites_of(plan, claim)
    if not sites:
        return Finding(obstacles=obstacles)
    accuracy = _retrained(plan, sites[0], "test accuracy (%)")
    return judged([accuracy], [compare(accuracy, claim.expected - claim.tolerance, "above")], obstacles)


def best_published(plan: Plan, claim: Claim) -> Finding:
    """Whether the mean error is below the published means of equal networks in enough spaces."""
    sites, obstacles = sites_of(plan, claim)
    errors = [_retrained(plan, site, "test error (%)", error=True) for site in sites]
    parts = [_against_published(plan, claim, error) for error in errors]
    best, possible = (sum(state in states for state, _ in parts) for states in ([True], [True, None]))
    undecided = "undecided: " if best < claim.expected <= possible else ""
    counts = f"{undecided}best in {best} of {len(parts)} spaces, at most in {possible}"
    because = "; ".join([counts, *(text for _, text in parts)])
    return Finding(errors, best >= claim.expected, because, obstacles)


def _against_published(plan: Plan, claim: Claim, error: Measured) -> tuple[bool | None, str]:
    """Whether an error is below the least published mean of a network of the same size on the claim's data set."""
    retrain = plan.experiment(error.site.space, error.site.dataset).retrain
    assert retrain is not None  # `midas.plan.check` has seen to it
    network = f"{retrain.cells}x{retrain.channels}"
    table = literature.load("rdarts")
    same = table[
        (table["quantity"] == f"{error.site.space}_error")
        & (table["dataset"] == claim.dataset)
        & (table["network"] == network)
        & (table["status"] == "verified")
        & table["mean"].notna()
    ]
    if same.empty:
        return None, f"{error.site.space}: no confirmed published mean of a {network} network"
    row = same.sort_values("mean").iloc[0]
    state, text = compare(error, row["mean"], "below")
    unread = ", which the source was not read for" if row["network_status"] == "from_memory" else ""
    notes = "; ".join(
        filter(None, [f"{row['method']}, {row['statistic']}", f"{network} network{unread}", row["protocol"]])
    )
    return state, f"{error.site.space}: {text} ({notes})"


def transfer_error(plan: Plan, claim: Claim) -> Finding:
    """Whether the top-1 error of transferred cells in the mobile setting is below the expected one."""
    sites, obstacles = sites_of(plan, claim, lambda e: e.transfer.methods if e.transfer else [], "transfer")
    if not sites:
        return Finding(obstacles=obstacles)
    site = sites[0]
    transfer = plan.experiment(site.space, site.dataset).transfer
    assert transfer is not None
    if transfer.dataset != claim.transfer_dataset:
        obstacles.append(f"{transfer.dataset} stands in for {claim.transfer_dataset}")
    files = files_of(plan, site, "transfer/metrics.json", transfer.seeds)
    errors = [runs.error_of(load_number(file, "test_top1")) for file in files]
    error = over_seeds(f"top-1 error on {transfer.dataset} (%)", errors, site, files)
    millions = [load_number(file, "multiply_adds") / 1e6 for file in files]
    adds = over_seeds("multiply-adds (millions)", millions, site, files)
    mobile = all(load_number(file, "mobile_setting") for file in files)
    setting = f"largest network {max(millions):.0f} M multiply-adds: {'' if mobile else 'not '}the mobile setting"
    return judged([error, adds], [compare(error, claim.expected, "below"), (mobile, setting)], obstacles)
