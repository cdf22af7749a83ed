"""The spaces of the DARTS-Bench-Suite: the original's parameter counts, what stands beside an edge, cells of another shape."""

import json

import pytest
import torch

from midas.config.method import Method
from midas.methods.composition import supernet_of
from midas.methods.decoding import decode_weights, random_genotype
from midas.networks.found_cells import Beside
from midas.networks.skeletons import build, set_drop_path
from midas.spaces import SPACES
from midas.spaces.bench_suite import BENCH_SUITE, REGULAR
from midas.spaces.genotype import Genotype, check_nodes, load, parse

STATIC = Method(weights="static")


@pytest.fixture(scope="module")
def vectors(shared_data):
    return json.loads((shared_data / "reference/benchsuite.json").read_text())


def stored(shape, kind, vectors):
    """The stored genotype as one of a space."""
    own = vectors["discrete"][f"{shape}/{kind}"]
    space = SPACES[f"{shape}_{'regular' if kind == 'without' else 'all_skip'}"]
    edges = [tuple(edge) for edge in own["genotype_of_both_cells"]]
    nodes = tuple(tuple(edges[i : i + 2]) for i in range(0, len(edges), 2))
    return Genotype(space.name, dict.fromkeys(space.cells, nodes)), own


def test_the_nine_are_there_in_the_order_of_the_suite(vectors):
    assert [space.name for space in BENCH_SUITE] == [name.replace("/", "_") for name in vectors["supernets"]]
    assert list(REGULAR) == vectors["operations_regular"]


@pytest.mark.parametrize("space", BENCH_SUITE, ids=lambda space: space.name)
def test_supernets_have_the_cells_alphas_and_parameters_of_the_original(space, vectors):
    shape, kind = next((n, k) for n, k in (s.split("/") for s in vectors["supernets"]) if f"{n}_{k}" == space.name)
    own = vectors["supernets"][f"{shape}/{kind}"]
    widths = [layer.width * own["channels"] for layer in space.skeleton(len(own["cells"]))]
    network = supernet_of(space, STATIC, own["channels"], len(own["cells"]), 10)
    assert "".join(kind[0].upper() for kind in network.kinds) == own["cells"]
    assert widths == own["cell_channels"]
    for cell in network.cells:
        assert len(cell.spec.nodes) == own["steps"]
        assert list(cell.mixing.alpha.shape) == own["alphas"]["reduce"] == own["alphas"]["normal"]
    assert sum(p.numel() for p in network.architecture_parameters()) == own["alphas_entries"]
    skips = sum(p.numel() for p in network.skip_parameters())
    assert skips == own["auxiliary_parameters"]
    weights = sum(p.numel() for p in network.weight_parameters())
    assert weights - skips == own["weights_parameters"]
    assert weights == own["weights_parameters_total"]


@pytest.mark.parametrize("kind", ["without", "with_auxiliary"])
@pytest.mark.parametrize("shape", ["wide", "deep", "single_cell"])
def test_networks_of_a_cell_have_the_parameters_of_the_original(shape, kind, vectors):
    genotype, own = stored(shape, kind, vectors)
    size = vectors["supernets"][f"{shape}/regular"]
    network = build(genotype, size["channels"], len(size["cells"]), 10)
    assert sum(p.numel() for p in network.parameters()) == own["parameters"]
    for cell in genotype.cells:
        assert genotype.nodes(cell) == own["concat"]
    beside = [m for cell in network.cells for m in cell.modules() if isinstance(m, Beside)]
    kept = 8 if shape != "single_cell" else 16
    assert len(beside) == (kept * len(size["cells"]) if kind == "with_auxiliary" else 0)


def test_a_cell_of_a_space_with_skips_never_names_them_and_its_network_has_them():
    space = SPACES["wide_all_skip"]
    network = supernet_of(space, STATIC, 4, 4, 10)
    network(torch.randn(2, 3, 16, 16))
    network.begin(torch.tensor(70))
    assert float(network.skip_weight.now) == 1, "in all epochs"
    p, _ = network.mixture()
    assert p.shape == (1, 4, 14, 8), "no weight belongs to them"
    genotype = decode_weights(p[0].double().numpy(), None, network.kinds, space)
    assert {o for kind in genotype.cells for _, _, o in genotype.edges(kind)} <= set(REGULAR) - {"none"}
    found = build(genotype, 4, 4, 10)
    for cell in found.cells:
        assert [isinstance(edge[0], Beside) for edge in cell.graph.edges] == [True] * 8
    edge = found.cells[0].graph.edges[0]
    x = torch.randn(2, 4, 8, 8)
    found.eval()
    torch.testing.assert_close(edge(x), edge[0].operation(x) + x)


