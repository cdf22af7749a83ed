import json
import sys

import numpy as np
import pytest

from midas.config.method import Method
from midas.decode import decode, decode_dump
from midas.methods.decoding import decode_weights
from midas.plan.runs import DecodeRun
from midas.running.step import main
from midas.spaces import get_space
from midas.spaces.genotype import load

NAS, DARTS = get_space("nas_bench_201"), get_space("darts")
NONE, SKIP, CONV1, CONV3, POOL = range(5)


def nas_weights(best, second):
    """One cell whose edges have the largest weight at `best` and the next at `second`."""
    p = np.full((1, 6, 5), 0.1)
    for edge, (first, next_one) in enumerate(zip(best, second, strict=True)):
        p[0, edge, first], p[0, edge, next_one] = 0.4, 0.3
    return p


P = nas_weights([CONV3, NONE, POOL, NONE, CONV1, SKIP], [SKIP, CONV1, SKIP, POOL, SKIP, NONE])


def test_nas_bench_201_takes_the_best_operation_of_each_edge():
    cell = decode_weights(P, None, ["cell"], NAS)
    assert str(cell) == "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"


@pytest.mark.parametrize("decode_none", [None, True])
def test_nas_bench_201_allows_none_by_default(decode_none):
    assert "none~0" in str(decode_weights(P, None, ["cell"], NAS, decode_none))


def test_without_none_the_second_best_is_taken():
    cell = decode_weights(P, None, ["cell"], NAS, decode_none=False)
    assert (
        str(cell) == "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
    )


def test_ties_go_to_the_first_operation():
    assert set(str(decode_weights(np.full((1, 6, 5), 0.2), None, ["cell"], NAS)).split("|")) >= {"none~0", "none~1"}
    cell = decode_weights(np.full((1, 6, 5), 0.2), None, ["cell"], NAS, decode_none=False)
    assert {op for _, _, op in cell.edges("cell")} == {"skip_connect"}


def test_the_average_over_cells_decides():
    """Each cell alone would take another operation than their mean."""
    p = np.zeros((3, 6, 5))
    p[0, :, SKIP], p[1, :, CONV1], p[2, :, POOL] = 0.5, 0.5, 0.5
    p[:, :, CONV3] = 0.4
    operations = {op for _, _, op in decode_weights(p, None, ["cell"] * 3, NAS).edges("cell")}
    assert operations == {"nor_conv_3x3"}


def darts_weights(strong):
    """Weights [14, 7] with the largest of an edge as given; all other edges are flat at 0.01."""
    p = np.full((14, 7), 0.01)
    for edge, (operation, weight) in strong.items():
        p[edge, DARTS.operations.index(operation)] = weight
    return p


# edges of node 4 are 5 to 8 (sources 0 to 3); those of node 5 are 9 to 13
STRONG = {
    0: ("sep_conv_3x3", 0.3),
    1: ("skip_connect", 0.2),
    2: ("max_pool_3x3", 0.5),
    3: ("dil_conv_5x5", 0.1),
    4: ("sep_conv_5x5", 0.4),
    5: ("avg_pool_3x3", 0.9),
    6: ("dil_conv_3x3", 0.8),
    7: ("skip_connect", 0.2),
    8: ("sep_conv_3x3", 0.3),
    10: ("max_pool_3x3", 0.6),
    13: ("skip_connect", 0.7),
}
TOP2 = (
    (("sep_conv_3x3", 0), ("skip_connect", 1)),
    (("max_pool_3x3", 0), ("sep_conv_5x5", 2)),
    (("avg_pool_3x3", 0), ("dil_conv_3x3", 1)),
    (("max_pool_3x3", 1), ("skip_connect", 4)),
)


def darts_pi(chosen):
    """Weights of the pairs with the largest of each node at `chosen`: pairs of edges."""
    pi = np.full(len(DARTS.cells["normal"].pairs), 0.01)
    for pair in chosen:
        pi[DARTS.cells["normal"].pairs.index(pair)] = 0.5
    return pi


