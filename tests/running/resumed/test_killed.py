"""Long steps killed at random moments and in an epoch: nothing that was saved is lost, no byte differs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from places import ROOT
from started import ENVIRONMENT, FILES, finish

from midas.running import limits
from midas.running.checkpoint import Checkpoint, read
from midas.running.limits import Limits
from midas.search import search
from midas.training.bilevel import Bilevel
from midas.transfer import AGREE_EVERY


@pytest.mark.parametrize("name", FILES)
def test_four_kills_at_random_moments_change_no_byte(name, demo_run, whole, server, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    print(f"{name}: moments drawn with seed {seed}")  # shown where the test fails
    run, folder = demo_run(name), tmp_path / "killed" / name
    expected, start = whole(name), time.monotonic()
    assert server.run(name, run, tmp_path / "timed" / name, "--save-every", "0.01") == 0
    taken, kills = time.monotonic() - start, 0
    while kills < 4:
        code = server.run(name, run, folder, "--save-every", "0.01", seconds=draw.uniform(0.1, 0.9) * taken)
        assert code in (0, -signal.SIGKILL)
        if code == 0:  # it was faster: once more from the beginning
            assert {file: (folder / file).read_bytes() for file in FILES[name]} == expected
            shutil.rmtree(folder.parent)
        else:
            kills += 1
    assert finish(name, run, folder) == expected


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_search_goes_on_in_the_midst_of_an_epoch(searched, search_run, tmp_path, monkeypatch, steps):
    """Three epochs of three steps; saved after each."""
    taken, whole_step = [], Bilevel.weight_step

    def counted(self, *arguments):
        whole_step(self, *arguments)
        taken.append(1)
        if len(taken) == steps + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(limits._Asked, "limits", Limits(save_every=0.0))
    monkeypatch.setattr(Bilevel, "weight_step", counted)
    with pytest.raises(KeyboardInterrupt):
        search(search_run(), tmp_path / "search")
    taken.clear()
    taken.extend([1] * 100)  # no more kills
    search(search_run(), tmp_path / "search")
    assert len(taken) == 100 + 9 - steps  # no step is taken again, but the one that was killed
    for file in FILES["search"]:
        assert (tmp_path / "search" / file).read_bytes() == (searched / file).read_bytes()
    cost = json.loads((tmp_path / "search/metrics.json").read_text())["cost"]
    assert cost["attempts"] == 2
    assert cost["resumed_at"] == [f"epoch {steps // 3 + 1}, step {steps % 3 + 1}"]


def test_two_processes_that_train_together_are_killed_in_an_epoch_and_go_on(demo_run, tmp_path):
    run = json.loads(demo_run("transfer"))
    run["transfer"]["gpus"], run["transfer"]["ema"] = 2, 0.9
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "midas.transfer",
    ]

    def arguments(name):
        return [*start, json.dumps(run), str(tmp_path / name / "transfer"), "--save-every", "0.01"]

    process = subprocess.Popen(
        arguments("killed"), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    newest = tmp_path / "killed/transfer_checkpoint/newest.pt"
    while not newest.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(["pkill", "-KILL", "-f", str(tmp_path / "killed")])  # workers have sessions of their own
    process.wait()
    within = read(newest)["state"]["within"]
    assert within["step"] == AGREE_EVERY  # of 28
    assert len(within["own"]) == 2
    assert not torch.equal(*within["own"])
    for name in ("killed", "whole"):
        subprocess.run(arguments(name), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    for file in FILES["transfer"]:
        assert (tmp_path / "killed/transfer" / file).read_bytes() == (tmp_path / "whole/transfer" / file).read_bytes()
    cost = json.loads((tmp_path / "killed/transfer/metrics.json").read_text())["cost"]
    assert cost["resumed_at"] == [f"epoch 1, step {AGREE_EVERY + 1}"]


# --- damage


def test_checkpoints_cut_or_changed_at_random_give_the_older_one_or_none(tmp_path, capsys):
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    print(f"drawn with seed {seed}")
    keeper = Checkpoint(tmp_path / "kept", {"seed": 0})
    for number in (1, 2):
        keeper.save({"weights": torch.full((300,), float(number)), "history": []})
    good = {name: (tmp_path / "kept" / name).read_bytes() for name in ("previous.pt", "newest.pt")}

    def damaged(content):
        if draw.random() < 0.5:
            return content[: draw.randrange(len(content))]
        changed = bytearray(content)
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(content))] ^= draw.randint(1, 255)
        return bytes(changed)

    for trial in range(100):
        shutil.rmtree(tmp_path / "kept")
        (tmp_path / "kept").mkdir()
        both = trial % 4 == 0
        (tmp_path / "kept/newest.pt").write_bytes(damaged(good["newest.pt"]))
        (tmp_path / "kept/previous.pt").write_bytes(damaged(good["previous.pt"]) if both else good["previous.pt"])
        state = keeper.load()
        assert "newest.pt is damaged" in capsys.readouterr().err
        if both:
            assert state is None
        else:
            assert torch.equal(state["weights"], torch.ones(300))
