"""Table 5: what becomes of a search when one of its choices is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from midas.analysis.dumps import load_dump
from midas.analysis.results import load_table
from midas.analysis.statistics.seeds import PERCENT, POSITIVE
from midas.analysis.tables import runs, wording
from midas.analysis.tables.blocks.against_claims import against_claims, claim_notes
from midas.analysis.tables.presentation import Block, Column, Table
from midas.analysis.tables.runs import Quantity
from midas.config.keys import Experiment
from midas.config.method import DECODING, Method
from midas.config.parts import PARTS
from midas.config.protocols import switches
from midas.plan.plan import Plan
from midas.spaces import get_space
from midas.spaces.genotype import Genotype, load
from midas.spaces.space import Space

CHOICES = {
    "weights": "Weights", "patch_size": "PS", "distribution": "Softmax over", "keys": "W_K", "mixing": "Mixing",
    "projections": "W_Q, W_K",
}  # fmt: skip
"""Choices that every block shows, with their headings; other keys of a method are shown where its rows differ in them."""

OWN_ATTENTION = {
    "normalise": "none", "activation": "none", "projected": "means", "learn_scale": "False",
    "weight_decay": "as the search", "decoupled_weight_decay": "False",
}  # fmt: skip
RARE = {
    **{"offer_none": "False", "detach": "False", "warmup_epochs": "0", "decode_batch": "as in search"},
    **OWN_ATTENTION,
    "parts": "none",
    "settings": "as the others",
}
"""Choices that are shown where one of the rows has another value than this."""
HIDDEN = ("offer_none", *OWN_ATTENTION, "parts", "settings")
"""Those of them that the csv file, too, has in this case alone."""

NO_CHOICE = "n/a"
FEWEST_RANKED = 6
"""Searches from which on a rank correlation is shown."""
PARAMETER_FREE = ("none", "noise", "skip_connect", "max_pool_3x3", "avg_pool_3x3")
NOT_EVALUATED = "not evaluated: named in `ablation` alone"
NO_PAIR = "one seed: no pair to compare"
GENOTYPE = "decode/genotype.json"


NOTES = (
    "PS: side of a patch in pixels, none for global average pooling. W_K: shared by all candidates of a node, or one per "
    "operation. Mixing: by the image's averaged weights, or by each patch's own. W_Q, W_K: learned, or left as drawn.",
    "Supernet: accuracy on the validation half. Entropy: of the weights of an edge's operations, in nats, in the decoded epoch "
    "(ln k for k equal weights). Std of p: of a weight over the images, mean over all weights that vary.",
    "Agreement: share of equal (edge, operation) in the decoded cells of two seeds, mean over pairs of seeds. Free: "
    "operations without parameters (skip, pooling, none, noise) in a decoded cell, mean over its kinds of cell.",
)


def decoded_entropy(path: Path) -> float:
    """Entropy of a search's history.csv in the epoch that is decoded: the last, unless metrics.json says otherwise."""
    rows = load_table(path, ("epoch", "entropy"))["entropy"]
    metrics = json.loads(path.with_name("metrics.json").read_text())
    return float(rows.iloc[metrics.get("decoded_epoch", len(rows)) - 1])


def spread_over_images(path: Path) -> float:
    """Standard deviation of a weight over the images, averaged over the weights that vary; NaN where none does."""
    dump = load_dump(path)
    varies = dump.varies
    return float(dump.std[varies].mean()) if varies.any() else np.nan


def parameter_free(path: Path) -> float:
    """Operations without parameters in a decoded cell, averaged over its kinds of cell."""
    genotype = load(path)
    counts = [sum(name in PARAMETER_FREE for *_, name in genotype.edges(kind)) for kind in genotype.cells]
    return float(np.mean(counts))


def by_chance(space: Space, decode_none: bool) -> tuple[float, float]:
    """`agreement` and `parameter_free` of cells that are drawn uniformly, on average (`midas.decode.random_genotype`)."""
    shared, free, kept_edges = 0.0, 0.0, 0
    for spec in space.cells.values():
        for node in spec.nodes:
            edges = spec.incoming(node)
            kept = space.kept_edges or len(edges)
            kept_edges += kept
            for edge in edges:
                offered = [name for name in spec.candidates[edge] if decode_none or name != "none"]
                shared += (kept / len(edges)) ** 2 / len(offered)
                free += kept / len(edges) * sum(name in PARAMETER_FREE for name in offered) / len(offered)
    return shared / kept_edges, free / len(space.cells)


def agreement(genotypes: list[Genotype]) -> float:
    """Share of equal (edge, operation) of two decoded cells, averaged over all pairs of them."""
    kept = [{(kind, *edge) for kind in found.cells for edge in found.edges(kind)} for found in genotypes]
    return float(np.mean([len(a & b) / len(a) for a, b in combinations(kept, 2)]))


