"""The step that scores a part of a sample: what it writes, that nothing is lost when it is killed, that no table is read."""

import csv
import json

import pytest
from small_configuration import RAW

import midas.score
from midas.config.further.proxies import Proxies
from midas.images.datasets import KNOWN
from midas.plan.check import load
from midas.plan.runs import ScoreRun
from midas.proxies.kept import Kept
from midas.proxies.scoring import SCORES
from midas.running.provenance import ROOT
from midas.running.step import main
from midas.score import score
from midas.spaces import benchmark
from midas.spaces.accuracies import drawn

SMALL = Proxies(dataset="digits", sample=7, chunk=3, channels=2, cells=1)
RUN = ScoreRun(dataset=KNOWN["digits"], proxies=SMALL, chunk=0, threads=1)


def rows(folder):
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores") / "chunk0"
    score(RUN, folder)
    return folder


def test_each_cell_of_the_part_has_its_scores(whole):
    found = rows(whole)
    assert [row["arch"] for row in found] == drawn(7, SMALL.seed)[:3]
    assert [int(row["index"]) for row in found] == [benchmark.numbers()[row["arch"]] for row in found]
    assert list(found[0]) == ["index", "arch", *SCORES]
    assert all(float(row[name]) >= 0 for row in found for name in SCORES)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["cells"] == 3
    assert metrics["finite"] == dict.fromkeys(SCORES, 3)
    assert metrics["cost"]["wall_seconds"] > 0


def test_the_last_part_is_what_is_left(tmp_path):
    score(RUN.model_copy(update={"chunk": 2}), tmp_path / "chunk2")
    assert [row["arch"] for row in rows(tmp_path / "chunk2")] == drawn(7, SMALL.seed)[6:]


def test_a_killed_job_goes_on_with_the_next_cell(whole, tmp_path, monkeypatch):
    folder, calls, real = tmp_path / "chunk0", [], midas.score.scores

    def killed(genotype, *rest):
        calls.append(str(genotype))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(genotype, *rest)

    monkeypatch.setattr(midas.score, "scores", killed)
    with pytest.raises(KeyboardInterrupt):
        score(RUN, folder)
    assert not folder.exists()
    kept = tmp_path / "chunk0_checkpoint/scores.jsonl"
    kept.write_text(kept.read_text()[:-5])  # the line was cut off as it was written
    score(RUN, folder)
    cells = drawn(7, SMALL.seed)[:3]
    assert calls == [*cells, *cells[1:]]  # the first isn't scored again
    assert (folder / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()
    assert not kept.exists()


def test_a_job_that_is_asked_to_leave_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr("midas.running.limits.asked", lambda: "SIGTERM")
    with pytest.raises(SystemExit) as left:
        score(RUN, tmp_path / "chunk0")
    assert left.value.code == 75


def test_scores_of_another_run_are_set_aside(tmp_path, capsys):
    path = tmp_path / "chunk0_checkpoint/scores.jsonl"
    Kept(path, {"config": {"seed": 1}}).add("cell", {"params": 1.0, "synflow": float("inf")}, 0.5)
    again = Kept(path, {"config": {"seed": 1}})
    assert (again.rows, again.seconds) == ({"cell": {"params": 1.0, "synflow": None}}, {"cell": 0.5})
    other = Kept(path, {"config": {"seed": 2}})
    assert other.rows == {}
    assert "config.seed: 1 there, 2 now" in capsys.readouterr().err
    assert [p.name for p in sorted(path.parent.iterdir())] == ["scores.0.aside", "scores.jsonl"]


def test_no_table_of_accuracies_is_read_or_known(tmp_path, monkeypatch):
    """The benchmark is for analysis alone: what scores, searches or chooses is never told where its table lies."""
    monkeypatch.setattr(benchmark, "read_table", None)
    monkeypatch.setattr(benchmark, "Benchmark", None)
    score(RUN.model_copy(update={"proxies": SMALL.model_copy(update={"sample": 1})}), tmp_path / "chunk0")
    raw = RAW | {"proxies": {"dataset": "digits", "robust": {"table": "robust.csv", "columns": ["pgd"]}}}
    raw |= {"nas_bench_201_table": "table.csv"}
    plan = load(RAW | {"proxies": {"dataset": "digits"}})
    plan = type(plan)(config=type(plan.config).model_validate(raw))
    told = plan.run("score", chunk=0)
    assert "robust.csv" not in told
    assert "table.csv" not in told
    sources = [*(ROOT / "midas/proxies").glob("*.py"), ROOT / "midas/score.py", ROOT / "midas/proxy.py"]
    names = ("read_table", "Benchmark", "read_accuracies", "nas_bench_201_table")
    assert not [path.name for path in sources if any(name in path.read_text() for name in names)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 2000}, "batch_size: 2000 is not allowed; digits has 1437 images"),
        ({"channels": 0}, "proxies.channels: 0 is not allowed"),
    ],
)
def test_wrong_runs_end_in_one_line(change, message, tmp_path, monkeypatch, capsys):
    told = RUN.model_dump(mode="json")
    told["proxies"] |= change
    monkeypatch.setattr("sys.argv", ["score", json.dumps(told), str(tmp_path / "chunk0")])
    with pytest.raises(SystemExit) as ended:
        main(ScoreRun, score)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
