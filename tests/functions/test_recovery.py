"""How often known functions are found again: the step, its table, and what they refuse."""

import csv
import json

import numpy as np
import pytest
import yaml
from documented import OUTPUTS
from places import ROOT

from midas.analysis.functions import make, share
from midas.config.further.functions import Functions, FunctionsRun
from midas.config.keys import ConfigError
from midas.functions.__main__ import functions
from midas.functions.recovery import TARGETS, drawn, recoveries
from midas.plan.check import load
from midas.plan.runs import PresentRun, decisive
from midas.running.step import main
from midas.spaces.functions import PRIMITIVES

ASKED = {"targets": ["line", "sine"], "methods": ["original"], "seeds": 2, "noise": [0], "rows": 50}
ASKED |= {"primitives": ["linear"], "refit_updates": 200}


def raw(tmp_path, **changes):
    return yaml.safe_load((ROOT / "config/functions.yaml").read_text()) | {
        "results_dir": str(tmp_path),
        "functions": ASKED | changes,
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The plan of a small configuration, after its step."""
    tmp_path = tmp_path_factory.mktemp("functions")
    plan = load(raw(tmp_path))
    functions(FunctionsRun(functions=plan.config.functions), plan.root / "functions")
    return plan


def rows_of(plan):
    with (plan.root / "functions/recovery.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_is_found_with_lines_and_a_sine_is_not(found):
    rows = rows_of(found)
    assert [(row["target"], row["seed"], row["found"], row["same_form"]) for row in rows] == [
        ("line", "0", "1", "1"),
        ("line", "1", "1", "1"),
        ("sine", "0", "0", "0"),
        ("sine", "1", "0", "0"),
    ]
    assert all(row["operations"] == "linear" for row in rows)
    assert rows[0]["equation"] == "y = 2.00 * x + 1.00"
    assert 0.9 < float(rows[2]["explained"]) < 0.99  # what a line can


def test_the_step_says_what_it_did_and_all_of_it_is_described(found):
    folder = found.root / "functions"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["searches"], metrics["found"], metrics["enough"]) == (4, 2, 0.99)
    names = {*rows_of(found)[0], *metrics, "recovery.csv", "metrics.json"} - {"config", "provenance", "cost"}
    assert {name for name in names if f"`{name}`" not in OUTPUTS["functions/"]} == set()


def test_equal_searches_are_equal(found):
    (again,) = recoveries(Functions(**{**ASKED, "targets": ["line"], "seeds": 1}))
    assert {name: str(value) for name, value in again.items()} == rows_of(found)[0]


def test_the_table_has_the_shares_with_intervals(found, tmp_path):
    make(PresentRun(config=found.config), tmp_path)
    lines = (tmp_path / "table_s4.md").read_text().splitlines()
    assert lines[0].startswith(
        "**Table S4.** Search over functions: how often a known one is found again, over 2 seeds."
    )
    (line,) = [text for text in lines if text.startswith("| line: 2x + 1")]
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["original", "100 [34, 100]", "100 [34, 100]"]
    (sine,) = [text for text in lines if text.startswith("| sine")]
    assert [cell.strip() for cell in sine.split("|")[3:5]] == ["0 [0, 66]", "0 [0, 66]"]
    with (tmp_path / "table_s4.csv").open(newline="") as file:
        assert {row["quantity"] for row in csv.DictReader(file)} == {"found", "same_form", "explained"}
    assert r"\thetable}{S\arabic{table}}" in (tmp_path / "table_s4.tex").read_text()


def test_the_interval_of_a_share():
    """Wilson's, by its formula; of none and of all it is no point."""
    z, n, p = 1.959963984540054, 10, 0.6
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = [100 * (centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert [share(6, 10)[name] for name in ("mean", "low", "high")] == pytest.approx([60, *ends])
    assert share(0, 10)["high"] > 20
    assert share(10, 10)["low"] < 80


def test_targets_are_what_they_say():
    x = np.array([-1.5, 0.0, 0.5])
    wanted = {"line": 2 * x + 1, "hinge": [0, 0, 1], "sine": np.sin(x), "exponential": np.exp(x)}
    assert TARGETS.keys() == wanted.keys()
    for name, target in TARGETS.items():
        assert np.array_equal(target.function(x), wanted[name])
        assert target.primitive in PRIMITIVES


def test_noise_comes_on_top_of_equal_points():
    (x, y), (noisy_x, noisy) = (drawn(TARGETS["line"], 2000, noise, 3) for noise in (0.0, 0.1))
    assert np.array_equal(x, noisy_x)
    assert np.array_equal(y, 2 * x[:, 0] + 1)
    assert np.std(noisy - y) == pytest.approx(0.1 * y.std(), rel=0.05)
    assert len(np.unique(drawn(TARGETS["line"], 20, 0.0, 4)[0][:, 0])) == 20


def test_a_search_that_diverges_has_found_nothing(found, tmp_path):
    asked = Functions(**{**ASKED, "primitives": ["exp", "linear_exp"], "nodes": 4, "seeds": 1, "targets": ["line"]})
    (row,) = recoveries(asked)
    assert (row["found"], row["operations"], row["equation"]) == (0, "", "")
    assert np.isnan(row["explained"])
    (tmp_path / "functions/functions").mkdir(parents=True)
    for name in ("recovery.csv", "metrics.json"):
        text = (found.root / "functions" / name).read_text()
        (tmp_path / "functions/functions" / name).write_text(text)
    with (tmp_path / "functions/functions/recovery.csv").open("a") as file:
        file.writelines(f"line,0.0,fair,{seed},nan,0,0,,\n" for seed in range(2))
    make(PresentRun(config=load(raw(tmp_path)).config), tmp_path)
    assert "fair" in (tmp_path / "table_s4.md").read_text()


WRONG = {
    "functions.primitives.1: 'cube' is not allowed; there is no such primitive; none, add, ": {
        "primitives": ["add", "cube"]
    },
    "functions.primitives: ['add', 'add'] is not allowed; each once": {"primitives": ["add", "add"]},
    "functions.rows: 1 is not allowed; ": {"rows": 1},
    "functions.targets.0: 'parabola' is not allowed; ": {"targets": ["parabola"]},
    "functions.noise.0: -0.1 is not allowed; ": {"noise": [-0.1]},
    "functions.colour: unknown key; allowed: targets, ": {"colour": 1},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_key_is_said_in_one_line(message, tmp_path):
    with pytest.raises(ConfigError) as error:
        load(raw(tmp_path, **WRONG[message]))
    (line,) = error.value.problems
    assert line.startswith(message)


def test_without_the_key_nothing_is_different_and_the_table_is_refused(found, tmp_path):
    run = PresentRun(config=found.config.model_copy(update={"functions": None}))
    assert "functions" not in decisive(run)["config"]
    assert decisive(run) == decisive(PresentRun(config=found.config))  # other tables don't ask for it
    with pytest.raises(ValueError, match=r"^table S4 does not exist at size functions; the key functions asks for it$"):
        make(run, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "recovery.csv: not readable: "), ("target,seed\n", "column explained, found, ")]
)
def test_a_damaged_file_is_said_in_one_line(text, message, tmp_path):
    plan = load(raw(tmp_path))
    (plan.root / "functions").mkdir(parents=True)
    if text:
        (plan.root / "functions/recovery.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        make(PresentRun(config=plan.config), tmp_path)
    assert "\n" not in str(error.value)


def test_a_wrong_run_ends_in_one_line_and_before_any_work(tmp_path, monkeypatch, capsys):
    told = json.dumps({"functions": {"primitives": ["cube"]}})
    monkeypatch.setattr("sys.argv", ["functions", told, str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main(FunctionsRun, functions)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: functions.primitives.0: 'cube' is not allowed; there is no such primitive; ")
    assert not (tmp_path / "out").exists()
