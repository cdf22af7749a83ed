"""Figures: drawn from files, equal from run to run, arranged without needless crossings."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_doctree
from jinja2 import StrictUndefined, Template
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_analysis import DARTS_CELL, NB201_CELL, NOTE, make_config, with_config, write_results

from midas.analysis.figures import cells, style
from midas.analysis.figures import drawing as figures
from midas.analysis.figures.dip import median_test
from midas.analysis.figures.found_cells import draw_genotype
from midas.analysis.figures.style import operation_label
from midas.analysis.results import load_number, load_table
from midas.analysis.statistics import writing as statistics
from midas.config.keys import Config
from midas.methods.decoding import random_genotype
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.spaces import SPACES
from midas.spaces.genotype import parse

NUMBERS = [1, 2, 3, 4, 5, 6, 7, 12]
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(make_config(tmp_path_factory.mktemp("figures")))
    write_results(plan)
    statistics.statistics(PresentRun(config=plan.config), plan.root / "analysis")
    return plan


def drawn(number: int, config: Config) -> Figure:
    with matplotlib.rc_context(style.RC):
        figure = figures.FIGURES[number](Plan(config))
        style.add_note(figure, config)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


@pytest.mark.parametrize("number", NUMBERS)
def test_two_runs_give_equal_bytes(plan: Plan, tmp_path: Path, number: int) -> None:
    sums = []
    for name in ("first", "second"):
        figures.draw(PresentRun(number=number, config=plan.config), tmp_path / name)
        files = [tmp_path / name / f"figure_{number:02d}.{suffix}" for suffix in ("pdf", "png")]
        sums.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert sums[0] == sums[1]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_says_its_size_unless_it_is_the_papers(plan: Plan, number: int) -> None:
    assert any(text.startswith("size demo: made-up numbers") for text in texts(drawn(number, plan.config)))
    paper = plan.config.model_copy(update={"paper_protocol": True})
    assert not any("made-up" in text for text in texts(drawn(number, paper)))


@pytest.mark.parametrize("number", NUMBERS)
def test_nothing_leaves_the_page_or_touches_the_note(plan: Plan, number: int) -> None:
    figure = drawn(number, plan.config)
    assert all(np.array(figure.get_tightbbox().min) >= 0)
    assert all(np.array(figure.get_tightbbox().max) <= figure.get_size_inches())
    note = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("size demo"))[0]
    parts = [*figure.axes, *figure.legends]
    assert not any(part.get_tightbbox().overlaps(note.get_window_extent()) for part in parts)


def test_every_figure_of_the_plan_can_be_drawn(plan: Plan) -> None:
    assert plan.figures() == NUMBERS  # S1 to S4 are not searched here
    assert sorted(figures.FIGURES) == list(range(1, 13))
    with pytest.raises(ValueError, match="figure 8 does not exist at size demo; allowed: "):
        figures.draw(PresentRun(number=8, config=plan.config), Path("unused"))


@pytest.mark.parametrize("number", NUMBERS)
def test_missing_files_are_named(tmp_path: Path, number: int) -> None:
    config = make_config(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/results/demo/\S+: not a .*No such file"):
        figures.draw(PresentRun(number=number, config=config), tmp_path)


def test_figures_of_a_nas_bench_201_search(plan: Plan, tmp_path: Path) -> None:
    config = make_config(
        tmp_path, analysis={"space": "nas_bench_201", "dataset": "digits", "method": "midas", "compare": ["midas"]}
    )
    own = Plan(config)
    write_results(own)
    statistics.statistics(PresentRun(config=config), own.root / "analysis")
    for number in range(1, 6):
        assert "none" in texts(drawn(number, config)) or number in (3, 4)


def test_progress_says_which_accuracy_it_shows(plan: Plan) -> None:
    trained = " ".join(texts(drawn(12, plan.config)))
    assert "accuracy of the supernet" in trained
    assert "final cell\nretrained" in trained
    figure = drawn(12, with_config(plan, nas_bench_201_table="benchmark.csv").config)
    looked_up = " ".join(texts(figure))
    assert "looked up in the benchmark" in looked_up
    assert "optimum of the benchmark 94.00" in looked_up
    methods, seeds = plan.experiment("nas_bench_201", "digits").methods, plan.config.seeds
    folders = [plan.folder("nas_bench_201", "digits", method, seed) for method in methods for seed in seeds]
    decoded = [load_number(folder / "lookup/metrics.json", "cell", "c10_test_acc_200") for folder in folders]
    marks = [line.get_ydata()[0] for line in figure.axes[1].lines if line.get_linestyle() == "None"]
    assert marks == decoded  # the cells of the tables, and not those of the last epoch


def test_progress_marks_where_the_decoded_cell_changes(plan: Plan) -> None:
    ax = drawn(12, plan.config).axes[0]
    marks = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "None"]
    assert [list(line) for line in marks] == [[4, 8, 10]] * 4  # two methods, two seeds


def test_median_test_does_not_depend_on_the_order_of_rows() -> None:
    tests = pd.DataFrame({"cell": [0, 0, 1, 1], "edge": 0, "operation": list("abab"), "p_value": [0.9, 0.5, 0.5, 0.1]})
    for order in itertools.permutations(range(4)):
        row = median_test(tests.iloc[list(order)])
        assert (row["cell"], row["operation"], row["p_value"]) == (0, "b", 0.5)


@pytest.mark.parametrize("text", [DARTS_V2, DARTS_CELL, NB201_CELL])
def test_published_cells_need_no_crossing(text: str) -> None:
    genotype = parse(text)
    for kind in genotype.cells:
        layout = cells.arrange(genotype.edges(kind), 2 if genotype.space == "darts" else 1)
        assert layout.crossings == 0


def test_layout_counts_the_crossings_that_are_drawn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        edges = [(int(s), t, "skip_connect") for t in range(2, 6) for s in rng.choice(t, min(t, 3), replace=False)]
        layout = cells.arrange(edges, 2)
        place = {node: position * cells.STEP for position, node in enumerate(layout.order)}
        curves = [
            cells._arc(place[s], place[t], np.sign(level) * 0.3 + cells.LEVEL * level)
            for (s, t, _), level in zip(edges, layout.levels, strict=True)
        ]
        assert sum(_cross(a[::8], b[::8]) for a, b in itertools.combinations(curves, 2)) == layout.crossings


def _cross(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two curves given as polylines intersect."""
    p, q = a[:-1, None], a[1:, None]
    r, s = b[None, :-1], b[None, 1:]
    side = lambda o, u, v: np.sign((u - o)[..., 0] * (v - o)[..., 1] - (u - o)[..., 1] * (v - o)[..., 0])  # noqa: E731
    return bool(((side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)).any())


