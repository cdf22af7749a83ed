"""Parameters and multiply-adds are those that were published."""

import csv
import gzip
import random

import pytest
import torch
from places import SHARED
from published_cells import DARTS_V2, NO_9930, meta, params
from torch import nn

from midas.networks.counting import count
from midas.networks.skeletons import build
from midas.spaces.genotype import parse

DATA = SHARED / "data"


GENOTYPES = DATA / "darts/genotypes.csv"


TABLE = DATA / "nas_bench_201/nas_bench_201.csv.gz"


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
    every = 1 if column in ("c36_l20_nc10", "imagenet_c48_l14") else 4  # other sizes of the same two skeletons
    published = dict(list(published.items())[::every])
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
