"""Cells of NAS-Bench-201 that compute the same function, by hand and against networks; how far they are apart."""

import json

import pytest
import torch
from places import ROOT

from benchmarks.same_function import function, spreads
from midas.networks.skeletons import Nasbench201Cell
from midas.spaces.benchmark import CELLS, read_table
from midas.spaces.genotype import parse

RECORDED = ROOT / "benchmarks/same_function.json"

ALIKE = [
    # a skip of a skip; the same terms by other nodes
    (
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
        "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|avg_pool_3x3~1|skip_connect~2|",
    ),
    (
        "|skip_connect~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
        "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
    ),
]
UNLIKE = [
    # twice the same term is not once; a convolution of nothing adds its shift
    (
        "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
        "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    ),
    (
        "|none~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    ),
]


def output(text, x):
    """Of a cell in which all convolutions of a size have the same weights, those of a normalisation's shift included."""
    cell = Nasbench201Cell(parse(text).cells["cell"], 3).double()
    for name, parameter in cell.named_parameters():
        torch.nn.init.constant_(parameter, 0.3 if name.endswith("bias") else 0.7)
        if parameter.dim() == 4:
            parameter.data += torch.arange(float(parameter.numel())).sin().view_as(parameter)
    return cell(x)


@pytest.mark.parametrize(("first", "second"), [ALIKE[1], *UNLIKE])
def test_functions_are_told_apart_as_the_networks_do(first, second):
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alike = torch.allclose(output(first, x), output(second, x))
    assert (function(parse(first)) == function(parse(second))) == alike == ((first, second) in ALIKE)


def test_what_the_cells_of_a_function_are_apart(tmp_path):
    rows = [{name: value for name in json.loads(RECORDED.read_text()) if "acc" in name} for value in (10, 12.5, 50)]
    same = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    other = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    alone = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    found = spreads({same: rows[0], other: rows[1], alone: rows[2]})
    assert (found["cells"], found["functions"], found["of_several_cells"]) == (3, 2, 1)
    assert found["c10_test_acc_200"] == dict.fromkeys(("largest", "median", "good_largest", "good_median"), 2.5)


def test_what_is_recorded_is_what_the_table_says(shared_data):
    rows = read_table(shared_data / "nas_bench_201/nas_bench_201.csv.gz", CELLS)
    assert spreads(rows) == json.loads(RECORDED.read_text())
