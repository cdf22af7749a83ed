"""A full disk, too little memory, numbers that are none: said in words, and what was saved stays."""

import shutil
import subprocess
import sys

import pytest
import torch
from places import ROOT
from started import ENVIRONMENT

from midas.plan.runs import SearchRun
from midas.running import step
from midas.running.durable import FirstBad


def on_a_disk(script, folder, kilobytes, **environment):
    """Run shell lines where `folder` is a disk of its own, small; skips where that isn't allowed."""
    folder.mkdir()
    enter = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder}"
    if not shutil.which("unshare") or subprocess.run([*enter, mount], capture_output=True).returncode:
        pytest.skip("a disk of its own needs unshare and mount")
    return subprocess.run(
        [*enter, f"{mount} && {script}"], cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True
    )


def test_a_full_disk_is_named_and_the_old_checkpoint_stays(searched, tmp_path):
    disk = tmp_path / "disk"
    script = f'''"$PYTHON" -m midas.search "$RUN" {disk}/search --save-every 0.01; echo "code $?"; ls {disk}/search_checkpoint
        "$PYTHON" -c "from pathlib import Path; from midas.running.checkpoint import read
for name in 'newest', 'previous': print(sorted(read(Path('{disk}/search_checkpoint') / (name + '.pt'))))"'''
    size = (searched.parent / "search_checkpoint/newest.pt").stat().st_size  # room for two, and not for a third
    done = on_a_disk(script, disk, 5 * size // 2048, RUN=str(searched / "metrics.json"), PYTHON=sys.executable)
    assert done.stdout.split("\n", 1)[0] == "code 1", done.stderr
    assert (
        f"error: {disk}/search_checkpoint/writing.pt: No space left on device; earlier checkpoints are kept"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert "writing.pt" not in done.stdout
    assert done.stdout.count("['identity', 'state']") == 2


def test_a_folder_that_cannot_be_written_to_is_named(demo_run, tmp_path):
    disk = tmp_path / "disk"
    script = f'mount -o remount,ro {disk} && "$PYTHON" -m midas.search "$RUN" {disk}/search'
    done = on_a_disk(script, disk, 1000, RUN=demo_run("search"), PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {disk}/search_checkpoint: Read-only file system"


def test_memory_that_does_not_suffice_is_named_with_the_keys_that_need_less(monkeypatch, capsys, search_run, tmp_path):
    def fails(*_):
        raise error

    monkeypatch.setattr(sys, "argv", ["midas.search", search_run().model_dump_json(), str(tmp_path)])
    for error, amount in (  # noqa: B007
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."), "2.50 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."), "4096 bytes"),
    ):
        with pytest.raises(SystemExit) as left:
            step.main(SearchRun, fails)
        assert left.value.code == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"out of memory: {amount} more were wanted; smaller " in said
        assert "batch_size" in said


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch, search_run, tmp_path):
    def fails(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sys, "argv", ["midas.search", search_run().model_dump_json(), str(tmp_path)])
    with pytest.raises(RuntimeError, match="shapes differ"):
        step.main(SearchRun, fails)


def test_the_first_bad_step_is_found():
    bad = FirstBad()
    bad.check("search", 0)
    for number, loss in enumerate([1.0, float("inf"), 2.0, float("nan")]):
        bad.look(torch.tensor(loss), number)
    with pytest.raises(ValueError, match="search: the loss is not finite at step 2 of epoch 1"):
        bad.check("search", 0)
