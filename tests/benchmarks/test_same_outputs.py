"""Whether two checkouts leave the same: what is compared, what is left out, and for which steps it says so."""

import json

import pytest

from benchmarks import same_outputs

CELL = "results/demo/darts/digits/midas/seed0"
FILES = {
    f"{CELL}/search/arch.npz": "weights",
    f"{CELL}/search/metrics.json": json.dumps(
        {"accuracy": 1, "cost": {"wall_seconds": 1}, "provenance": {"commit": "a"}}
    ),
    f"{CELL}/search.log": "a log",
    f"{CELL}/search_checkpoint/newest.pt": "a checkpoint",
    f"{CELL}/decode/genotype.json": "{}",
    "results/demo/darts/digits/cost/metrics.json": json.dumps({"seconds": 1}),
    "results/demo/tables/table_2.csv": "quantity,mean\nerror,1\nsearch_seconds,5\n",
    "results/demo/tables/table_2.md": "| 1 | 5 |",
    "results/demo/tables/table_4.csv": "quantity,mean\nerror,1\n",
    "results/demo/tables/table_4.md": "| 1 |",
    "figures/demo/figure_01.png": "pixels",
}
SAME = {
    f"{CELL}/search/metrics.json": json.dumps(
        {"accuracy": 1, "cost": {"wall_seconds": 2}, "provenance": {"commit": "b"}}
    ),
    f"{CELL}/search.log": "another log",
    f"{CELL}/search_checkpoint/newest.pt": "another checkpoint",
    "results/demo/darts/digits/cost/metrics.json": json.dumps({"seconds": 2}),
    "results/demo/tables/table_2.csv": "quantity,mean\nerror,1\nsearch_seconds,6\n",
    "results/demo/tables/table_2.md": "| 1 | 6 |",
}
OTHER = {
    f"{CELL}/search/arch.npz": "other weights",
    f"{CELL}/search/metrics.json": json.dumps({"accuracy": 2, "cost": {}, "provenance": {}}),
    "results/demo/tables/table_2.csv": "quantity,mean\nerror,2\nsearch_seconds,5\n",
    "results/demo/tables/table_4.md": "| 2 |",
    "figures/demo/figure_01.png": "other pixels",
}


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """Makes two checkouts, the second with other files, and compares them."""
    sources = {step: {"one": f"{step} before", "other": f"{step} now"} for step in same_outputs.STEPS}
    sources["decode"]["other"] = "decode before"
    monkeypatch.setattr(
        same_outputs,
        "digests",
        lambda checkout, function: {step: found[checkout.name] for step, found in sources.items()},
    )

    def compare(changes):
        for name, files in (("one", FILES), ("other", FILES | changes)):
            for file, text in files.items():
                if text is not None:
                    path = tmp_path / name / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
        monkeypatch.setattr("sys.argv", ["same_outputs", str(tmp_path / "one"), str(tmp_path / "other")])
        code = same_outputs.main()
        return code, capsys.readouterr().out

    return compare


def test_times_and_logs_are_no_difference_and_steps_that_were_compared_are_named(compared):
    code, said = compared(SAME)
    counted, _, entries = said.partition("\n")
    assert code == 0
    assert counted == "8 files compared, 0 differ"
    assert json.loads(entries) == {"search now": "search before"}


@pytest.mark.parametrize("file", OTHER)
def test_a_file_that_differs_is_named(compared, file):
    code, said = compared({file: OTHER[file]})
    assert code == 1
    assert f"differs: {file}" in said


def test_a_file_that_is_missing_is_named(compared):
    code, said = compared({f"{CELL}/decode/genotype.json": None})
    assert code == 1
    assert f"only in one: {CELL}/decode/genotype.json" in said


def test_without_results_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["same_outputs", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="no results of size demo in both"):
        same_outputs.main()