VALID = Quantity("supernet_valid_accuracy", "search/metrics.json", runs.number("valid_accuracy"), within=PERCENT)
ENTROPY = Quantity("entropy", "search/history.csv", decoded_entropy, within=POSITIVE)
SPREAD = Quantity(
    "p_std_over_images", "search/arch.npz", spread_over_images, missing="the weights are the same for all images"
)
FREE = Quantity("parameter_free", GENOTYPE, parameter_free)
AGREEMENT = "agreement_between_seeds"


def ablation(plan: Plan) -> Table:
    """Table 5: a block for each experiment that names an ablation, a row for each of its methods.

    Raises:
        ValueError: a file is missing or lacks a number.
    """
    blocks = [_block(plan, experiment) for experiment in plan.config.experiments if experiment.ablation]
    numbers = pd.concat([block.numbers for block in blocks])
    notes = [
        *NOTES,
        *_chance_notes(plan),
        wording.device_note("Search: wall time of one search", numbers, runs.SEARCH_TIME.name),
        *wording.tested_parts(runs.retrained(plan, _retrained(plan))),
    ]
    if any(e.ablation and plan.evaluation(e.space) == "lookup" for e in plan.config.experiments):
        notes.append(wording.same_function_note())
    if len(plan.attending()) > 1:
        against = against_claims(plan)
        blocks.append(against)
        notes += [*claim_notes(plan, against), _chosen(plan)]
    if (numbers == NO_CHOICE).any(axis=None):
        notes.append(f"{NO_CHOICE}: static and random weights have no such choice.")
    return Table(5, f"Ablation of the search. {wording.about(plan, wording.SEARCHED)}", blocks, notes)


def _block(plan: Plan, experiment: Experiment) -> Block:
    result = _result(plan, experiment)
    rows: list[dict[str, Any]] = []
    for method in experiment.ablation:
        found = [runs.measure(plan, experiment, method, quantity) for quantity in (VALID, ENTROPY, SPREAD, FREE)]
        found += [_agreement(plan, experiment, method), _evaluated(plan, experiment, method, result)]
        found.append(runs.measure(plan, experiment, method, runs.SEARCH_TIME))
        choices = _choices(plan.config.methods[method], experiment.space)
        choices["settings"] = wording.own_settings(experiment, method) or RARE["settings"]
        rows += [{**row, **choices, "n": len(plan.config.seeds)} for row in found]
    numbers = pd.DataFrame(rows)
    differing = [key for key in ("scale", "none_logit", "decode_none") if len(set(numbers[key]) - {NO_CHOICE}) > 1]
    differing += [key for key, usual in RARE.items() if set(numbers[key]) - {usual, NO_CHOICE}]
    numbers = numbers.drop(columns=[key for key in HIDDEN if key not in differing])
    keys = {"method": "Method", **CHOICES, **{key: key for key in differing}, "n": "n"}
    columns = [
        Column("Supernet (%)", VALID.name),
        Column("Entropy", ENTROPY.name, digits=3),
        Column("Std of p", SPREAD.name, digits=4),
        Column("Agreement", AGREEMENT),
        Column(f"Free of {_kept_edges(experiment.space)}", FREE.name, digits=1),
        _result_column(result),
        runs.time_column("Search", runs.SEARCH_TIME.name, numbers),
    ]
    search = experiment.search
    epochs = wording.counted(search.epochs, "epoch")
    supernet = f"supernet of {wording.counted(search.cells, 'cell')}, {search.channels} channels, {epochs}"
    supernet = "; ".join([supernet, *switches(search.model_dump())])
    return Block(f"{experiment.space} on {experiment.dataset} ({supernet})", keys, columns, numbers)


def _chosen(plan: Plan) -> str:
    """Which method the search itself would choose, by a rule that knows no test accuracy."""
    assert plan.config.analysis is not None
    experiment = plan.experiment(plan.config.analysis.space, plan.config.analysis.dataset)
    if experiment.search.lr == 0:
        return "The supernet's weights aren't trained here, so its accuracy chooses no method."
    accuracy = {method: runs.measure(plan, experiment, method, VALID)["mean"] for method in plan.attending()}
    best = max(accuracy, key=lambda method: accuracy[method])
    chosen = f"Chosen by the highest mean accuracy of the supernet on the validation half: {best}. No test column takes part."
    return chosen + _ranked(plan, experiment)


def _ranked(plan: Plan, experiment: Experiment) -> str:
    """How well that rule's accuracy ranks cells: said, never used."""
    result = _result(plan, experiment)
    searches = {
        (
            plan.config.methods[name].model_dump_json(exclude=DECODING),
            experiment.search_by(name).model_dump_json(),
        ): name
        for name in reversed(plan.attending())
        if name in plan.evaluated(experiment)
    }
    methods = list(searches.values())  # of those that decode one search in several ways the first
    pairs = [
        [value for method in methods for value in runs.values_of(plan, experiment, method, quantity, plan.config.seeds)]
        for quantity in (VALID, result)
    ]
    if len(pairs[0]) < FEWEST_RANKED or len(set(pairs[0])) == 1 or len(set(pairs[1])) == 1:
        return ""
    rho = float(spearmanr(*pairs).statistic) * (1 if result.best is max else -1)
    pooled = f"Over {len(pairs[0])} searches, methods and seeds pooled,"
    return f" {pooled} its rank correlation with the test accuracy of the found cell is {rho:.2f} (Spearman)."


