"""From found cells and a table of the benchmark to files, table S2 and figure S2."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from benchmark_tables import write_whole_table
from documented import undocumented
from small_configuration import RAW

from midas.analysis.neighbourhoods import figure, landscape, table
from midas.analysis.neighbourhoods.landscape import RADIUS
from midas.analysis.neighbourhoods.writing import neighbourhoods
from midas.plan.check import load
from midas.plan.further.neighbourhoods import FILES, decided_by, folder
from midas.plan.runs import PresentRun
from midas.running.step import main
from midas.spaces.benchmark import read_table
from midas.spaces.genotype import parse
from midas.spaces.neighbours.nas_bench_201 import neighbours

CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
FOUND = {
    ("midas", 0): CONVOLUTIONS,
    ("midas", 1): CONVOLUTIONS,
    ("static", 0): CONVOLUTIONS.replace("nor_conv_3x3~2", "skip_connect~2"),
    ("static", 1): CONVOLUTIONS.replace("nor_conv_3x3", "none"),
}
SETTINGS = {"accuracies": ["c10_test_acc_200"], "random_cells": 50, "matched_cells": 10, "draws": 200}
ACCURACY = "c10_test_acc_200"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plan and folder of a finished step."""
    root = tmp_path_factory.mktemp("near")
    write_whole_table(root / "t.csv")
    places = {"results_dir": str(root / "results"), "figures_dir": str(root / "figures")}
    raw = RAW | places | {"nas_bench_201_table": str(root / "t.csv"), "neighbourhoods": SETTINGS}
    plan = load(raw | {"experiments": RAW["experiments"][:1], "analysis": None})
    for cell in plan.cells():
        path = plan.cell_folder(cell) / "decode/genotype.json"
        path.parent.mkdir(parents=True)
        parse(FOUND[cell.method, cell.seed]).save(path)
    neighbourhoods(PresentRun(config=plan.config), folder(plan))
    return plan


def read(plan, name):
    return pd.read_csv(folder(plan) / f"{name}.csv", keep_default_na=False)


def test_curves_of_a_cell_are_those_of_its_listed_neighbours(made):
    rows = read_table(folder(made).parents[2] / "t.csv")
    cells = read(made, "cells")
    chosen = cells[(cells["arch"] == CONVOLUTIONS) & (cells["accuracy"] == ACCURACY)].set_index("radius")
    for radius in range(RADIUS + 1):
        values = [rows[str(cell)][ACCURACY] for cell in neighbours(parse(CONVOLUTIONS), radius)]
        assert chosen.loc[radius, "mean"] == pytest.approx(np.mean(values))
        assert chosen.loc[radius, "q50"] == np.quantile(values, 0.5, method="inverted_cdf")
    assert set(chosen["found_by"]) == {"midas"}


def test_a_cell_that_was_found_twice_counts_once(made):
    metrics = json.loads((folder(made) / "metrics.json").read_text())
    assert (metrics["searches"], metrics["found_cells"], metrics["found_with_none"]) == (4, 3, 1)
    curves = read(made, "curves")
    found = curves[(curves["group"] == "found") & (curves["radius"] == 0)].set_index("method")
    assert found["cells"].to_dict() == {"": 3, "midas": 1, "static": 2}
    assert (curves[curves["group"] == "random"]["cells"] == 50).all()


def test_the_benchmark_itself_around_its_best_cell(shared_data):
    """Listed one by one: the real table, the paper's cell no. 9930."""
    table = shared_data / "nas_bench_201/nas_bench_201.csv.gz"
    rows = read_table(table)
    best = max(rows, key=lambda text: rows[text]["c100_test_acc_200"])
    assert rows[best]["index"] == 9930
    accuracy = landscape.read_accuracies(table, ["c100_test_acc_200"])["c100_test_acc_200"]
    place = landscape.place_of(parse(best))
    for radius, count in ((1, 24), (2, 240), (3, 1280)):
        listed = [rows[str(other)]["c100_test_acc_200"] for other in neighbours(parse(best), radius)]
        assert len(listed) == count
        drop = rows[best]["c100_test_acc_200"] - np.mean(listed)
        assert landscape.drops(accuracy)[radius, place] == pytest.approx(drop, rel=1e-9)


