"""The command that uses up a slice of a GPU's time, on a CPU at tiny size: its parts, killed and resumed, one of them failing."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from leased import command, run
from places import ROOT

from benchmarks.lease import packing, report
from benchmarks.lease.slices import WAYS, Slice
from midas.config.keys import parse
from midas.config.reading import read_config
from midas.plan.plan import Plan

SEARCHES = [(method, seed) for method in ("midas", "static") for seed in range(2)]
FILES = ("search/arch.npz", "search/history.csv", "decode/genotype.json")


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
    process = started(first, "--only", "search", "--at-once", "1")
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
    done = run(second, "--resume", str(first / "carry"), "--only", "search", "--at-once", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["state"] for row in found(second)["searches"]} == {"finished"}
    assert [row["at_once"] for row in found(second)["slices"]] == [1, 2]
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
