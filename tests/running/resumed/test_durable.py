"""What a finished or an interrupted run is good for when it is started again."""

import json
import shutil

from two_classes import configuration, interrupt, two_classes

from midas.plan.check import load
from midas.running import limits
from midas.running.checkpoint import Checkpoint, read
from midas.running.limits import ACCEPTED, Limits
from midas.search import search


def test_a_finished_run_whose_outputs_were_deleted_is_trained_again(search_run, searched, steps, tmp_path, capsys):
    search(search_run(), tmp_path / "search")
    shutil.rmtree(tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert len(steps) == 9
    assert (tmp_path / "search/arch.npz").read_bytes() == (searched / "arch.npz").read_bytes()
    assert "of a finished run whose outputs are gone" in capsys.readouterr().err
    assert (tmp_path / "search_checkpoint_aside1/newest.pt").exists()


def test_a_finished_run_with_its_outputs_is_not_trained_again(search_run, steps, tmp_path):
    search(search_run(), tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert steps == []


def test_a_workflow_deletes_what_it_did_not_see_end_and_gets_it_again(search_run, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(limits._Asked, "limits", Limits(workflow=True))
    search(search_run(), tmp_path / "search")
    shutil.rmtree(tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert steps == []
    (tmp_path / "search_checkpoint" / ACCEPTED).touch()
    shutil.rmtree(tmp_path / "search")
    search(search_run(), tmp_path / "search")
    assert len(steps) == 9


def test_an_interrupted_run_whose_data_changed_begins_anew_and_says_why(
    search_run, steps, tmp_path, monkeypatch, capsys
):
    two_classes(tmp_path / "two.npz")
    run = search_run(dataset=load(configuration(tmp_path)).dataset("two"))
    interrupt(run, tmp_path / "search", 4, monkeypatch)
    two_classes(tmp_path / "two.npz", shuffled=True)
    steps.clear()
    search(run, tmp_path / "search")
    assert len(steps) == 9
    assert "belongs to another run (images: " in capsys.readouterr().err


def test_an_interrupted_run_goes_on_where_its_data_were_moved(search_run, steps, tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    run = search_run(dataset=load(configuration(tmp_path)).dataset("two"))
    interrupt(run, tmp_path / "search", 4, monkeypatch)
    (tmp_path / "two.npz").rename(tmp_path / "moved.npz")
    steps.clear()
    moved = run.dataset.model_copy(update={"path": str(tmp_path / "moved.npz")})
    search(run.model_copy(update={"dataset": moved}), tmp_path / "search")
    assert len(steps) == 6  # of 9: an epoch of 3 was kept


def test_the_identity_that_is_read_beside_a_checkpoint_is_that_within(search_run, tmp_path):
    search(search_run(epochs=1), tmp_path / "search")
    kept = tmp_path / "search_checkpoint"
    assert json.loads((kept / "identity.json").read_text()) == read(kept / "newest.pt")["identity"]
    assert Checkpoint(kept, read(kept / "newest.pt")["identity"]).load()