def test_a_curve_of_a_group_is_the_mean_of_its_cells(made):
    cells, curves = read(made, "cells"), read(made, "curves")
    group = curves[(curves["group"] == "found") & (curves["method"] == "")].set_index("radius")
    own = cells[cells["arch"].isin(FOUND.values())].pivot(index="arch", columns="radius", values="mean")
    for radius in range(RADIUS + 1):
        assert group.loc[radius, "mean"] == pytest.approx(own[radius].mean())
        assert group.loc[radius, "drop"] == pytest.approx((own[0] - own[radius]).mean(), abs=1e-9)
        assert group.loc[radius, "change"] >= abs(group.loc[radius, "drop"]) - 1e-9


def test_the_best_cell_and_the_paths_from_it(made):
    cells, paths = read(made, "cells"), read(made, "paths")
    best = cells[cells["distance_to_best"] == 0]
    rows = read_table(folder(made).parents[2] / "t.csv")
    assert best["mean"].max() == max(row[ACCURACY] for row in rows.values())
    along = paths[paths["group"] == "best"]
    assert along["step"].tolist() == [0, 1, 2, 3]
    assert along["mean"].iloc[0] == pytest.approx(best["mean"].max())
    assert along["barrier"].iloc[0] == pytest.approx(best["barrier"].iloc[0])


def test_tests_compare_with_cells_of_the_same_accuracy(made):
    tests = read(made, "tests")
    assert set(tests["reference"]) == {"every", "without_none"}
    every = tests[(tests["method"] == "static") & (tests["reference"] == "every")]
    assert every["measure"].tolist() == [*["drop"] * 3, *["change"] * 3, "barrier"]
    assert (every["cells"] == 2).all()
    rows = read_table(folder(made).parents[2] / "t.csv")
    others = np.array([row[ACCURACY] for cell, row in rows.items() if cell not in FOUND.values()])
    own = [rows[FOUND["static", seed]][ACCURACY] for seed in (0, 1)]
    gaps = [np.mean(sorted(others - value, key=abs)[:10]) for value in own]
    np.testing.assert_allclose(every["accuracy_gap"], np.mean(gaps), rtol=1e-9)
    np.testing.assert_allclose(tests["found"] - tests["matched"], tests["difference"], atol=1e-9)
    assert (tests["low"] <= tests["high"]).all()


def test_the_same_again_is_the_same(made, tmp_path):
    neighbourhoods(PresentRun(config=made.config), tmp_path)
    for name in FILES[1:]:
        assert (tmp_path / name).read_bytes() == (folder(made) / name).read_bytes()


def test_table_and_figure_show_the_files_and_need_no_table_of_the_benchmark(made, tmp_path):
    run = PresentRun(config=made.config.model_copy(update={"nas_bench_201_table": "/gone.csv"}))
    table.make(run, made.root / "tables")
    figure.draw(run, made.root.parents[1] / "figures/test")
    text = (made.root / "tables/table_s2.md").read_text()
    curves, tests = read(made, "curves"), read(made, "tests")
    drop = curves[(curves["group"] == "found") & (curves["method"] == "") & (curves["radius"] == 1)].iloc[0]
    (row,) = [line for line in text.splitlines() if "found by the searches" in line]
    assert f"{drop['drop']:.2f} ± {float(drop['drop_std']):.2f}" in row
    first = tests[(tests["method"] == "midas") & (tests["reference"] == "every")].iloc[0]
    (row,) = [line for line in text.splitlines() if line.startswith("| midas") and "every cell" in line]
    ends = [f"{first[name]:+.2f}".replace("-", "\N{MINUS SIGN}") for name in ("difference", "low", "high")]
    assert f"{ends[0]} [{ends[1]}, {ends[2]}]" in row
    assert "Searches: 4; different cells that they found: 3" in text
    assert r"\thetable}{S\arabic{table}}" in (made.root / "tables/table_s2.tex").read_text()
    assert pd.read_csv(made.root / "tables/table_s2.csv")["source"].str.contains("neighbourhoods/").all()
    figures = made.root.parents[1] / "figures/test"
    assert sorted(path.name for path in figures.iterdir()) == ["figure_s2.pdf", "figure_s2.png"]
    before = (figures / "figure_s2.png").read_bytes()
    figure.draw(run, tmp_path)
    assert (tmp_path / "figure_s2.png").read_bytes() == before
    assert undocumented(made.root, figures) == []