def test_darts_without_pairs_keeps_the_two_edges_with_the_largest_weight():
    p = np.stack([darts_weights(STRONG)] * 2)
    cell = decode_weights(p, None, ["normal", "reduce"], DARTS)
    assert cell.cells == {"normal": TOP2, "reduce": TOP2}


def test_an_edge_is_as_good_as_its_best_operation_not_as_their_sum():
    p = darts_weights(STRONG)
    p[7] = 0.5  # seven operations, each weaker than the best of edges 5 and 6
    cell = decode_weights(np.stack([p, p]), None, ["normal", "reduce"], DARTS)
    assert cell.cells["normal"] == TOP2


def test_darts_with_pairs_takes_the_best_pair_even_where_single_weights_are_larger_elsewhere():
    p = np.stack([darts_weights(STRONG)] * 2)
    pi = np.stack([darts_pi([(0, 1), (2, 4), (7, 8), (10, 13)]), darts_pi([(0, 1), (3, 4), (5, 8), (9, 11)])])
    cell = decode_weights(p, pi, ["normal", "reduce"], DARTS)
    assert cell.cells["normal"] == (*TOP2[:2], (("skip_connect", 2), ("sep_conv_3x3", 3)), TOP2[3])
    assert cell.cells["reduce"] == (
        TOP2[0],
        (("dil_conv_5x5", 1), ("sep_conv_5x5", 2)),
        (("avg_pool_3x3", 0), ("sep_conv_3x3", 3)),
        (("max_pool_3x3", 0), ("max_pool_3x3", 2)),  # flat edges: ties go to the first operation
    )


def test_kinds_are_averaged_apart_and_pairs_as_well():
    """Three normal cells of which each prefers another pair than their mean, and one reduction cell between them."""
    kinds = ["normal", "reduce", "normal", "normal"]
    p = np.stack([darts_weights(STRONG)] * 4)
    p[1] = darts_weights({0: ("dil_conv_5x5", 0.9)})
    pairs = DARTS.cells["normal"].pairs
    pi = np.stack([darts_pi([(0, 1), (3, 4), (6, 8), (11, 12)])] * 4)
    mine = [pairs.index(pair) for pair in ((5, 6), (5, 7), (7, 8))]
    for cell, column in zip((0, 2, 3), mine, strict=True):
        pi[cell, pairs.index((6, 8))] = 0.3
        pi[cell, column] = 0.5
    cell = decode_weights(p, pi, kinds, DARTS)
    assert cell.cells["normal"][2] == (("dil_conv_3x3", 1), ("sep_conv_3x3", 3))
    assert cell.cells["reduce"][0] == (("dil_conv_5x5", 0), ("max_pool_3x3", 1))


def test_static_edges_are_ordered_by_source():
    strong = STRONG | {5: ("avg_pool_3x3", 0.1), 7: ("skip_connect", 0.95)}
    cell = decode_weights(np.stack([darts_weights(strong)] * 2), None, ["normal", "reduce"], DARTS)
    assert cell.cells["normal"][2] == (("dil_conv_3x3", 1), ("skip_connect", 2))


@pytest.mark.parametrize("decode_none", [None, True])
def test_none_that_was_offered_is_decoded_only_if_asked_for(tmp_path, decode_none):
    """As in quark0/darts, where an edge is as good as its best operation but "none"."""
    p = np.stack([darts_weights(STRONG)] * 2)
    p = np.concatenate([np.full((*p.shape[:2], 1), 0.99), p], 2)[None].astype(np.float32)
    operations = np.array(DARTS.with_none().operations)
    np.savez(tmp_path / "arch.npz", p=p, kinds=np.array(["normal", "reduce"]), operations=operations)
    method = {"weights": "static", "offer_none": True, "decode_none": decode_none}
    run = DecodeRun(space="darts", method=method, seed=0, dump=str(tmp_path / "arch.npz"))
    decode(run, tmp_path)
    cell = load(tmp_path / "genotype.json")
    kept = {operation for kind in cell.cells for *_, operation in cell.edges(kind)}
    if decode_none:
        assert kept == {"none"}
    else:
        assert cell == decode_weights(p[0, :, :, 1:], None, ["normal", "reduce"], DARTS)
    seven = run.model_copy(update={"method": Method(weights="static")})
    with pytest.raises(ValueError, match="are not those of darts"):
        decode(seven, tmp_path)


