import csv
import gzip
import json
import random
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from midas import count as counting
from midas.networks.counting import count
from midas.networks.operations import OPERATIONS, FactorizedReduce, Noise, make
from midas.networks.skeletons import SKELETONS, DartsCell, Nasbench201Cell, build, set_drop_path
from midas.spaces.genotype import Genotype, parse
from midas.supernet import candidates

SHARED = Path(__file__).parents[2] / "shared/data"
GENOTYPES = SHARED / "darts/genotypes.csv"
TABLE = SHARED / "nas_bench_201/nas_bench_201.csv.gz"

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
NO_9930 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
ALL_NONE = ALL_SKIP.replace("skip_connect", "none")


def meta(genotype, *sizes, **options):
    with torch.device("meta"):
        return build(genotype, *sizes, **options)


def params(network):
    return sum(p.numel() for p in network.parameters())


# Liu et al., ICLR 2019, and the code of its authors
@pytest.mark.parametrize(
    ("sizes", "imagenet", "published"), [((36, 20, 10), False, 3_349_342), ((48, 14, 1000), True, 4_718_752)]
)
def test_darts_v2_has_its_published_parameters(sizes, imagenet, published):
    assert params(meta(parse(DARTS_V2), *sizes, imagenet=imagenet)) == published


def test_nas_bench_201_no_9930_has_its_published_size():
    # 1.289 M parameters; the 184.73 M multiply-adds are those of its convolutions and its linear layer
    assert count(meta(parse(NO_9930), 16, 5, 10), (32, 32)) == (1_288_506, 184_730_240)


COLUMNS = {
    "c36_l20_nc10": (36, 20, 10),
    "c36_l20_nc100": (36, 20, 100),
    "c16_l20_nc10": (16, 20, 10),
    "c16_l8_nc10": (16, 8, 10),
    "imagenet_c48_l14": (48, 14, 1000),
}


@pytest.mark.skipif(not GENOTYPES.exists(), reason=f"{GENOTYPES} is missing")
@pytest.mark.parametrize("column", COLUMNS)
def test_every_published_darts_genotype_has_its_parameters(column, monkeypatch):
    for layer in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):  # a third of the time, and nothing here reads a weight
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)
    with GENOTYPES.open(newline="") as file:
        published = {row["genotype"]: row[f"params_m_{column}"] for row in csv.DictReader(file)}
    assert len(published) > 60  # of 84 rows; some found the same cell
    counted = {
        text: f"{params(meta(parse(text), *COLUMNS[column], imagenet='imagenet' in column)) / 1e6:.6f}"
        for text in published
    }
    assert counted == published


@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is missing")
@pytest.mark.parametrize(("data", "classes", "side"), [("c10", 10, 32), ("c100", 100, 32), ("in16", 120, 16)])
def test_sampled_nas_bench_201_cells_have_their_size(data, classes, side):
    with gzip.open(TABLE, "rt", newline="") as file:
        rows = random.Random(data).sample(list(csv.DictReader(file)), 12)
    for row in rows:
        counted = count(meta(parse(row["arch"]), 16, 5, classes), (side, side))
        assert counted == (round(1e6 * float(row[f"{data}_params_m"])), round(1e6 * float(row[f"{data}_flops_m"])))