def test_what_is_finished_stays_where_the_table_is_gone(made):
    before = decided_by(made)
    gone = made.config.model_copy(update={"nas_bench_201_table": "/gone.csv"})
    assert decided_by(type(made)(gone)) == before
    fewer = made.config.neighbourhoods.model_copy(update={"random_cells": 60})
    assert decided_by(type(made)(made.config.model_copy(update={"neighbourhoods": fewer}))) != before


def ends_in(made, monkeypatch, capsys, tmp_path, **changes):
    """The line of the error that the step ends in."""
    run = PresentRun(config=made.config.model_copy(update=changes))
    monkeypatch.setattr(sys, "argv", ["neighbourhoods", run.model_dump_json(), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        main(PresentRun, neighbourhoods)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_table_without_a_column_is_one_line(made, monkeypatch, capsys, tmp_path):
    path = tmp_path / "less.csv"
    write_whole_table(path, without=[ACCURACY])
    line = ends_in(made, monkeypatch, capsys, tmp_path, nas_bench_201_table=str(path))
    assert line.startswith(f"error: {path}: column {ACCURACY} is missing; needed: ")


def test_a_table_without_a_cell_is_one_line(made, monkeypatch, capsys, tmp_path):
    lines = (folder(made).parents[2] / "t.csv").read_text().splitlines(keepends=True)
    (tmp_path / "less.csv").write_text("".join(lines[:-1]))
    line = ends_in(made, monkeypatch, capsys, tmp_path, nas_bench_201_table=str(tmp_path / "less.csv"))
    assert "less.csv: 15,624 cells are not allowed; 15,625, each once" in line


def test_a_cell_of_another_space_is_one_line(made, monkeypatch, capsys, tmp_path):
    text = "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], normal_concat=[2], "
    text += "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2])"
    for cell in made.cells():
        path = tmp_path / made.cell_folder(cell).relative_to(made.root.parent) / "decode/genotype.json"
        path.parent.mkdir(parents=True)
        parse(text).save(path)
    line = ends_in(made, monkeypatch, capsys, tmp_path, results_dir=str(tmp_path))
    assert line.startswith(f"error: {tmp_path}/test/nas_bench_201/digits/midas/seed0/decode/genotype.json: Genotype(")
    assert line.endswith("is not allowed; a cell of nas_bench_201")


def test_without_the_key_there_is_nothing_to_show(made, monkeypatch, capsys, tmp_path):
    line = ends_in(made, monkeypatch, capsys, tmp_path, neighbourhoods=None)
    assert line == "error: neighbourhoods: the keys neighbourhoods and nas_bench_201_table are both needed"
    for show in (table.neighbourhoods, figure.neighbourhoods):
        with pytest.raises(ValueError, match=r"^neighbourhoods: missing; table and figure S2 show them$"):
            show(type(made)(made.config.model_copy(update={"neighbourhoods": None})))


def test_a_missing_or_damaged_file_is_one_line(made, tmp_path):
    plan = type(made)(made.config.model_copy(update={"results_dir": str(tmp_path)}))
    for show in (table.neighbourhoods, figure.neighbourhoods):
        with pytest.raises(ValueError, match=r"/neighbourhoods/\w+\.csv: not a readable table: No such file"):
            show(plan)
    folder(plan).mkdir(parents=True)
    (folder(plan) / "curves.csv").write_text("accuracy,method\n")
    with pytest.raises(ValueError, match=r"curves\.csv: column group, radius, mean, q25, q75 is missing"):
        figure.neighbourhoods(plan)