@pytest.mark.parametrize("text", [DARTS_V2, NB201_CELL])
def test_every_kept_edge_is_drawn_with_its_operation(text: str) -> None:
    genotype = parse(text)
    with matplotlib.rc_context(style.RC):
        found = texts(draw_genotype(genotype))
    expected = [style.operation_label(op, short=True) for kind in genotype.cells for *_, op in genotype.edges(kind)]
    assert sorted(text for text in found if text in set(expected)) == sorted(expected)


def test_operations_have_colours_that_differ_in_every_kind_of_vision() -> None:
    for space in SPACES.values():
        for a, b in itertools.combinations(space.operations, 2):
            assert min(_distance(a, b, vision) for vision in VISION.values()) > 20, (a, b)


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _distance(a: str, b: str, vision: np.ndarray) -> float:
    first, second = (_lab(np.array(to_rgb(style.COLOURS[name])), np.array(vision)) for name in (a, b))
    return float(np.linalg.norm(first - second))


def _lab(rgb: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour as someone with this vision sees it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("looked_up", [False, True])
def test_every_table_and_figure_has_a_caption_that_renders(plan: Plan, looked_up: bool) -> None:
    names = [f"figure_{number:02d}" for number in plan.figures()] + [f"table_{number}" for number in plan.tables()]
    raw = plan.config.model_dump(mode="json", exclude_unset=True)
    raw |= {"nas_bench_201_table": "benchmark.csv"} if looked_up else {}
    folder = Path(__file__).parent.parent / "workflow/report"
    for name in names:
        template = Template((folder / f"{name}.rst").read_text(), undefined=StrictUndefined)
        text = template.render(snakemake=SimpleNamespace(config=raw))
        publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})
        assert "made-up numbers" in text
        assert "seeds 0, 1" in text


@pytest.mark.parametrize("space", ["s1", "s4"])
def test_cells_of_the_robustdarts_spaces_have_figures_of_their_own(tmp_path: Path, space: str) -> None:
    config = make_config(tmp_path)
    experiments = [e.model_copy(update={"space": space}) for e in config.experiments if e.space == "darts"][:1]
    config = config.model_copy(update={"experiments": experiments, "analysis": None})
    plan = Plan(config)
    number = {"s1": 8, "s4": 11}[space]
    assert plan.figures() == [number]
    cell = plan.shown_cell(number)
    assert cell is not None
    folder = plan.cell_folder(cell) / "decode"
    folder.mkdir(parents=True)
    genotype = random_genotype(SPACES[space], 0)
    genotype.save(folder / "genotype.json")
    shown = " ".join(texts(drawn(number, config)))
    for kind in genotype.cells:
        for _, _, operation in genotype.edges(kind):
            assert operation_label(operation, short=True) in shown


# --- whatever classes, groups and notes are called

STRANGE = ["NA", "None", "null", "nan", "00001", "1e5", "True", "inf", "N/A", "-"]
"""Names that are read as something else where nobody says that they are text."""


def named(root: Path, names: list[str], groups: dict[str, list[str]], note: str = "made up") -> Plan:
    """A plan with results whose ten classes have these names."""
    chosen = {"space": "darts", "dataset": "digits", "method": "midas", "compare": ["midas"], "groups": groups}
    plan = Plan(make_config(root, analysis=chosen, note=note))
    write_results(plan)
    for path in plan.root.rglob("arch.npz"):
        arrays = dict(np.load(path))
        np.savez(path, **arrays | {"classes": np.array(names)})
    statistics.statistics(PresentRun(config=plan.config), plan.root / "analysis")
    return plan


