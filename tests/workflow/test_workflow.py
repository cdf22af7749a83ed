"""The real workflow from start to end on the smallest configuration, and what a user meets around it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documented import undocumented
from places import ROOT

from midas.plan.check import load
from midas.publish import publish


def snakemake(*arguments, cwd=ROOT, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of config/test.yaml in a folder of its own; its arguments and outputs."""
    folder = tmp_path_factory.mktemp("workflow")
    places = [f"results_dir={folder}/results", f"figures_dir={folder}/figures"]
    arguments = ["--configfile", "config/test.yaml", "--config", *places, "--"]
    done = snakemake(*arguments, "all")
    assert done.returncode == 0, done.stderr[-4000:]
    return arguments, folder / "results/test", folder / "figures/test"


def test_every_table_figure_and_the_report_are_there(run):
    _, results, figures = run
    for number in range(1, 7):
        for form in ("csv", "md", "tex"):
            assert (results / f"tables/table_{number}.{form}").stat().st_size > 0
    assert sorted(path.name for path in figures.iterdir()) == sorted(
        f"figure_{number:02d}.{form}" for number in (1, 2, 3, 4, 5, 6, 11, 12) for form in ("pdf", "png")
    )
    claims = json.loads((results / "claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == [f"C{number}" for number in range(1, 9)]
    assert {claim["verdict"] for claim in claims} == {"not tested at this size"}
    report = (results / "report.html").read_text()
    parts = ["<h2>Claims", "not tested at this size", "<h2>Tables", "<h2>Figures", "<h2>Runs", "<h2>Configuration"]
    assert sorted(parts, key=report.index) == parts
    assert report.count("data:image/png;base64,") == 8


def test_every_file_and_column_is_documented(run):
    _, results, figures = run
    assert undocumented(results, figures) == []


def test_the_transfer_read_jpeg_files_that_the_pipeline_wrote(run):
    _, results, _ = run
    images = results / "data/digit_photos/images"
    assert len(list(images.glob("train/*/*.jpg"))) == 1437
    metrics = json.loads((results / "darts/digits/midas/seed0/transfer/metrics.json").read_text())
    assert (metrics["train_images"], metrics["test_images"]) == (1437, 360)
    assert metrics["config"]["dataset"]["path"] == str(images)


def test_a_random_cell_was_not_searched(run):
    _, results, _ = run
    folder = results / "nas_bench_201/digits/random/seed0"
    assert (folder / "retrain/metrics.json").exists()
    assert not (folder / "search").exists()


def test_a_number_leads_back_to_its_run(run):
    _, results, _ = run
    metrics = json.loads((results / "nas_bench_201/digits/midas/seed0/retrain/metrics.json").read_text())
    table = (results / "tables/table_1.csv").read_text()
    assert repr(metrics["test_accuracy"]) in table
    assert metrics["config"]["seed"] == 0
    assert metrics["provenance"]["versions"]["torch"]
    assert metrics["cost"]["wall_seconds"] > 0
    assert (results / "nas_bench_201/digits/midas/seed0/retrain.log").stat().st_size > 0


def test_nothing_is_to_be_done_afterwards(run):
    arguments, *_ = run
    done = snakemake("-n", *arguments, "all")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_deleted_figure_alone_is_redrawn_and_equal(run):
    arguments, _, figures = run
    figure = figures / "figure_02.png"
    before = figure.read_bytes()
    figure.unlink()
    again = snakemake(*arguments, "figures")
    assert again.returncode == 0, again.stderr[-4000:]
    assert "2 of 2 steps" in again.stdout + again.stderr
    assert figure.read_bytes() == before


def test_a_configuration_longer_than_an_argument_may_be_is_drawn(run, tmp_path):
    arguments, results, figures = run
    raw = yaml.safe_load((ROOT / arguments[1]).read_text())
    raw |= {"note": "x" * 150_000, "results_dir": str(results.parent), "figures_dir": str(figures.parent)}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(raw))
    table = results / "tables/table_1.md"
    before = table.read_bytes()
    try:
        done = snakemake("--configfile", tmp_path / "long.yaml", "--allowed-rules", "table_1", "--", table)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "x" * 150_000 in table.read_text()
    finally:
        assert snakemake(*arguments, table).returncode == 0
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": "x"}, ["sizes: unknown key, did you mean size? allowed: size"]),
        ({"seeds": ["one"]}, ["seeds.0: 'one' is not allowed", "integer"]),
        (
            {"methods": {"midas": {"patch_size": 5}, "static": {"weights": "static"}}},
            ["methods.midas.patch_size: 5", "4, 8"],
        ),
        ({"data_root": "no/such/folder"}, ["data_root: 'no/such/folder' is not an existing folder"]),
        ({"nas_bench_201_table": "README.md"}, ["README.md: column index", "is missing"]),
    ],
)
def test_a_wrong_configuration_ends_in_one_clear_message_before_any_job(change, words, tmp_path):
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | change
    raw |= {"results_dir": str(tmp_path / "results"), "figures_dir": str(tmp_path / "figures")}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(raw))
    done = snakemake("--configfile", tmp_path / "wrong.yaml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_key_that_is_there_twice_is_said_before_any_job(tmp_path):
    """Snakemake reads the file by itself and would take the last."""
    path = tmp_path / "twice.yaml"
    text = (ROOT / "config/test.yaml").read_text()
    path.write_text(f"{text}\nnote: another\n")
    lines = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line.startswith("note:")]
    done = snakemake("--configfile", path, "-n", "--", "tables")
    assert done.returncode == 1
    said = f"{path}: key 'note' is there twice, in lines {lines[0]} and {lines[1]}; each once"
    assert [line.strip() for line in (done.stdout + done.stderr).splitlines()].count(said) == 1, done.stderr
    path.write_text(text)
    places = ["note=another", "threads=1", f"results_dir={tmp_path}/results"]
    done = snakemake("--configfile", path, "-n", "--config", *places, "--", "tables")
    assert done.returncode == 0, done.stderr
    assert "another" in done.stdout + done.stderr


