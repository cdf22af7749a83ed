"""Parts of the command for a slice of a GPU's time by themselves: rows, ways, packing, verdict."""

import json
import os
from itertools import product
from pathlib import Path

import pytest
from places import ROOT

from benchmarks.lease import __main__ as lease
from benchmarks.lease import packing, report
from benchmarks.lease.searches import at_once
from benchmarks.lease.slices import STRUCK, Rows, Slice, is_wrong, own_failure, right_ways, strike
from midas.config.keys import parse
from midas.config.reading import read_config
from midas.plan.check import load
from midas.plan.plan import Plan
from midas.training.recorded import RecordingError


def test_the_configuration_of_the_searches_can_be_planned(shared_data):
    table = shared_data / "nas_bench_201/nas_bench_201.csv.gz"
    plan = load(read_config(ROOT / "config/lease.yaml", [f"nas_bench_201_table={table}"]))
    assert len(list(plan.cells(searched=True))) == 8


def test_searches_of_another_configuration_are_searched_by_the_way_that_is_fast(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = ROOT / "config/attention_deep_cpu.yaml"
    lease.write_config(source, Slice("cuda", 9, ["search"]), "kernels", {"data_root": "data"})
    written, given = read_config(Path("config.yaml"), []), read_config(source, [])
    search = {"precision": "bfloat16", "merge_edges": True, "cuda_graph": True, "triton": True}
    assert {key for key in given if written[key] != given[key]} == {"device", "experiments"}
    assert written["experiments"][0] == given["experiments"][0] | {"search": given["experiments"][0]["search"] | search}
    assert (written["device"], written["data_root"]) == ("cuda", "data")


def test_fewest_searches_at_once_that_pay():
    def rows(**seconds):
        return [{"by": "one process", "searches": int(n[1:]), "step_seconds": s} for n, s in seconds.items()]

    assert at_once(rows(n1=4.0, n2=2.0, n4=1.0, n8=0.99), "cuda") == 4
    assert at_once(rows(n1=1.0, n2=1.0), "cuda") == 1
    assert (
        at_once([{"by": "one process", "searches": 8, "error": "OutOfMemoryError"}, *rows(n1=3.0, n2=2.0)], "cuda") == 2
    )
    assert at_once([{"by": "processes", "searches": 4, "step_seconds": 0.1}], "cuda") == 4


def test_a_way_is_right_if_its_cases_were_checked_and_none_differed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = {"space": "nas_bench_201", "distribution": "edge"}
    for way, rows in {
        "eager": [{"weights": "attention", "passed": True}, {"weights": "static", "passed": True}],
        "merged": [{"weights": "attention", "passed": True}],  # then its time was up
        "graph": [{"weights": "attention", "passed": True}, {"weights": "static", "passed": False}],
    }.items():
        for row in rows:
            Rows(f"right_{way}").add(**case, **row)
    Rows("right_eager").add(space="darts", distribution="edge", weights="static", passed=False)
    Rows("right_eager").end()
    assert right_ways("nas_bench_201") == ["eager"]
    assert right_ways("darts") == []
    for way, spaces in {"merged": ["s4"], "graph": ["s3", "s4"]}.items():
        for space, weights in product(spaces, ("attention", "static")):
            Rows(f"right_{way}").add(space=space, distribution="edge", weights=weights, passed=True)
    assert right_ways("s4") == ["merged", "graph"]
    assert right_ways("s3") == []  # what it records wasn't checked


def test_the_fastest_right_way_is_taken_and_an_earlier_slices_order_of_parameters_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lease.chosen_way() == "merged"  # nothing is known
    for way, seconds in {"eager": 1.0, "merged": 3.0, "graph": 2.0, "kernels": 0.5}.items():
        for weights in ("attention", "static"):
            Rows(f"right_{way}").add(
                space="nas_bench_201", distribution="edge", weights=weights, passed=way != "kernels"
            )
        Rows("fast").add(what="way", space="nas_bench_201", way=way, kind="step", seconds=seconds)
    assert lease.chosen_way() == "eager"
    (tmp_path / "config.yaml").write_text("experiments: [{search: {merge_edges: true}}]\n")
    assert lease.chosen_way() == "graph"
    strike("graph", "nas_bench_201", "no graph")
    assert lease.chosen_way() == "merged"
    assert Rows("right_graph").begin({"device": "another"})  # where it may be right
    assert not is_wrong("graph", "nas_bench_201")
    Rows("right_merged").add(space="nas_bench_201", distribution="node", weights="static", passed=False)
    assert lease.chosen_way() is None


def test_a_row_half_written_is_passed_over_and_an_error_is_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = Rows("some")
    assert rows.machine is None
    assert rows.begin({"device": "a"})
    rows.add(number=1)
    with own_failure(rows, what="memory"):
        raise MemoryError("none left\nat all")
    with rows.path.open("a") as file:
        file.write('{"number": 2')
    known = [{"number": 1}, {"what": "memory", "error": "MemoryError: none left at all"}]
    assert rows.read() == known
    rows.add(number=3)
    with rows.path.open("ab") as file:
        file.write(b"null\n\xff\xfe\n")
    assert rows.read() == [*known, {"number": 3}]
    assert rows.machine == {"device": "a"}
    assert rows.begin({"device": "a"})  # it hadn't ended
    rows.end()
    assert not rows.begin({"device": "a"})
    assert rows.begin({"device": "b"})


def test_checkpoints_that_find_no_room_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packing, "FILE_BYTES", 1_000)
    monkeypatch.setattr(packing, "BYTES", 10_000)
    Path("slice.json").write_text("{}")
    folders = [Path(f"results/seed{n}") for n in range(3)]
    for place in folders:
        (place / "search_checkpoint").mkdir(parents=True)
        (place / "search_checkpoint/newest.pt").write_bytes(os.urandom(2_500))
        (place / "search_checkpoint/previous.pt").write_bytes(os.urandom(100_000))
    Path("triton/a").mkdir(parents=True)
    Path("triton/a/mix.cubin").write_bytes(os.urandom(500))
    Path("triton/a/mix.ptx").write_bytes(os.urandom(100_000))
    assert packing.pack(folders)[1] == ["the compiled kernels", "results/seed2"]
    pieces = sorted(Path("carry").iterdir())
    assert len(pieces) <= packing.FILES - 2
    for name in ("other", "third", "fourth"):
        Path(name).mkdir()
    packing.unpack(Path("carry"), Path("other"))
    assert sorted(path.parent.parent.name for path in Path("other").rglob("newest.pt")) == ["seed0", "seed1"]
    pieces[-1].unlink()
    with pytest.raises(ValueError, match="can't be unpacked"):
        packing.unpack(Path("carry"), Path("third"))
    assert packing.pack(folders[:1])[1] == []
    Path("fourth/triton/b").mkdir(parents=True)  # compiled beforehand
    Path("fourth/triton/b/enter.cubin").write_text("")
    packing.unpack(Path("carry"), Path("fourth"))
    assert sorted(path.name for path in Path("fourth/triton").rglob("*.*")) == ["enter.cubin", "mix.cubin"]


