"""The command that uses up a slice of a GPU's time, on a CPU at tiny size: its parts, killed and resumed, one of them failing."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lease import __main__ as lease
from benchmarks.lease import packing, report
from benchmarks.lease.options import has_gpu
from benchmarks.lease.searches import at_once
from benchmarks.lease.slices import STRUCK, WAYS, Rows, Slice, is_wrong, own_failure, right_ways, strike
from midas.config.keys import parse
from midas.config.reading import read_config
from midas.plan.check import load
from midas.plan.plan import Plan
from midas.training.recorded import RecordingError

ROOT = Path(__file__).parents[1]
SEARCHES = [(method, seed) for method in ("midas", "static") for seed in range(2)]
FILES = ("search/arch.npz", "search/history.csv", "decode/genotype.json")


def command(out, *more, minutes=10):
    return [
        sys.executable,
        "-m",
        "benchmarks.lease",
        "--device",
        "cpu",
        "--minutes",
        str(minutes),
        "--out",
        str(out),
        *more,
    ]


def run(out, *more, minutes=10):
    return subprocess.run(command(out, *more, minutes=minutes), cwd=ROOT, capture_output=True, text=True)


def folder(out, method, seed):
    return out / "results/lease_tiny/nas_bench_201/digits" / method / f"seed{seed}"


def contents(out):
    return {(*search, name): (folder(out, *search) / name).read_bytes() for search in SEARCHES for name in FILES}


def found(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A slice that nothing disturbed."""
    out = tmp_path_factory.mktemp("lease") / "whole"
    done = run(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_all_parts_are_done(whole):
    page = found(whole)
    assert page["failed"] == []
    for way in ("eager", "merged"):
        rows = page["right"][way]
        assert {row["space"] for row in rows} == {"nas_bench_201", "darts", "s4"}
        assert {row["check"] for row in rows} == {"float64", "float32", "bfloat16"}
        assert all(row["passed"] for row in rows)
    assert [page["right"][way][0]["error"] for way in ("graph", "kernels")] == ["needs a GPU"] * 2
    measured = {(row["space"], row["way"], row["kind"]) for row in page["fast"] if row["what"] == "way"}
    assert measured == {
        (s, w, k) for s in ("nas_bench_201", "darts") for w in ("eager", "merged") for k in ("pass", "step")
    }
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in page["fast"] if row["what"] == "way")
    assert {row["what"] for row in page["fast"]} >= {"at once", "floor", "profile", "stacked 16 channels"}
    assert [(row["method"], row["seed"]) for row in page["searches"]] == SEARCHES
    assert {row["state"] for row in page["searches"]} == {"finished"}
    assert page["slices"][0]["merge_edges"] == WAYS[chosen(page)]["merge_edges"]


def chosen(page):
    """The way whose step took the least time."""
    steps = [r for r in page["fast"] if (r.get("space"), r.get("kind")) == ("nas_bench_201", "step")]
    return min(steps, key=lambda row: row["seconds"])["way"]


def test_the_page_shows_every_search_and_the_device(whole):
    text = (whole / "report.md").read_text()
    for row in found(whole)["searches"]:
        assert f"| {row['method']} | {row['seed']} | finished | 3 of 3 |" in text
        assert row["genotype"].replace("|", "&#124;") in text
    assert found(whole)["machine"]["device"] in text
    assert "torch" in text
    assert "Tiny sizes" in text


def test_few_files_leave_and_hold_what_is_published(whole, tmp_path):
    files = list((whole / "carry").iterdir())
    assert len(files) <= packing.FILES
    assert all(path.stat().st_size <= packing.FILE_BYTES for path in files)
    packing.unpack(whole / "carry", tmp_path)
    for search in SEARCHES:
        for name in FILES[1:]:
            assert (folder(tmp_path, *search) / name).read_bytes() == (folder(whole, *search) / name).read_bytes()
        assert not (folder(tmp_path, *search) / "search_checkpoint").exists()  # finished
    for path in tmp_path.rglob("example.npz"):
        assert np.load(path).files == []  # an image stays where it is
    assert len(list(tmp_path.rglob("example.npz"))) == len(SEARCHES)


