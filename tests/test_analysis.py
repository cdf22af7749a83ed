"""Statistics, tables and reading of dumps, on small made-up dumps that only tests ever see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from diptest import diptest

from midas.analysis import dumps, literature, statistics, tables
from midas.analysis.dumps import Dump
from midas.benchmark import ACCURACIES
from midas.config import Config
from midas.genotype import parse
from midas.plan import Plan, PresentRun
from midas.spaces import get_space

NB201_CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
_NODES = (
    "[('sep_conv_3x3', 0), ('dil_conv_5x5', 1), ('skip_connect', 0), ('max_pool_3x3', 2), "
    "('sep_conv_5x5', 1), ('avg_pool_3x3', 2), ('dil_conv_3x3', 3), ('sep_conv_3x3', 4)]"
)
DARTS_CELL = f"Genotype(normal={_NODES}, normal_concat=[2, 3, 4, 5], reduce={_NODES}, reduce_concat=[2, 3, 4, 5])"


def make_config(root: Path, **changes: Any) -> Config:
    protocol = {
        "search": {"cells": 3, "epochs": 6},
        "retrain": {"channels": 8, "cells": 3, "epochs": 2, "auxiliary": 0},
    }
    both = ["midas", "darts"]
    raw: dict[str, Any] = {
        "size": "demo",
        "note": "made-up numbers, for tests only: embedded digits instead of CIFAR, small networks, few epochs",
        "seeds": [0, 1],
        "results_dir": str(root / "results"),
        "figures_dir": str(root / "figures"),
        "methods": {"midas": {}, "no_patch": {"patch_size": None}, "darts": {"weights": "static"}},
        "experiments": [
            {"space": "nas_bench_201", "dataset": "digits", "methods": both, **protocol},
            {"space": "darts", "dataset": "digits", "methods": both, "search_only": ["no_patch"], **protocol},
            {"space": "darts", "dataset": "digit_pairs", "methods": ["midas"], **protocol},
        ],
        "analysis": {"space": "darts", "dataset": "digits", "method": "midas", "compare": ["no_patch", "midas"]},
    }
    return Config.model_validate({**raw, **changes})


def write_results(plan: Plan, images: int = 400) -> None:
    """Files as the other steps leave them, filled with random numbers."""
    for cell in plan.cells():
        folder = plan.cell_folder(cell)
        rng = np.random.default_rng([cell.seed, *map(ord, str(folder.relative_to(plan.root)))])
        space = cell.experiment.space
        classes = 10 if cell.experiment.dataset == "digits" else 100
        _write_dump(folder / "search", space, images, classes, rng)
        text = NB201_CELL if space == "nas_bench_201" else DARTS_CELL
        (folder / "decode").mkdir(parents=True)
        parse(text).save(folder / "decode/genotype.json")
        _write_history(folder / "search/history.csv", text, rng)
        numbers = {"test_accuracy": 90 + 5 * rng.random(), "params": 100_000 + cell.seed}
        _write_metrics(folder / "search/metrics.json", {"valid_accuracy": 80.0}, 40.0 + cell.seed)
        _write_metrics(folder / "retrain/metrics.json", numbers, 10.0)
        _write_lookup(folder / "lookup", rng)


def _write_dump(folder: Path, space_name: str, images: int, classes: int, rng: np.random.Generator) -> None:
    space = get_space(space_name)
    kinds = [layer.kind for layer in space.skeleton(4) if layer.kind in space.cells]
    spec = next(iter(space.cells.values()))
    shape = (len(kinds), len(spec.edges), len(space.operations))
    labels = np.arange(images) % classes
    logits = 0.4 * rng.normal(size=shape) + 0.05 * rng.normal(size=(classes, *shape))[labels]
    p = np.exp(logits + 0.1 * rng.normal(size=(images, *shape)))
    p = (p / p.sum(-1, keepdims=True)).astype(np.float32)
    folder.mkdir(parents=True)
    np.savez(
        folder / "arch.npz", p=p, labels=labels, kinds=np.array(kinds), operations=np.array(space.operations),
        edges=np.array(spec.edges), offered=np.ones(shape, bool), classes=np.array([str(k) for k in range(classes)]),
    )  # fmt: skip
    _write_example(folder / "example.npz", space.operations, range(spec.nodes[-1]), spec.nodes[-1], rng)


def _write_example(path: Path, names: tuple[str, ...], sources: range, node: int, rng: np.random.Generator) -> None:
    count = len(names) * len(sources)
    image = (255 * np.outer(np.hanning(16), np.hanning(16))).astype(np.uint8)
    maps = rng.normal(size=(count, 16, 16)).cumsum(1).astype(np.float32) * 0.2
    patch_p = rng.dirichlet(np.ones(count), size=(2, 2)).astype(np.float32)
    p = patch_p.mean((0, 1))
    np.savez(
        path, image=np.stack([image] * 3), label=3, cell=0, node=node, operations=np.array(names * len(sources)),
        sources=np.repeat(sources, len(names)), maps=maps, grid=np.array([2, 2]), patch_p=patch_p, p=p,
        output=np.tensordot(p, maps, 1),
    )  # fmt: skip


def _write_history(path: Path, text: str, rng: np.random.Generator) -> None:
    epochs = np.arange(1, 31)
    accuracy = 95 - 80 * np.exp(-epochs / 6) + rng.normal(size=len(epochs))
    texts = [text if epoch > 9 else f"earlier {epoch // 4}" for epoch in epochs]
    pd.DataFrame({"epoch": epochs, "valid_accuracy": accuracy, "genotype": texts}).to_csv(path, index=False)


def _write_metrics(path: Path, numbers: dict[str, Any], seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**numbers, "cost": {"wall_seconds": seconds, "device": "a test's processor"}}))


def _write_lookup(folder: Path, rng: np.random.Generator) -> None:
    cell = {name: float(90 + rng.normal()) for name in ACCURACIES}
    benchmark = {name: {"best": 94.0, "mean": 80.0, "std": 9.0} for name in ACCURACIES}
    _write_metrics(folder / "metrics.json", {"cell": cell, "benchmark": benchmark, "benchmark_cells": 15625}, 1.0)
    column = np.minimum(94, 70 + np.repeat(rng.normal(size=6), 5).cumsum() * 2 + np.arange(30))
    history = {"epoch": np.arange(1, 31), "arch": NB201_CELL, **dict.fromkeys(ACCURACIES, column)}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(make_config(tmp_path_factory.mktemp("analysis")))
    write_results(plan)
    return plan


def small_dump(p: np.ndarray, labels: list[int], offered: np.ndarray | None = None) -> Dump:
    _, cells, edges, operations = p.shape
    shape = cells, edges, operations
    return Dump(
        p=p.astype(np.float32),
        labels=np.array(labels),
        kinds=["cell"] * cells,
        operations=["none", "skip_connect"][:operations],
        edges=np.array([[0, edge + 1] for edge in range(edges)]),
        offered=np.ones(shape, bool) if offered is None else offered,
        classes=["cat", "dog", "ship"],
    )


def test_similarity_equals_cosines_by_hand() -> None:
    # class means (1, 0), (0, 1), (1, 1) / 2: raw cosines 0, 1/sqrt(2), 1/sqrt(2)
    p = np.array([[0.5, 0], [1.5, 0], [0, 1], [0.5, 0.5]])[:, None, None, :]
    table = statistics.similarity(small_dump(p, [0, 0, 1, 2])).set_index(["class_a", "class_b"])
    assert table.loc[("cat", "dog"), "cosine"] == pytest.approx(0)
    assert table.loc[("cat", "ship"), "cosine"] == pytest.approx(2**-0.5)
    # the mean over classes is (1/2, 1/2): ship equals it, cat and dog lie opposite each other
    assert table.loc[("cat", "dog"), "cosine_centred"] == pytest.approx(-1)
    assert np.isnan(table.loc[("cat", "ship"), "cosine_centred"])


def test_similarity_leaves_out_classes_without_images() -> None:
    table = statistics.similarity(small_dump(np.random.default_rng(0).random((4, 1, 1, 2)), [0, 0, 2, 2]))
    assert sorted(set(table["class_a"])) == ["cat", "ship"]


def test_dip_test_finds_two_modes_and_skips_constants() -> None:
    rng = np.random.default_rng(0)
    two_modes = np.concatenate([rng.normal(0.2, 0.01, 200), rng.normal(0.8, 0.01, 200)])
    p = np.zeros((400, 1, 2, 2))
    p[:, 0, 0, 0], p[:, 0, 0, 1] = two_modes, rng.normal(0.5, 0.05, 400)
    p[:, 0, 1, 0] = 0.25  # constant: no test
    p[:, 0, 1, 1] = two_modes  # not offered: no test
    offered = np.array([[[True, True], [True, False]]])
    tests = statistics.dip_tests(small_dump(p, [0] * 400, offered))
    assert list(zip(tests["edge"], tests["operation"], strict=True)) == [(0, "none"), (0, "skip_connect")]
    assert tests["p_value"][0] < 0.001
    assert tests["p_value"][1] > 0.05
    dip, p_value = diptest(p[:, 0, 0, 1].astype(np.float32).astype(np.float64))
    assert (tests["dip"][1], tests["p_value"][1]) == (dip, p_value)
    summary = statistics.dip_summary(tests, int(offered.sum()))
    assert summary == {
        "tested": 2,
        "constant": 1,
        "rejected": 1,
        "rejected_share": 0.5,
        "rejected_benjamini_hochberg": 1,
    }


def test_dip_of_two_points_is_the_largest_there_is() -> None:
    # Hartigan and Hartigan 1985: the dip lies between 1 / (2 n) and 1/4
    p = np.repeat([0.0, 1.0], 50)[:, None, None, None]
    assert statistics.dip_tests(small_dump(p, [0] * 100))["dip"][0] == pytest.approx(0.25, abs=0.01)


def test_correction_for_many_tests_rejects_less() -> None:
    tests = pd.DataFrame({"p_value": [0.001, *np.linspace(0.03, 1, 99)]})
    summary = statistics.dip_summary(tests, 100)
    assert summary["rejected"] == 4
    assert summary["rejected_benjamini_hochberg"] == 0


def test_all_constant_weights_are_no_error() -> None:
    tests = statistics.dip_tests(small_dump(np.ones((5, 1, 1, 2)), [0] * 5))
    assert statistics.dip_summary(tests, 2)["rejected_share"] is None


def test_dip_test_needs_four_images() -> None:
    with pytest.raises(ValueError, match="3 images are too few"):
        statistics.dip_tests(small_dump(np.random.default_rng(0).random((3, 1, 1, 2)), [0] * 3))


def test_weights_by_hand() -> None:
    # a pair of edges, one with all of it 3/4 and one with 1/2 of its weight on the first operation
    p = np.array([[[0.9, 0.3], [0.4, 0.4]], [[0.9, 0.3], [0.2, 0.2]]])[:, None]
    table = statistics.weights(small_dump(p, [0, 1])).set_index("operation")
    assert table.loc["none", "share"] == pytest.approx((0.75 + 0.5) / 2)
    assert table.loc["skip_connect", "share"] == pytest.approx((0.25 + 0.5) / 2)
    assert table.loc["none", "weight"] == pytest.approx((0.9 + 0.3) / 2)
    assert table.loc["none", "std"] == pytest.approx((0 + 0.1) / 2)
    assert table.loc["none", "uniform"] == pytest.approx(0.5)


def test_weights_count_only_edges_that_offer_the_operation() -> None:
    p = np.array([[[0.6, 0.4], [1.0, 0.0]]])[:, None]
    offered = np.array([[[True, True], [True, False]]])
    table = statistics.weights(small_dump(p, [0], offered)).set_index("operation")
    assert table.loc["skip_connect", ["edges", "share", "uniform"]].tolist() == pytest.approx([1, 0.4, 0.5])
    assert table.loc["none", ["edges", "share", "uniform"]].tolist() == pytest.approx([2, 0.8, 0.75])


def test_statistics_writes_every_method_and_seed(plan: Plan, tmp_path: Path) -> None:
    statistics.statistics(PresentRun(config=plan.config), tmp_path)
    weights = pd.read_csv(tmp_path / "weights.csv")
    assert set(zip(weights["method"], weights["seed"], strict=True)) == {
        (m, s) for m in ("midas", "no_patch") for s in (0, 1)
    }
    assert np.allclose(weights.groupby(["method", "seed", "cell"])["share"].sum(), 1)
    dip = pd.read_csv(tmp_path / "dip.csv")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [summary["tested"] for summary in metrics["dip"]] == dip.groupby("seed").size().tolist() == [4 * 14 * 7] * 2
    assert [summary["rejected"] for summary in metrics["dip"]] == (dip["p_value"] < 0.05).groupby(
        dip["seed"]
    ).sum().tolist()
    assert len(pd.read_csv(tmp_path / "similarity.csv")) == 2 * 10 * 10


def test_statistics_needs_the_key_analysis(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="analysis: missing"):
        statistics.statistics(PresentRun(config=make_config(tmp_path, analysis=None)), tmp_path)


def test_a_missing_dump_is_named_in_one_line(tmp_path: Path) -> None:
    run = PresentRun(config=make_config(tmp_path)).model_dump_json()
    call = [sys.executable, "-m", "midas.analysis.statistics", run, str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "darts/digits/midas/seed0/search/arch.npz" in done.stderr
    assert "No such file" in done.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_a_damaged_dump_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arch.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"arch\.npz: not a readable dump"):
        dumps.load_dump(path)


def test_a_dump_whose_arrays_do_not_fit_is_refused(plan: Plan, tmp_path: Path) -> None:
    with np.load(plan.folder("darts", "digits", "midas", 0) / "search/arch.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "arch.npz", **{**arrays, "labels": arrays["labels"][1:]})
    with pytest.raises(ValueError, match=r"p is \[400, 4, 14, 7\], but the other arrays ask for \[399"):
        dumps.load_dump(tmp_path / "arch.npz")
    np.savez(tmp_path / "arch.npz", **{k: v for k, v in arrays.items() if k != "kinds"})
    with pytest.raises(ValueError, match="lacks kinds"):
        dumps.load_dump(tmp_path / "arch.npz")


def make_table(plan: Plan, number: int, folder: Path) -> tuple[pd.DataFrame, str, str]:
    tables.make(PresentRun(number=number, config=plan.config), folder)
    texts = [(folder / f"table_{number}.{suffix}").read_text() for suffix in ("md", "tex")]
    return pd.read_csv(folder / f"table_{number}.csv"), *texts


def with_config(plan: Plan, **changes: Any) -> Plan:
    return Plan(plan.config.model_copy(update=changes))


def test_darts_table_equals_the_files(plan: Plan, tmp_path: Path) -> None:
    numbers, text, _ = make_table(plan, 2, tmp_path)
    folders = [plan.folder("darts", "digits", "midas", seed) for seed in (0, 1)]
    errors = [100 - json.loads((folder / "retrain/metrics.json").read_text())["test_accuracy"] for folder in folders]
    chosen = (numbers["dataset"] == "digits") & (numbers["method"] == "midas") & (numbers["quantity"] == "test_error")
    row = numbers[chosen].iloc[0]
    assert row[["mean", "std", "best", "n"]].tolist() == pytest.approx(
        [np.mean(errors), np.std(errors, ddof=1), min(errors), 2]
    )
    assert f"| {np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} " in text
    assert "40.50 ± 0.71" in text  # seconds of the two searches: 40 and 41
    assert "a test's processor" in text
    assert "they don't compare with the rows above" in text
    assert "made-up numbers" in text


def test_one_seed_has_no_spread(plan: Plan, tmp_path: Path) -> None:
    numbers, text, latex = make_table(with_config(plan, seeds=[1]), 2, tmp_path)
    own = numbers[numbers["status"] == "measured"]
    assert own["std"].isna().all()
    assert (own["n"] == 1).all()
    error = own[own["quantity"] == "test_error"]["mean"].iloc[0]
    assert f"{error:.2f} ± — " in text
    assert rf"{error:.2f} $\pm$ ---" in latex
    assert "no spread" in text


def test_unconfirmed_literature_is_marked(plan: Plan, tmp_path: Path) -> None:
    numbers, text, latex = make_table(plan, 2, tmp_path)
    unconfirmed = set(numbers.loc[numbers["status"] == "from_memory", "method"])
    assert unconfirmed
    for name in unconfirmed:
        assert f"*{name}†*" in text
        assert rf"\textit{{{name}$^\dagger$}}" in latex
    assert "*beta-DARTS" not in text
    assert "- † not confirmed" in text


def test_literature_prints_what_it_holds(plan: Plan, tmp_path: Path) -> None:
    _, text, _ = make_table(plan, 2, tmp_path)
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    assert rows["DARTS-2nd"] == ["2.76 ± 0.09", "—", "17.54‡", "—", "3.3", "1"]
    assert rows["P-DARTS (4 independent searches)§"] == ["2.81 ± 0.14", "—", "17.49‡", "—", "3.3 ± 0.25", "0.3"]
    assert rows["MIDAS"] == ["2.58‡", "—", "16.62‡", "—", "—", "—"]


def test_nas_bench_201_table_of_trained_cells_says_so(plan: Plan, tmp_path: Path) -> None:
    numbers, text, _ = make_table(plan, 1, tmp_path)
    assert set(numbers.loc[numbers["status"] == "measured", "quantity"]) == {"test_accuracy", "params_m"}
    assert "trained from scratch (no table of the benchmark was given)" in text
    assert "they don't compare" in text
    assert "optimum" not in text


def test_nas_bench_201_table_of_looked_up_cells(plan: Plan, tmp_path: Path) -> None:
    numbers, text, _ = make_table(with_config(plan, nas_bench_201_table="benchmark.csv"), 1, tmp_path)
    files = [plan.folder("nas_bench_201", "digits", "darts", seed) / "lookup/metrics.json" for seed in (0, 1)]
    values = [json.loads(file.read_text())["cell"]["c100_test_acc_200"] for file in files]
    chosen = (numbers["method"] == "darts") & (numbers["quantity"] == "c100_test_acc_200")
    assert numbers[chosen].iloc[0][["mean", "best"]].tolist() == pytest.approx([np.mean(values), max(values)])
    assert "| benchmark    | random cell            | —               | 15625 | 80.00 ± 9.00 " in text
    assert "| benchmark    | optimum                | —               | —     | 94.00 " in text
    assert "looked up in the benchmark" in text


def test_a_table_without_its_files_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"midas/seed0/retrain/metrics\.json: not a readable metrics file: No such file"
    ):
        tables.make(PresentRun(number=2, config=make_config(tmp_path)), tmp_path)
    with pytest.raises(ValueError, match=r"table 9 does not exist at size demo; allowed: \[1, 2\]"):
        tables.make(PresentRun(number=9, config=make_config(tmp_path)), tmp_path)


def test_literature_agrees_with_its_source() -> None:
    source = Path(__file__).parent.parent.parent / "shared/literature/darts.csv"
    if not source.exists():
        pytest.skip("the collection of published numbers is not beside the repository")
    theirs = pd.read_csv(source).dropna(subset=["c10_err_mean", "c10_err_best"], how="all").set_index("method")
    ours = literature.load("darts")
    ours = ours[ours["quantity"] == "c10_error"].set_index("method")
    common = ours.index.intersection(theirs.index)
    assert len(common) > 40
    for part in ("mean", "std", "best"):
        expected = theirs.loc[common, f"c10_err_{part}"].to_numpy()
        assert np.array_equal(ours.loc[common, part].to_numpy(dtype=float), expected, equal_nan=True)


def test_analysis_runs_without_torch() -> None:
    code = "import sys, midas.analysis.figures, midas.analysis.tables, midas.analysis.statistics\n"
    code += "sys.exit(', '.join(sorted({'torch', 'torchvision', 'timm'} & sys.modules.keys())) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.returncode == 0, f"imported: {done.stderr}"