def test_what_is_published_is_redrawn_from_its_own_configuration_alike(run, monkeypatch):
    arguments, results, figures = run
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | dict(place.split("=") for place in arguments[3:-1])
    plan = load(raw)
    with monkeypatch.context() as patch:
        patch.chdir(results.parents[1])  # what lies at an absolute path is published in the repository
        folder = publish(plan).resolve()
    assert folder == results.parent / "published/test"
    assert not list(folder.rglob("*.safetensors"))
    assert len(list(folder.rglob("example.npz"))) == 1  # figure 1 shows an embedded digit
    places = [f"{key}_dir={results.parents[1]}/{key}/published" for key in ("results", "figures")]
    chosen = ["--configfile", folder / "config.yaml", "--config", *places]
    rules = snakemake(*chosen, "--list-rules").stdout.split()
    drawn = [rule for rule in rules if rule.startswith(("table", "figure", "further", "claims", "report"))]
    done = snakemake(*chosen, "--allowed-rules", *drawn, "--", "tables", "figures", "further", "claims", "report")
    assert done.returncode == 0, done.stderr[-4000:]
    for path in sorted((results / "tables").glob("*.csv")):
        shipped = (folder / "tables" / path.name).read_text()
        assert shipped == path.read_text().replace(str(results), str(folder)), path.name
    redrawn = figures.parent / "published/test"
    for path in sorted(figures.glob("*.png")):
        assert (redrawn / path.name).read_bytes() == path.read_bytes(), path.name


def test_no_finished_seed_is_one_clear_message(run):
    arguments, *_ = run
    done = snakemake("-n", *arguments[:-1], "seeds=[7]", "partial=true")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "partial: no seed is finished; " in said
    assert "Traceback" not in said


