"""Cells in the forms of other code: there and back, by hand, and what has no such form."""

import json
import subprocess
import sys

import pytest
from published_cells import DARTS_V2

from midas.spaces import SPACES
from midas.spaces.benchmark import numbers
from midas.spaces.forms import EDGES, OF_BENCHMARK, OF_DARTS, read, written
from midas.spaces.genotype import Genotype, load, parse

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
NASLIB = "[2, 1, 4, 0, 3, 0]"
"""The same: edges 0-1, 0-2, 0-3, 1-2, 1-3, 2-3."""


def test_a_cell_of_the_benchmark_by_hand():
    assert EDGES == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    assert written(parse(CELL), "naslib") == NASLIB
    for text in (NASLIB, "(2, 1, 4,\n 0, 3, 0)"):
        assert read(text) == parse(CELL)
    assert set(OF_BENCHMARK) == set(SPACES["nas_bench_201"].operations)


def test_every_cell_of_the_benchmark_comes_back():
    for text in list(numbers())[::97]:
        assert read(written(parse(text), "naslib")) == parse(text)


def test_darts_second_order_cell_by_hand():
    compact = read(written(parse(DARTS_V2), "naslib"))
    assert compact == parse(DARTS_V2)
    normal, _ = eval(written(parse(DARTS_V2), "naslib"))
    assert normal[:3] == ((0, 3), (1, 3), (0, 3))  # three separable 3x3 convolutions
    assert OF_DARTS[3] == "sep_conv_3x3"
    assert set(OF_DARTS) == set(SPACES["darts"].operations) - {"none"}


@pytest.mark.parametrize(
    "text", ["[1, 2]", "[9, 0, 0, 0, 0, 0]", "(((0, 1),), ((0, 1),))", "[2, 1, 4, 0, 3", "7", "[[], []]"]
)
def test_numbers_that_are_no_cell_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^not a cell: ") as error:
        read(text)
    assert len(str(error.value).splitlines()) == 1


def test_a_form_that_a_cell_has_not_is_refused():
    for text, form in ((CELL, "darts"), (DARTS_V2, "nas_bench_201")):
        with pytest.raises(ValueError, match=rf"^form '{form}' is not allowed; a cell of \w+ has: "):
            written(parse(text), form)
    uneven = Genotype("darts", dict.fromkeys(("normal", "reduce"), ((("skip_connect", 0),),) * 4))
    with pytest.raises(ValueError, match=r"^form 'naslib' is not allowed"):
        written(uneven, "naslib")


def test_the_command_prints_forms_and_writes_the_file(tmp_path):
    def call(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "midas.genotype", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout.strip() or done.stderr.strip()

    assert call(CELL, "--to", "naslib") == NASLIB
    assert call(NASLIB, "--to", "nas_bench_201") == CELL
    (tmp_path / "a.txt").write_text(f"genotype = {DARTS_V2}\n")
    assert json.loads(call(str(tmp_path / "a.txt"), "--to", "json"))["space"] == "darts"
    call(NASLIB, str(tmp_path / "genotype.json"))
    assert load(tmp_path / "genotype.json") == parse(CELL)
    assert call(str(tmp_path / "genotype.json"), "--to", "naslib") == NASLIB
    assert call("no.txt", "--to", "json", code=2).startswith("error: no.txt: neither a cell nor a readable file")
    assert "one of the two" in call(CELL, code=2)
