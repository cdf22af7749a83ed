"""The command that counts a network's parameters and multiply-adds."""

import json
import sys

import pytest
from published_cells import DARTS_V2, NO_9930

from midas import count as counting
from midas.spaces.genotype import parse


def run_count(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["count.py", *map(str, arguments)])
    counting.main()
    return json.loads(capsys.readouterr().out)


def test_command_counts_a_genotype_in_any_form(monkeypatch, capsys, tmp_path):
    parse(NO_9930).save(tmp_path / "genotype.json")
    from_text, from_file = (run_count(monkeypatch, capsys, g) for g in (NO_9930, tmp_path / "genotype.json"))
    assert from_text == from_file
    assert (from_text["channels"], from_text["cells"], from_text["image"]) == (16, 5, [32, 32])
    assert (from_text["params"], from_text["multiply_adds"]) == (1_288_506, 184_730_240)
    assert run_count(monkeypatch, capsys, DARTS_V2)["params"] == 3_349_342
    assert run_count(monkeypatch, capsys, DARTS_V2, "--classes", 100)["params"] == 3_349_342 + 90 * (576 + 1)
    assert run_count(monkeypatch, capsys, f"DARTS_V2 = {DARTS_V2}")["params"] == 3_349_342
    assert run_count(monkeypatch, capsys, f"11:05 genotype = Structure(4 nodes with {NO_9930})")["params"] == 1_288_506
    mobile = run_count(monkeypatch, capsys, DARTS_V2, "--imagenet")
    assert mobile["params"] == 4_718_752
    assert 500e6 < mobile["multiply_adds"] < 600e6  # the mobile setting


@pytest.mark.parametrize(
    "arguments",
    [["missing.json"], ["|none~0|"], ["__import__('os')"], [NO_9930, "--imagenet"], [DARTS_V2, "--cells", "2"]],
)
def test_command_refuses_bad_input_in_one_line(arguments, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_count(monkeypatch, capsys, *arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
