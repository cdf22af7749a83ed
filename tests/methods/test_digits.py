"""Each of the field's methods, as config/comparators_cpu.yaml has it, learns on digits and finds a cell."""

import csv
import json

import numpy as np
import pytest
from places import ROOT

from midas.config.keys import parse
from midas.config.reading import read_config
from midas.decode import decode
from midas.plan.runs import DecodeRun
from midas.search import search

METHODS = {
    name: method
    for name, method in parse(read_config(ROOT / "config/comparators_cpu.yaml", [])).methods.items()
    if method.weights != "random"
}
EPOCHS = 8


def test_all_twelve_are_there():
    assert {*METHODS} > {
        *("darts_2nd", "gdas", "lambda", "a2m", "beta", "drnas", "pc", "sdarts_rs", "sdarts_adv", "oles"),
        *("darts_minus", "darts_pt"),
    }  # FairDARTS, of the DARTS space, is searched with and decoded in tests/methods/field/test_fair.py


@pytest.mark.parametrize("name", METHODS)
def test_its_search_learns_and_decodes(name, search_run, tmp_path):
    """The supernet's weights and, where they are not left alone, the architecture's."""
    method = METHODS[name].model_copy(update={"patch_size": 4} if METHODS[name].weights == "attention" else {})
    run = search_run(method=method.model_dump(), epochs=EPOCHS, precision="float32", lr=0.1)
    search(run, tmp_path / "search")
    with (tmp_path / "search/history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= EPOCHS
    losses = [float(row["train_loss"]) for row in rows]
    assert (
        np.mean(losses[-2:]) < 0.97 * losses[0]
    )  # GDAS: of one drawn operation an edge; SDARTS-ADV: of attacked weights
    with np.load(tmp_path / "search/arch.npz") as file:
        p = file["p"].astype(float)
    assert np.ptp(p.mean(0), axis=-1).min() > 1e-4  # every edge has left equal weights
    dump = DecodeRun(space=run.space, method=run.method, seed=run.seed, dump=str(tmp_path / "search/arch.npz"))
    decode(dump, tmp_path / "decode")
    (found,) = json.loads((tmp_path / "decode/genotype.json").read_text())["cells"].values()
    assert [len(node) for node in found] == [1, 2, 3]