@pytest.fixture
def arrays():
    """Dump of two images that disagree; their mean is `P` with CONV3 first on edge 0."""
    p = np.concatenate([P, P])
    p[0, 0], p[1, 0] = [0.0, 0.0, 0.6, 0.4, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5]
    return {"p": p[:, None].astype(np.float32), "kinds": np.array(["cell"]), "operations": np.array(NAS.operations)}


@pytest.fixture
def dump(arrays, tmp_path):
    np.savez(tmp_path / "arch.npz", **arrays)
    return tmp_path / "arch.npz"


def test_a_dump_is_averaged_over_images(dump):
    cell = decode_dump(dump, NAS, Method())
    assert str(cell) == "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"


def test_the_method_says_whether_none_may_be_decoded(dump):
    assert "none" not in str(decode_dump(dump, NAS, Method(decode_none=False)))


def test_the_step_writes_a_genotype(dump, tmp_path, monkeypatch, capsys):
    run = DecodeRun(space="nas_bench_201", method=Method(), seed=0, dump=str(dump))
    monkeypatch.setattr(sys, "argv", ["decode.py", run.model_dump_json(), str(tmp_path / "decode")])
    main(DecodeRun, decode)
    assert load(tmp_path / "decode/genotype.json") == decode_dump(dump, NAS, Method())
    assert json.loads((tmp_path / "decode/genotype.json").read_text())["text"] == capsys.readouterr().out.strip()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(P.astype(np.float32)[0, 1:].tobytes()) + 2] ^= 0x10
    path.write_bytes(content)


def another_zip_version(path):
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] = 109
    path.write_bytes(content)


def text(path):
    path.write_text("not a dump")


def one_array(path):
    with path.open("wb") as file:
        np.save(file, P)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, another_zip_version, text, one_array])
def test_a_damaged_dump_is_refused(dump, damage):
    damage(dump)
    with pytest.raises(ValueError, match="not a dump of a search") as caught:
        decode_dump(dump, NAS, Method())
    assert str(dump) in str(caught.value)


def test_a_missing_dump_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"arch\.npz"):
        decode_dump(tmp_path / "arch.npz", NAS, Method())


def test_a_dump_of_objects_is_refused(arrays, dump):
    np.savez(dump, **(arrays | {"kinds": np.array([{"cell": 1}], dtype=object)}))
    with pytest.raises(ValueError, match="not a dump of a search"):
        decode_dump(dump, NAS, Method())


WRONG = {
    "no p": {"p": None},
    "no kinds": {"kinds": None},
    "another space": {"operations": np.array(DARTS.operations)},
    "an unknown kind": {"kinds": np.array(["normal"])},
    "too few edges": {"p": np.full((2, 1, 5, 5), 0.2, np.float32)},
    "too few cells": {"p": np.full((2, 0, 6, 5), 0.2, np.float32), "kinds": np.array([], str)},
    "more cells than kinds": {"p": np.full((2, 2, 6, 5), 0.2, np.float32)},
    "no images": {"p": np.zeros((0, 1, 6, 5), np.float32)},
    "not finite": {"p": np.full((2, 1, 6, 5), np.nan, np.float32)},
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_dump_that_does_not_fit_the_space_is_refused(arrays, dump, wrong):
    changed = arrays | WRONG[wrong]
    np.savez(dump, **{name: array for name, array in changed.items() if array is not None})
    with pytest.raises(ValueError, match=r"arch\.npz"):
        decode_dump(dump, NAS, Method())


def test_the_step_draws_a_random_cell_where_there_is_no_dump(tmp_path):
    run = DecodeRun(space="s3", method=Method(weights="random"), seed=5, dump=None)
    for name in ("a", "b"):
        decode(run, tmp_path / name)
    assert load(tmp_path / "a/genotype.json") == load(tmp_path / "b/genotype.json")
    decode(run.model_copy(update={"seed": 6}), tmp_path / "c")
    assert load(tmp_path / "a/genotype.json") != load(tmp_path / "c/genotype.json")