def test_drop_path_takes_skips_too_where_they_stand_beside_an_edge():
    nodes = ((("skip_connect", 0), ("skip_connect", 1)),) * 4
    network = build(Genotype("wide_all_skip", {"normal": nodes, "reduce": nodes}), 4, 4, 10)
    set_drop_path(network, 0.5)
    torch.manual_seed(0)
    edge = network.cells[0].graph.edges[0].train()
    out = edge(torch.ones(200, 4, 2, 2)).flatten(1)
    assert set(out.unique().tolist()) == {0.0, 4.0}, "twice the input, kept or lost, over the probability to be kept"


@pytest.mark.parametrize("name", ["wide_all_skip", "single_cell_all_skip"])
def test_a_drawn_operation_alone_has_the_skip_beside_it_as_all_of_them_have(name):
    """GDAS computes what it draws; with all candidates computed the outputs and gradients are the same."""
    results = []
    for whole in (False, True):
        torch.manual_seed(0)
        network = supernet_of(
            SPACES[name], Method(weights="static", gumbel={}), 4, SPACES[name].max_cells or 4, 5
        ).double()
        network.whole = whole
        torch.manual_seed(1)
        out = network(torch.randn(3, 3, 16, 16, dtype=torch.float64))
        out.square().sum().backward()
        gradients = {n: torch.zeros(()) if p.grad is None else p.grad.norm() for n, p in network.named_parameters()}
        results.append((out.detach(), gradients))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    for parameter, norm in results[1][1].items():
        torch.testing.assert_close(results[0][1][parameter].double(), norm.double(), rtol=1e-7, atol=1e-9)


def test_nothing_but_the_skips_is_left_where_every_edge_draws_none():
    space = SPACES["wide_all_skip"]
    torch.manual_seed(0)
    network = supernet_of(space, Method(weights="static", gumbel={}), 4, 4, 5).double()
    with torch.no_grad():
        for cell in network.cells:
            cell.mixing.alpha[:, space.operations.index("none")] = 1e6
    cell, seen = network.cells[0], {}
    cell.observer = lambda view: seen.update({view.node: view.output})
    network(torch.randn(2, 3, 16, 16, dtype=torch.float64))
    first = seen[2]
    torch.testing.assert_close(seen[3], 2 * first, rtol=1e-9, atol=1e-9)  # both inputs, and their sum
    torch.testing.assert_close(seen[5], 8 * first, rtol=1e-9, atol=1e-9)


def test_a_lone_cell_is_written_and_read_without_the_kind_that_it_lacks(tmp_path):
    genotype = random_genotype(SPACES["single_cell_regular"], 0)
    assert str(genotype).startswith("Genotype(reduce=[")
    assert str(genotype).endswith("reduce_concat=[6, 7, 8, 9])")
    assert parse(str(genotype), "single_cell_regular") == genotype
    genotype.save(tmp_path / "genotype.json")
    assert load(tmp_path / "genotype.json") == genotype


def test_cells_of_other_spaces_and_sizes_are_refused_in_one_line():
    lone, wide = random_genotype(SPACES["single_cell_regular"], 0), random_genotype(SPACES["wide_regular"], 0)
    with pytest.raises(ValueError, match="cells: 3 is not allowed; single_cell_regular has at most 1"):
        build(lone, 4, 3, 10)
    with pytest.raises(ValueError, match="cells: 1 is not allowed; wide_regular needs at least 3"):
        build(wide, 4, 1, 10)
    with pytest.raises(ValueError, match=r"not a DARTS genotype: .*expected Genotype\(normal="):
        parse(str(lone))
    skip = Genotype("darts", dict.fromkeys(("normal", "reduce"), ((("skip_connect", 0), ("skip_connect", 1)),) * 4))
    with pytest.raises(
        ValueError, match="operation 'skip_connect' is not allowed; in wide_no_skip: none, max_pool_3x3"
    ):
        parse(str(skip), "wide_no_skip")
    with pytest.raises(ValueError, match="space 'nowhere' is not allowed; allowed: darts, wide_regular"):
        parse(str(skip), "nowhere")
    with pytest.raises(ValueError, match=r"reduce_concat must name \[6, 7, 8, 9\], of the last 4 intermediate nodes"):
        parse(str(lone).replace("[6, 7, 8, 9]", "[5, 6, 7, 8, 9]"), "single_cell_regular")
    pair = (("skip_connect", 0), ("skip_connect", 1))
    with pytest.raises(ValueError, match="reduce cell: its nodes have"):
        check_nodes(Genotype("single_cell_regular", {"reduce": ((pair,) * 4 + ((),) * 4)}))