def axis_names(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_classes_may_be_called_anything(tmp_path: Path) -> None:
    groups = {"None": ["nan", "00001"], "NA": ["NA", "null"]}
    plan, plain = (
        named(
            tmp_path / place,
            names,
            {group: [names[STRANGE.index(name)] for name in members] for group, members in groups.items()},
        )
        for place, names in (("strange", STRANGE), ("plain", list("abcdefghij")))
    )
    table = load_table(plan.root / "analysis/similarity.csv", ())
    assert table["class_a"].tolist() == [name for _ in plan.config.seeds for name in STRANGE for _ in STRANGE]
    figure, other = drawn(4, plan.config), drawn(4, plain.config)
    order = ["nan", "00001", "NA", "null", "None", "1e5", "True", "inf", "N/A", "-"]
    assert axis_names(figure) == order
    assert axis_names(other) == ["abcdefghij"[STRANGE.index(name)] for name in order]
    for part in (0, 1):  # the same picture but for the names
        first, second = (f.axes[part].collections[0].get_array() for f in (figure, other))
        np.testing.assert_array_equal(first, second)
        assert len(figure.axes[part].patches) == 2
    found, expected = (json.loads((p.root / "analysis/metrics.json").read_text())["groups"] for p in (plan, plain))
    assert found["p_value"] is not None
    assert {k: found[k] for k in ("within", "between", "p_value")} == {
        k: expected[k] for k in ("within", "between", "p_value")
    }


def test_methods_may_be_called_anything(plan: Plan, tmp_path: Path) -> None:
    path = plan.root / "analysis/weights.csv"
    for name in ("nan", "null", "00001", "1e5"):
        rows = [line.replace("midas,", f"{name},", 1) for line in path.read_text().splitlines()]
        (tmp_path / "weights.csv").write_text("\n".join(rows))
        table = load_table(tmp_path / "weights.csv", ("method", "share"))
        assert name in set(table["method"])
        expected = load_table(path, ())
        assert table.drop(columns="method").equals(expected.drop(columns="method"))


def test_a_class_whose_similarity_is_undefined_stays_as_undefined(plan: Plan, tmp_path: Path) -> None:
    own = with_config(plan, results_dir=str(tmp_path))
    (own.root / "analysis").mkdir(parents=True)
    (own.root / "analysis/metrics.json").write_bytes((plan.root / "analysis/metrics.json").read_bytes())
    table = pd.read_csv(plan.root / "analysis/similarity.csv")
    table.loc[(table["class_a"] == 3) | (table["class_b"] == 3), "cosine_centred"] = np.nan
    table.to_csv(own.root / "analysis/similarity.csv", index=False)
    figure = drawn(4, own.config)
    for part, undefined in ((0, 0), (1, 2 * 9)):
        values = figure.axes[part].collections[0].get_array()
        assert values.shape == (10, 10)
        assert np.ma.count_masked(values) == 10 + undefined
    assert "3" in axis_names(figure)
    assert [ax.get_xlabel().endswith("undefined: 3") for ax in figure.axes[:2]] == [False, True]
    table["cosine"] = np.nan
    table.to_csv(own.root / "analysis/similarity.csv", index=False)
    assert "undefined: " in drawn(4, own.config).axes[0].get_xlabel()


# --- a user's text is text

DOLLARS = ["$", "a$b$", "$x_{$", r"\$", "$$", r"$\frac$", "_", "%", "&", "<b>"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_note_with_dollar_signs_is_drawn_as_it_is(plan: Plan, tmp_path: Path, number: int) -> None:
    config = with_config(plan, note=NOTE).config
    figures.draw(PresentRun(number=number, config=config), tmp_path)
    note = next(text for text in texts(drawn(number, config)) if text.startswith("size demo: "))
    assert " ".join(note.split()) == f"size demo: {NOTE}"


def test_classes_and_groups_with_dollar_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    plan = named(tmp_path, DOLLARS, {"$a": ["$", "$$"], r"$\b$": ["%", "_"]}, NOTE)
    for number in (1, 4):
        figures.draw(PresentRun(number=number, config=plan.config), tmp_path)
    figure = drawn(4, plan.config)
    assert axis_names(figure) == ["$", "$$", "%", "_", "a$b$", "$x_{$", r"\$", r"$\frac$", "&", "<b>"]
    assert figure.axes[1].get_xlabel().startswith(r"$a / $\b$: within")
    assert any(text.startswith("“\\$”\n") for text in texts(drawn(1, plan.config)))  # of the class 3


@pytest.mark.parametrize("number", NUMBERS)
def test_formulas_are_those_of_this_project_alone(plan: Plan, number: int) -> None:
    figure = drawn(number, plan.config)
    formulas = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert all(text.get_parse_math() for text in formulas)
    assert formulas or number == 12  # it has one panel, and no letter


def test_a_panels_text_is_text_beside_its_letter() -> None:
    with matplotlib.rc_context(style.RC):
        figure = Figure()
        style.panel_label(figure.subplots(), "a", r"$x_{$ and \$")
        figure.draw_without_rendering()