def test_a_failing_seed_leaves_the_others_their_results(tmp_path):
    """Seed 1 can't write its search: a file is in the way. With --keep-going all else is made, then shown without it."""
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text())
    places = {"results_dir": str(tmp_path / "results"), "figures_dir": str(tmp_path / "figures")}
    only = next(e for e in raw["experiments"] if e["space"] == "nas_bench_201")
    raw |= {"seeds": [0, 1], "experiments": [only], "analysis": None, **places}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(raw))
    blocked = tmp_path / "results/test/nas_bench_201/digits/midas/seed1/search_checkpoint"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    done = snakemake("--configfile", tmp_path / "two.yaml", "--keep-going", "--", "tables")
    assert done.returncode == 1
    assert "add --config partial=true" in done.stdout + done.stderr
    assert f"error: {blocked}: File exists" in (blocked.parent / "search.log").read_text()
    assert (tmp_path / "results/test/nas_bench_201/digits/midas/seed0/retrain/metrics.json").exists()
    shown = snakemake("--configfile", tmp_path / "two.yaml", "--config", "partial=true", "--", "tables", "report")
    assert shown.returncode == 0, shown.stderr[-4000:]
    for shown_in in ("tables/table_1.md", "report.html"):
        assert "left out, not finished: seed 1" in (tmp_path / "results/test" / shown_in).read_text()


def test_snakemake_killed_and_started_again_ends_with_the_same_results(run, tmp_path):
    """Killed with all its jobs once some of them are done; in a copy of the project: its locks are those of a folder."""
    after = 7
    _, whole, _ = run
    project = tmp_path / "project"
    for name in ("midas", "workflow", "config"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", project)
    places = [f"results_dir={tmp_path}/results", f"figures_dir={tmp_path}/figures"]
    trained = ("retrain/metrics.json", "transfer/metrics.json")  # what is drawn from them is drawn elsewhere
    found = (path.relative_to(whole) for name in trained for path in sorted(whole.rglob(name)))
    targets = [str(tmp_path / "results/test" / path) for path in found]
    assert len(targets) == 6
    arguments = ["--configfile", "config/test.yaml", "--config", *places, "--", *targets]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        command, cwd=project, env=os.environ | {"PATH": path}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr:
        if line.startswith(f"{after} of "):
            break
    else:
        pytest.fail("it ended before it was killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list((project / ".snakemake/locks").iterdir())
    again = snakemake(*arguments, cwd=project)  # the same command
    assert again.returncode == 0, again.stderr[-4000:]
    assert "A call before this one was killed." in again.stderr
    assert not list((project / ".snakemake/calls").iterdir())
    for name in ("history.csv", "arch.npz", "model.safetensors", "genotype.json"):
        files = sorted(path.relative_to(tmp_path / "results/test") for path in (tmp_path / "results/test").rglob(name))
        files = [file for file in files if "_checkpoint" not in str(file)]
        assert len(files) >= 4
        for file in files:
            assert (tmp_path / "results/test" / file).read_bytes() == (whole / file).read_bytes(), file


def test_a_seed_that_failed_is_left_out_of_the_tables_and_named(run):
    """Seed 1 was never run here, and its jobs aren't started. The last that reads the fixture's tables: they lack a seed then."""
    arguments, results, _ = run
    places = arguments[:-1]
    done = snakemake(*places, "seeds=[0,1]", "partial=true", "--", "tables", "claims")
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(results.rglob("seed1"))
    for number in range(1, 7):
        assert "left out, not finished: seed 1" in (results / f"tables/table_{number}.md").read_text()
    again = snakemake(*arguments, results / "tables/table_1.md")  # without the key it is as it was
    assert again.returncode == 0, again.stderr[-4000:]
    assert "left out" not in (results / "tables/table_1.md").read_text()


@pytest.mark.parametrize("name", ["it's; touch pwned", "$(touch pwned) & `touch pwned`", 'a "b"'])
def test_a_folders_name_is_never_run(name, tmp_path):
    """A name is quoted for the shell, or refused in one line; either way nothing of it is executed."""
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text())
    raw |= {"results_dir": str(tmp_path / name), "figures_dir": str(tmp_path / "figures")}
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(raw))
    metrics = tmp_path / name / "test/data/digits/metrics.json"
    done = snakemake("--configfile", tmp_path / "named.yaml", "--", metrics)
    assert not [*tmp_path.rglob("pwned"), *ROOT.glob("pwned")]
    assert "Traceback" not in done.stderr
    assert metrics.exists() or "results_dir: " in done.stderr
