"""How deep a supernet trains: the tables are those of the measured rows."""

import json

import pytest

from benchmarks import depth


@pytest.mark.parametrize("name", depth.METHODS)
def test_the_shipped_table_is_that_of_the_shipped_rows(name):
    path = depth.FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    assert (depth.FOLDER / f"{name}.md").read_text() == depth.table(json.loads(path.read_text()))


def test_rows_that_a_file_holds_are_not_measured_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(depth, "batches_of", lambda data: {})
    monkeypatch.setattr(
        depth, "measured", lambda part, row, *_: asked.append(row) or {**row, "norms": [1.0], "losses": [2.0]}
    )
    methods = {"static": depth.METHODS["depth"]["static"]}
    depth.measure(tmp_path / "a.json", methods, tmp_path, 1)
    many = len(asked)
    assert many == sum(map(len, depth.DEPTHS.values())) + len(depth.TRAINED)
    depth.measure(tmp_path / "a.json", methods, tmp_path, 1)
    assert len(asked) == many
    assert "| static | 1.00 [1.00, 1.00] |" in depth.table(json.loads((tmp_path / "a.json").read_text()))
    other = {"static": depth.METHODS["depth"]["static"].model_copy(update={"warmup_epochs": 1})}
    depth.measure(tmp_path / "a.json", other, tmp_path, 1)
    assert len(asked) == 2 * many
    assert len(json.loads((tmp_path / "a.json").read_text())["gradients"]) == sum(map(len, depth.DEPTHS.values()))
    depth.measure(tmp_path / "a.json", methods, tmp_path, 2)  # another number of threads rounds otherwise
    assert len(asked) == 3 * many