def test_the_workflow_takes_the_searches_as_its_own(whole, tmp_path):
    """Unpacked beside the workflow, nothing is left to search or decode."""
    packing.unpack(whole / "carry", tmp_path)
    keys = [f"results_dir={tmp_path / 'results'}", f"figures_dir={tmp_path / 'figures'}", "claims=config/claims.yaml"]
    call = ["snakemake", "-n", "--quiet", "rules", "--configfile", str(tmp_path / "config.yaml"), "--config", *keys]
    table = [f"nas_bench_201_table={tiny_table(tmp_path)}", "nas_bench_201_cells=1"]
    done = subprocess.run([*call, *table, "--", "tables"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {line.split()[0] for line in done.stdout.splitlines() if line[:1].isalpha()}
    assert "lookup" in jobs
    assert not jobs & {"search", "decode", "data"}, done.stdout


def tiny_table(folder):
    """A table of the benchmark with its columns and one cell."""
    from midas.spaces.benchmark import COLUMNS, numbers

    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    row = [{"arch": cell, "index": str(numbers()[cell])}.get(name, "10") for name in COLUMNS]
    path = folder / "table.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(row)}\n")
    return path


# --- killed, asked to stop, failing


def started(out, *more):
    """A slice in its third part, after the first epoch of a search."""
    process = subprocess.Popen(command(out, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = folder(out, "midas", 0) / "search.log"
    end = time.monotonic() + 120
    while not (log.exists() and "epoch 1/3" in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def test_killed_in_a_search_with_a_part_that_fails_and_started_again(whole, tmp_path):
    out = tmp_path / "killed"
    out.mkdir()
    shutil.copyfile(whole / "config.yaml", out / "config.yaml")  # the order of parameters that was faster there
    (out / "rows").mkdir()
    for path in (whole / "rows").glob("right_*"):
        shutil.copyfile(path, out / "rows" / path.name)  # all was checked on this machine
    process = started(out, "--only", "search")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)  # its search dies with it
    logs = {search: (folder(out, *search) / "search.log").exists() for search in SEARCHES}
    assert not all(logs.values())
    right = {path.name: path.read_bytes() for path in (out / "rows").glob("right_*")}
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("genotype.json")}
    done = run(out, "--fail", "fast")
    page = found(out)
    assert done.returncode == 1
    assert [line.split(" ")[0] for line in page["failed"]] == ["fast"]
    assert "asked to fail" in page["failed"][0]
    assert "logs/fast.log" in page["failed"][0]
    assert {path.name: path.read_bytes() for path in (out / "rows").glob("right_*")} == right  # not checked again
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert "goes on at epoch" in (folder(out, "midas", 0) / "search.log").read_text()
    for search in SEARCHES:
        log = (folder(out, *search) / "search.log").read_text()
        assert sorted(log.count(f"epoch {n}/3 ") for n in (1, 2, 3)) == [1, 1, 1], log  # nothing was repeated
    assert {row["state"] for row in page["searches"]} == {"finished"}
    assert contents(out) == contents(whole)


def test_asked_to_stop_it_saves_reports_and_another_folder_goes_on(whole, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(whole / "rows", first / "rows", ignore=shutil.ignore_patterns("search*", "slices*", "data"))
    process = started(first, "--only", "search")
    process.terminate()
    process.communicate(timeout=60)
    page = found(first)
    assert page["failed"] == []
    assert {"unfinished"} <= {row["state"] for row in page["searches"]} <= {"unfinished", "not begun", "finished"}
    assert "Left: " in (first / "report.md").read_text()
    assert "This slice was asked to stop before its end." in (first / "report.md").read_text()
    assert len(list((first / "carry").iterdir())) <= packing.FILES
    damaged = tmp_path / "damaged"
    shutil.copytree(first / "carry", damaged)
    piece = damaged / "slice.tar.gz.0"
    piece.write_bytes(piece.read_bytes()[:-100] + bytes(100))
    refused = run(tmp_path / "third", "--resume", str(damaged))
    assert refused.returncode == 2
    assert "are not those of its report; one is missing or damaged" in refused.stderr
    assert sorted(path.name for path in (tmp_path / "third").iterdir()) == ["lock"]
    done = run(second, "--resume", str(first / "carry"), "--only", "search")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["state"] for row in found(second)["searches"]} == {"finished"}
    assert len(found(second)["slices"]) == 2
    for search in SEARCHES:
        for name in FILES[1:]:
            assert (folder(second, *search) / name).read_bytes() == (folder(whole, *search) / name).read_bytes()


def test_searches_that_other_code_began_are_kept(whole, tmp_path, monkeypatch):
    from benchmarks.lease import searches
    from midas.running.checkpoint import Checkpoint, read

    shutil.copytree(whole, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    search = searches.Searched(
        Plan(parse(read_yaml("config.yaml"))), next(Plan(parse(read_yaml("config.yaml"))).cells())
    )
    for path in (search.folder / "search/metrics.json", search.folder / "decode/genotype.json"):
        path.unlink()
    images, data = None, {"images": "a", "halves": "b"}
    newest = search.folder / "search_checkpoint/newest.pt"
    content = read(newest)
    device = searches.torch.device("cpu")
    identity = search.identity(device, data) | {"source_digest": "other"}
    del identity["config"]["method"]["warmup_epochs"]  # which that code didn't know yet
    Checkpoint(newest.parent, identity).save(content["state"])
    assert "source_digest: 'other' there" in search.start(images, device, data, False)
    assert "--other-code goes on with it" in search.start(images, device, data, False)
    assert search.start(images, device, data, True) is None
    assert search.steps is not None
    assert "images: 'a' there, 'c' now" in search.start(images, device, data | {"images": "c"}, True)
    assert read(newest)["identity"]["source_digest"] == "other"
    identity["config"]["search"]["lr"] = 0.5
    Checkpoint(newest.parent, identity).save(content["state"])
    assert "config.search.lr: 0.5 there, 0.025 now" in search.start(images, device, data, True)


def read_yaml(path):
    return read_config(Path(path), [])


# --- wrong input


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "0.5"], "error: --minutes 0.5 is not allowed; a number of at least 1"),
        (["--device", "cuda"], "error: --device cuda is not allowed: no GPU is found here; allowed: cpu"),
        (["--out", "."], "error: --out . is not allowed: it holds the repository; a folder of its own"),
        (["--data", "nowhere"], "error: --data: 'nowhere' is not an existing folder"),
        (
            ["--data", "tests"],
            "error: --data: data folder 'tests' has no cifar-10-batches-py/data_batch_1, which cifar10 needs",
        ),
        (["--table", "nowhere"], "error: --table: nowhere: not a readable table"),
        (["--split", "README.md"], "error: --split: README.md: not a JSON file with the index lists train and valid"),
        (["--resume", "nowhere"], "error: --resume nowhere is not an existing folder"),
        (["--only", "search", "seek"], "argument --only: invalid choice: 'seek'"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(tmp_path, more, message):
    if "cuda" in more and has_gpu():
        pytest.skip("there is a GPU")
    done = run(tmp_path / "out", *more)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_command_works_in_is_refused(tmp_path):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: --out {tmp_path}: another command is at work on it\n"


def test_a_file_in_the_folders_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file")
    assert (done.returncode, done.stderr) == (2, f"error: --out {tmp_path / 'file'}: File exists\n")


def test_a_folder_without_a_slice_cannot_be_resumed(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "out", "--resume", str(tmp_path / "empty"))
    assert done.returncode == 2
    assert "holds no slice; needed: slice.json, or slice.tar.gz.0" in done.stderr


# --- by themselves


def test_the_configuration_of_the_searches_can_be_planned(shared_data):
    table = shared_data / "nas_bench_201/nas_bench_201.csv.gz"
    plan = load(read_config(ROOT / "config/lease.yaml", [f"nas_bench_201_table={table}"]))
    assert len(list(plan.cells(searched=True))) == 8


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


def test_files_that_are_damaged_are_named_and_the_rest_is_reported(whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(whole, out, symlinks=True)
    monkeypatch.chdir(out)
    (folder(out, "midas", 0) / "search/arch.npz").write_bytes(b"no dump")
    (folder(out, "midas", 1) / "decode/genotype.json").write_text("")
    report.write(Slice.read(), [])
    page = found(out)
    assert [row["state"] for row in page["searches"]] == ["finished", "damaged", "finished", "finished"]
    assert "midas/seed0/search/arch.npz" in page["packed"]["without"][0]
    (out / "config.yaml").write_text("experiments: [\n")
    assert "config.yaml" in report.write(Slice.read(), [])
    assert not (out / "packing.tar.gz").exists()


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
