"""Where numbers come from: commit, versions, cost, processor; files that appear whole or not at all."""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import torch

from midas.plan.runs import SearchRun
from midas.running import provenance
from midas.running.provenance import write_metrics, write_table, write_text


@pytest.fixture(scope="module")
def metrics(searched):
    return json.loads((searched / "metrics.json").read_text())


def test_metrics_carry_where_they_come_from(metrics, search_run):
    assert metrics["config"]["seed"] == 0
    assert SearchRun.model_validate(metrics["config"]) == search_run()
    assert metrics["provenance"]["step"] == "search"
    assert metrics["provenance"]["source_digest"] == provenance.digest("search")
    assert metrics["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert metrics["provenance"]["versions"]["python"] == platform.python_version()
    assert metrics["provenance"]["versions"]["timm"] == metadata.version("timm")
    assert metrics["provenance"]["commit"] == provenance.commit()


def test_metrics_carry_what_they_cost(metrics):
    cost = metrics["cost"]
    assert cost["device"] == provenance.processor() != ""
    assert 0 < cost["wall_seconds"] < 600
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 50e6 < cost["peak_memory_bytes"] <= peak


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    identity += ["-c", "protocol.file.allow=always"]
    result = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def committed(folder, file=provenance.THIS):
    """Make a repository of one file; its commit."""
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text(f"in {folder.name}")
    git(folder, "init")
    git(folder, "add", file)
    git(folder, "commit", "--no-verify", "-m", folder.name)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Folder of a repository that holds this code; the commit asked for is its."""
    for name in provenance.GIT_PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "own")
    committed(tmp_path / "own")
    return tmp_path / "own"


def test_commit_says_whether_the_tree_was_changed(checkout):
    assert provenance.commit() == git(checkout, "rev-parse", "HEAD")
    (checkout / "new").write_text("not in git")
    assert provenance.commit() == git(checkout, "rev-parse", "HEAD")
    (checkout / provenance.THIS).write_text("2")
    assert provenance.commit() == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_code_without_a_repository_has_no_commit(checkout, tmp_path):
    shutil.rmtree(checkout / ".git")
    assert provenance.commit() is None
    around = committed(tmp_path, "notes/paper.tex")  # unpacked in the folder of another repository
    assert git(checkout, "rev-parse", "HEAD") == around
    assert provenance.commit() is None
    git(tmp_path, "add", ".")  # even where that holds it: its commits are of other things
    git(tmp_path, "commit", "--no-verify", "-m", "all")
    assert provenance.commit() is None


def test_code_unpacked_at_the_root_of_another_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    committed(tmp_path, "notes/paper.tex")
    (tmp_path / provenance.THIS).parent.mkdir(parents=True)
    (tmp_path / provenance.THIS).write_text("unpacked")
    assert provenance.commit() is None


def test_a_repository_without_a_commit_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    git(tmp_path, "init")
    assert provenance.commit() is None


@pytest.mark.parametrize("names", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_INDEX_FILE",)], ids="+".join)
def test_a_repository_that_the_environment_names_is_not_taken(names, checkout, tmp_path, monkeypatch):
    own = git(checkout, "rev-parse", "HEAD")
    other = committed(tmp_path / "other")
    places = {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index"}
    for name in names:
        monkeypatch.setenv(name, str(tmp_path / "other" / places[name]))
    assert provenance.commit() == own != other
    shutil.rmtree(checkout / ".git")
    assert provenance.commit() is None


def test_another_user_s_repository_gives_its_commit(checkout, monkeypatch):
    """As in a container that mounts it; git itself refuses to look for it there."""
    own = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(subprocess.CalledProcessError):
        git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == own


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_a_worktree_and_a_submodule_give_their_own_commit(kind, checkout, tmp_path, monkeypatch):
    if kind == "worktree":
        git(checkout, "worktree", "add", tmp_path / "there", "-b", "there")
        folder = tmp_path / "there"
    else:
        committed(tmp_path / "around", "notes/paper.tex")
        git(tmp_path / "around", "submodule", "add", str(checkout), "code")
        folder = tmp_path / "around/code"
    (folder / provenance.THIS).write_text("newer")
    git(folder, "commit", "--no-verify", "-am", "newer")
    monkeypatch.setattr(provenance, "ROOT", folder)
    assert provenance.commit() == git(folder, "rev-parse", "HEAD") != git(checkout, "rev-parse", "HEAD")
    (folder / provenance.THIS).write_text("changed")
    assert provenance.commit() == git(folder, "rev-parse", "HEAD") + "+changes"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder/metrics.json"
    write_text(path, "first")
    write_half = Path.write_text

    def killed(self, text):
        write_half(self, text[:2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "second")
    assert path.read_text() == "first"
    write_text(path, "third")
    assert path.read_text() == "third"


def test_a_table_reads_back(tmp_path):
    write_table(tmp_path / "a.csv", [{"epoch": 1, "genotype": "a,b"}, {"epoch": 2, "genotype": 'c"d'}])
    assert (tmp_path / "a.csv").read_text() == 'epoch,genotype\n1,"a,b"\n2,"c""d"\n'


def test_equal_runs_write_equal_numbers(tmp_path, search_run):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        write_metrics(tmp_path / name, "search", search_run(), {"accuracy": 0.1 + 0.2}, seconds)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a", "b"))
    assert first.pop("cost")["wall_seconds"] == 1.0
    assert second.pop("cost")["wall_seconds"] == 2.0
    assert first == second
    assert first["accuracy"] == 0.1 + 0.2


def test_metrics_of_a_step_that_computes_name_the_processors_instructions(search_run, tmp_path):
    write_metrics(tmp_path / "with.json", "search", search_run(), {}, 1.0, torch.device("cpu"))
    write_metrics(tmp_path / "without.json", "lookup", search_run(), {}, 1.0)
    said = json.loads((tmp_path / "with.json").read_text())["cost"]["instructions"]
    assert said.split()[0] == torch.backends.cpu.get_cpu_capability()
    assert "instructions" not in json.loads((tmp_path / "without.json").read_text())["cost"]


def test_a_processor_that_is_used_as_an_older_one_has_other_instructions():
    code = "from midas.running.provenance import instructions; print(instructions())"
    call = partial(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=provenance.ROOT
    )
    as_it_is, older = call().stdout, call(env={**os.environ, "ATEN_CPU_CAPABILITY": "default"}).stdout
    if as_it_is.startswith("DEFAULT"):
        pytest.skip("this processor has one kind of instructions alone")
    assert older.split()[0] == "DEFAULT" != as_it_is.split()[0]
