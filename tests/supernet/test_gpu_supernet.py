"""The supernet by Triton's kernels, interpreted on a CPU, against the oracle."""

import pytest

pytest.importorskip("triton")

from interpreted import interpreted
from oracle import OPTIONS, check_against_oracle, still

from midas.networks import operations
from midas.spaces import SPACES
from midas.supernet import operations as of_supernet

ON_GPU = [interpreted(f"midas.supernet.gpu.{name}") for name in ("sums", "attention")]

CASES = [
    ("nas_bench_201", {"patch_size": 4}),
    ("nas_bench_201", {"patch_size": None, "distribution": "node"}),
    ("nas_bench_201", {"weights": "static"}),
    ("nas_bench_201", {"weights": "static", "partial": {"channels": 2}}),
    ("nas_bench_201", OPTIONS["detached, patch mixing"]),
    ("nas_bench_201", {"patch_size": 4, "normalise": "layer_norm"}),
    ("s2", {"patch_size": 4}),  # two candidates an edge: the interpreter is slow
    ("s2", {"patch_size": 4, "normalise": "length", "scale": 4.0, "activation": "relu"}),
    ("s4", {"patch_size": 4, "keys": "per_operation"}),
]


@pytest.mark.parametrize(("space", "options"), CASES, ids=str)
def test_supernet_by_triton_equals_the_oracle(space, options, monkeypatch):
    for module in (operations, of_supernet):  # as in test_supernet
        monkeypatch.setattr(module, "noise", still)
    used = set()
    for module in ON_GPU:
        for name in set(module.__dict__) & {"enter", "leave", "mix", "mix_backward", "attend", "attend_pairs"}:
            function = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *a, f=function, n=name: used.add(n) or f(*a))
    check_against_oracle(SPACES[space], options, channels=2, merged=True, triton=True)
    expected = {"enter", "leave"} if "mixing" in options else {"enter", "leave", "mix", "mix_backward"}
    assert used >= expected
    attends = options.get("weights") != "static" and not {"mixing", "keys"} & options.keys()
    pairs = attends and space == "s2"
    assert used & {"attend", "attend_pairs"} == ({"attend_pairs"} if pairs else {"attend"} if attends else set())
