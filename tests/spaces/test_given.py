"""Cells that other code found, as text or file: what is read, and what is refused in one line."""

import pytest
from published_cells import DARTS_V2

from midas.decode import decode
from midas.plan.runs import DecodeRun
from midas.spaces import SPACES
from midas.spaces.genotype import load, parse
from midas.spaces.given import given_cell

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(("text", "space"), [(CELL, "nas_bench_201"), (DARTS_V2, "darts"), (DARTS_V2, "s3")], ids=str)
def test_text_and_every_kind_of_file_are_the_same_cell(text, space, tmp_path):
    if space == "s3":  # skips and separable convolutions alone
        text = DARTS_V2.replace("dil_conv_3x3", "sep_conv_3x3").replace("max_pool_3x3", "skip_connect")
    expected = parse(text)
    (tmp_path / "a.txt").write_text(f"\n{text}\n")
    (tmp_path / "b.log").write_text(f"12:00 epoch 49\ngenotype = {text}\ndone\n")
    expected.save(tmp_path / "c.json")
    expected.save(tmp_path / "a (1).json")
    for given in (text, *(str(path) for path in sorted(tmp_path.iterdir()))):
        assert given_cell(given, SPACES[space]) == expected


@pytest.mark.parametrize(
    ("given", "space", "message"),
    [
        ("", "darts", "missing; weights 'given' needs a cell"),
        ("no.txt", "darts", "no.txt: neither a cell nor a readable file: No such file"),
        (CELL, "darts", "a cell of nas_bench_201 is not allowed; a cell of darts is wanted"),
        (DARTS_V2, "nas_bench_201", "a cell of darts is not allowed; a cell of nas_bench_201 is wanted"),
        (DARTS_V2, "s3", "'dil_conv_3x3' at node 5 is not allowed; s3 has "),
        (CELL.replace("nor_conv_3x3~0|+", "zero~0|+", 1), "nas_bench_201", "zero"),
        (f"{CELL}\n{CELL}", "nas_bench_201", "not a"),
    ],
)
def test_what_is_no_cell_of_the_space_is_refused(given, space, message):
    with pytest.raises(ValueError, match=r".") as error:
        given_cell(given, SPACES[space])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_step_writes_it_for_every_seed(tmp_path):
    for seed in (0, 1):
        method = {"weights": "given", "genotype": CELL}
        run = DecodeRun.model_validate({"space": "nas_bench_201", "method": method, "seed": seed, "dump": None})
        decode(run, tmp_path / str(seed))
    assert load(tmp_path / "0/genotype.json") == load(tmp_path / "1/genotype.json") == parse(CELL)