def _chance_notes(plan: Plan) -> list[str]:
    """What two columns are for cells drawn at random, a sentence for each space of the table."""
    notes = {}
    for experiment in plan.config.experiments:
        space, methods = get_space(experiment.space), [plan.config.methods[name] for name in experiment.ablation]
        decoding = {(m.offer_none, space.decodes_none if m.decode_none is None else m.decode_none) for m in methods}
        for offered, none in sorted(decoding):
            shared, free = by_chance(get_space(experiment.space, offered), none)
            named = space.decodes_none or (offered and none)
            where = f'{space.name}, with{"" if none else "out"} "none"' if named else space.name
            notes[where] = f"Cells drawn at random ({where}): agreement {shared:.2f}, free {free:.1f} on average."
    return list(notes.values())


def _kept_edges(space_name: str) -> int:
    """Edges of a decoded cell."""
    space = get_space(space_name)
    spec = next(iter(space.cells.values()))
    return len(spec.edges) if space.kept_edges is None else space.kept_edges * len(spec.nodes)


def _choices(method: Method, space: str) -> dict[str, str]:
    """A method's choices in words; what follows from the space is resolved."""
    attends = method.weights == "attention"
    pairs = attends and get_space(space).kept_edges == 2
    values: dict[str, Any] = {"weights": method.weights}
    values["distribution"] = method.distribution or ("pairs" if pairs else "edge")
    values["patch_size"] = method.patch_size or "none"
    for key in ("keys", "mixing", "projections", "none_logit"):
        values[key] = getattr(method, key).replace("_", " ")
    values["scale"] = method.scale or "1/sqrt(d)"
    values["offer_none"], values["decode_batch"] = method.offer_none, method.decode_batch
    values |= {key: getattr(method, key) for key in ("detach", "warmup_epochs", *OWN_ATTENTION)}
    values |= {key: RARE[key] for key in ("decode_batch", "weight_decay") if getattr(method, key) is None}
    values["decode_none"] = get_space(space).decodes_none if method.decode_none is None else method.decode_none
    parts = {name: part.model_dump() for name in PARTS if (part := getattr(method, name)) is not None}
    told = (f"{name} ({', '.join(f'{k} {v}' for k, v in part.items())})" for name, part in parts.items())
    values["parts"] = "; ".join(told) or RARE["parts"]
    kept = {"weights", "offer_none", "decode_none"} | (
        {"distribution", "warmup_epochs", "parts"} if method.weights == "static" else set()
    )
    return {key: str(value) if attends or key in kept else NO_CHOICE for key, value in values.items()}


def _result(plan: Plan, experiment: Experiment) -> Quantity:
    """What a found cell is worth: its accuracy in the benchmark, or its error once trained."""
    if plan.evaluation(experiment.space) == "retrain":
        return runs.ERROR
    name = f"{'c100' if experiment.dataset == 'cifar100' else 'c10'}_test_acc_200"
    return Quantity(name, "lookup/metrics.json", runs.number("cell", name), best=max, within=PERCENT)


def _result_column(result: Quantity) -> Column:
    if result is runs.ERROR:
        return Column("Test error (%)", result.name)
    return Column(f"{'CIFAR-100' if result.name.startswith('c100') else 'CIFAR-10'} test (%)", result.name)


def _evaluated(plan: Plan, experiment: Experiment, method: str, result: Quantity) -> dict[str, Any]:
    if method in plan.evaluated(experiment):
        return runs.measure(plan, experiment, method, result)
    names = {"space": experiment.space, "dataset": experiment.dataset, "method": method, "quantity": result.name}
    return {**runs.BLANK, **names, "missing": NOT_EVALUATED}


def _retrained(plan: Plan) -> Iterator[tuple[Experiment, str]]:
    """The experiments of the table, each with the methods whose cells were trained."""
    for experiment in plan.config.experiments:
        if plan.evaluation(experiment.space) == "retrain":
            yield from ((experiment, name) for name in experiment.ablation if name in plan.evaluated(experiment))


def _agreement(plan: Plan, experiment: Experiment, method: str) -> dict[str, Any]:
    """The row of the agreement between seeds; pairs of seeds are no independent sample, so it has no interval."""
    folders = [plan.folder(experiment.space, experiment.dataset, method, seed) for seed in plan.config.seeds]
    names = {"space": experiment.space, "dataset": experiment.dataset, "method": method, "quantity": AGREEMENT}
    row = {**runs.BLANK, **names, "source": f"{folders[0].parent.as_posix()}/seed*/{GENOTYPE}"}
    if len(folders) < 2:
        return {**row, "missing": NO_PAIR}
    return {**row, "mean": agreement([load(folder / GENOTYPE) for folder in folders])}