def test_count_leaves_the_auxiliary_head_out_and_the_network_alone():
    torch.manual_seed(0)
    network = build(parse(DARTS_V2), 4, 3, 10, auxiliary=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert count(network, (32, 32)) == count(meta(parse(DARTS_V2), 4, 3, 10), (32, 32))
    assert params(network) > count(network, (32, 32))[0]
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
def test_operation_keeps_channels_and_divides_the_sides(name, stride):
    y = make(name, 6, stride)(torch.randn(2, 6, 8, 12))
    assert y.shape == (2, 6, 8 // stride, 12 // stride)


def test_average_pooling_leaves_padding_out():
    ones = torch.ones(1, 2, 4, 4)
    assert torch.equal(make("avg_pool_3x3", 2)(ones), ones)


def test_factorized_reduce_takes_every_second_pixel_and_its_diagonal_neighbour():
    reduction = FactorizedReduce(1, 2, norm=lambda channels: nn.Identity())
    for half in reduction.halves:
        nn.init.ones_(half.weight)
    x = torch.arange(-4.0, 12.0).view(1, 1, 4, 4)
    active = x.clamp(min=0)
    expected = torch.cat([active[:, :, ::2, ::2], active[:, :, 1::2, 1::2]], 1)
    assert torch.equal(reduction(x), expected)


def test_pooling_is_normalised_in_the_search_only():
    x = torch.randn(4, 3, 6, 6) + 5
    assert make("max_pool_3x3", 3, pool_norm=True)(x).mean().abs() < 1e-5
    assert make("max_pool_3x3", 3)(x).mean() > 5
    assert isinstance(make("skip_connect", 3, pool_norm=True), nn.Identity)


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("module", [Noise(1), Noise(2), candidates.Noise(3, 1), candidates.Noise(3, 2)], ids=str)
def test_a_seed_draws_the_same_noise_for_every_layout_and_type(module):
    drawn = []
    for layout, dtype in product(LAYOUTS, (torch.float32, torch.bfloat16, torch.float64)):
        x = torch.zeros(4, 6, 9, 8, dtype=dtype).to(memory_format=layout)
        torch.manual_seed(0)
        drawn.append(module(x, x, x) if isinstance(module, candidates.Noise) else module(x))
        assert drawn[-1].dtype == dtype
        assert drawn[-1].is_contiguous(memory_format=layout)
    sides = [-(-9 // module.stride), 8 // module.stride]
    torch.manual_seed(0)
    expected = torch.randn(4, drawn[0].shape[1], *sides)
    assert drawn[0].shape[1] in (6, 18)
    for x in drawn:
        assert torch.equal(x, expected.to(x.dtype))


def test_a_found_cell_with_noise_gives_the_same_logits_in_every_layout():
    genotype, logits = parse(DARTS_V2.replace("skip_connect", "noise")), []
    for layout in LAYOUTS:
        torch.manual_seed(0)
        network = build(genotype, 16, 3, 10).to(memory_format=layout).eval()
        x = torch.randn(4, 3, 32, 32).to(memory_format=layout)
        torch.manual_seed(1)
        logits.append(network(x).detach())
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_a_seed_drops_the_same_paths_for_every_layout_and_type():
    network, dropped = build(parse(DARTS_V2), 16, 3, 10), []
    set_drop_path(network, 0.5)
    path = network.cells[0].drop_path.train()
    for layout, dtype in product(LAYOUTS, (torch.float32, torch.bfloat16)):
        torch.manual_seed(0)
        dropped.append(path(torch.ones(64, 2, 3, 3, dtype=dtype).to(memory_format=layout))[:, 0, 0, 0] == 0)
    assert 16 < dropped[0].sum() < 48
    assert all(torch.equal(x, dropped[0]) for x in dropped)


def test_unknown_operation_is_refused_with_those_allowed():
    with pytest.raises(ValueError, match=r"'conv_7x7' does not exist; allowed: none, noise, skip_connect"):
        make("conv_7x7", 4)


def test_nas_bench_201_cell_sums_its_edges():
    x = torch.randn(2, 4, 8, 8)
    assert torch.allclose(Nasbench201Cell(parse(ALL_SKIP).cells["cell"], 4)(x), 4 * x)  # x, 2 x, then 1 + 1 + 2
    assert torch.equal(Nasbench201Cell(parse(ALL_NONE).cells["cell"], 4)(x), torch.zeros_like(x))


def skip_cell(probability=0.0):
    """A DARTS cell whose nodes are: the sum of both inputs, and pooled copies of the first input."""
    nodes = ((("skip_connect", 0), ("skip_connect", 1)), *[(("avg_pool_3x3", 0), ("none", 1))] * 3)
    cell = DartsCell(nodes, "normal", (2, 2), 2, False)
    cell.preprocess = nn.ModuleList([nn.Identity(), nn.Identity()])
    set_drop_path(cell, probability)
    return cell


def test_darts_cell_puts_its_nodes_side_by_side():
    x, y = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
    out = skip_cell()(x, y)
    assert out.shape == (1, 8, 4, 4)
    assert torch.equal(out[:, :2], x + y)
    assert torch.equal(out[:, 2:], torch.ones(1, 6, 4, 4))


def test_drop_path_drops_whole_images_but_never_an_identity():
    torch.manual_seed(0)
    x = torch.ones(1000, 2, 2, 2)
    out = skip_cell(0.2)(x, x)
    assert torch.equal(out[:, :2], 2 * x)
    pooled = out[:, 2:4].flatten(1)
    kept = pooled[:, 0] > 0
    assert torch.equal(pooled, (kept / 0.8)[:, None].expand_as(pooled))
    assert 0.75 < kept.double().mean() < 0.85


def test_drop_path_acts_in_training_only():
    torch.manual_seed(0)
    network, x = build(parse(DARTS_V2), 4, 3, 10), torch.randn(4, 3, 32, 32)
    plain = network.eval()(x)
    set_drop_path(network, 0.5)
    assert torch.equal(network(x), plain)
    network.train()
    assert not torch.equal(network(x), network(x))
    set_drop_path(network, 0.0)
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(("imagenet", "side"), [(False, 32), (True, 224)])
def test_auxiliary_head_speaks_in_training_only(imagenet, side):
    network = meta(parse(DARTS_V2), 4, 8, 7, auxiliary=True, imagenet=imagenet)
    x = torch.empty(2, 3, side, side, device="meta")
    logits, auxiliary = network.forward_auxiliary(x)
    assert logits.shape == auxiliary.shape == network(x).shape == (2, 7)
    assert network.eval().forward_auxiliary(x)[1] is None


@pytest.mark.parametrize("text", [DARTS_V2, NO_9930])
def test_without_an_auxiliary_head_there_are_no_auxiliary_logits(text):
    network = build(parse(text), 4, 3, 5)
    logits, auxiliary = network.forward_auxiliary(torch.randn(2, 3, 16, 32))
    assert logits.shape == (2, 5)
    assert auxiliary is None


@pytest.mark.parametrize("text", [DARTS_V2, NO_9930])
def test_every_parameter_of_a_trained_network_gets_a_gradient(text):
    torch.manual_seed(0)
    network = build(parse(text), 4, 3, 5, auxiliary=True)
    logits, auxiliary = network.forward_auxiliary(torch.randn(4, 3, 32, 32))
    (logits.square().sum() + (0 if auxiliary is None else auxiliary.square().sum())).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_cells_of_a_darts_skeleton_are_asked_for_as_the_paper_says():
    asked = []

    def make_cell(kind, channels_in, channels, reduction_prev):
        asked.append((kind, channels_in, channels, reduction_prev))
        return nn.Identity()

    SKELETONS["darts"](make_cell, 16, 6, 10)
    assert asked == [
        ("normal", (48, 48), 16, False),
        ("normal", (48, 64), 16, False),
        ("reduce", (64, 64), 32, False),
        ("normal", (64, 128), 32, True),
        ("reduce", (128, 128), 64, False),
        ("normal", (128, 256), 64, True),
    ]


@pytest.mark.parametrize("family", SKELETONS)
def test_skeleton_makes_all_its_normalisation_itself_as_it_is_told(family):
    skeleton = SKELETONS[family](
        lambda *args: nn.Identity(), 4, 3, 10, norm=lambda channels: nn.BatchNorm2d(channels, track_running_stats=False)
    )
    norms = [module for module in skeleton.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.track_running_stats for norm in norms)


@pytest.mark.parametrize(
    ("genotype", "options", "message"),
    [
        (parse(DARTS_V2), {"cells": 2}, "cells: 2 is not allowed; darts needs at least 3"),
        (parse(NO_9930), {"imagenet": True}, "allowed: DARTS genotypes"),
        (parse(DARTS_V2), {"channels": 1, "imagenet": True}, "channels: 1 is not allowed"),
        (
            parse(NO_9930[: NO_9930.rindex("+")]),
            {},
            r"its nodes have \[1, 2\] edges; in nas_bench_201 they have \[1, 2, 3\]",
        ),
        (
            Genotype("nas_bench_201", {"cell": tuple((("jump", 0),) * k for k in (1, 2, 3))}),
            {},
            "operation 'jump' does not exist",
        ),
        (Genotype("darts", {"normal": (), "reduce": ()}), {}, r"normal cell: its nodes have \[\] edges"),
    ],
)
def test_network_that_does_not_exist_is_refused(genotype, options, message):
    with pytest.raises(ValueError, match=message):
        meta(genotype, **{"channels": 4, "cells": 3, "classes": 10} | options)


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