def test_a_recording_that_fails_ends_the_part_and_strikes_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended, own_failure(Rows("fast"), what="way", way="kernels"):
        raise RecordingError("no")
    assert ended.value.code == STRUCK
    assert is_wrong("kernels", "nas_bench_201")
    assert Rows("right_kernels").read()[0]["error"] == "no"


def test_kernels_in_a_folder_that_was_moved_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    group = tmp_path / "a/__grp__mix.json"
    group.write_text(json.dumps({"child_paths": {"mix.cubin": "/elsewhere/a/mix.cubin"}}))
    (tmp_path / "a/__grp__damaged.json").write_text("{")
    packing.settle_kernels(tmp_path)
    assert not (tmp_path / "a/__grp__damaged.json").exists()
    assert json.loads(group.read_text()) == {"child_paths": {"mix.cubin": str(tmp_path / "a/mix.cubin")}}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [([9930] * 4, "reproduced"), ([9930, 9930, 1462], "not reproduced"), ([9930], "not tested at this size")],
)
def test_the_verdict_is_that_of_the_seeds_that_are_finished(tmp_path, monkeypatch, cells, expected):
    monkeypatch.chdir(tmp_path)
    plan = Plan(parse(read_config(ROOT / "config/lease.yaml", ["nas_bench_201_table=table.csv"])))
    for seed, index in enumerate(cells):
        place = plan.folder("nas_bench_201", "cifar10", "midas", seed)
        for name in ("search/metrics.json", "decode/genotype.json"):
            (place / name).parent.mkdir(parents=True)
            (place / name).write_text("{}")
        columns = {f"{data}_{half}_acc_200": 50.0 for data in ("c10", "c100", "in16") for half in ("valid", "test")}
        (place / "lookup").mkdir()
        (place / "lookup/metrics.json").write_text(json.dumps({"cell": {"index": index, **columns}}))
    assert report.verdict(plan)["verdict"] == expected
