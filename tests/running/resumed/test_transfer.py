"""Transfers that are killed and started again end as if nothing had happened."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from transfers import ALL_OPTIONS, ENVIRONMENT, NOISY, OUTPUTS, files

from midas.networks.saved import load_network
from midas.spaces.genotype import parse
from midas.training.trainer import Training
from midas.training.transferring import Transferring as Trainer
from midas.transfer import transfer


def test_same_seed_gives_the_same_files_and_another_seed_others(transfer_run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        transfer(transfer_run(seed=seed, epochs=2, **ALL_OPTIONS), tmp_path / name)
    a, b, c = (files(tmp_path / name, "history.csv", "model.safetensors") for name in "abc")
    assert a == b
    assert a[0] != c[0]
    assert a[1] != c[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [6, 8])
def test_killed_and_started_again_gives_the_same_files(steps, workers, transfer_run, tmp_path, monkeypatch):
    run = transfer_run(NOISY, workers=workers, **ALL_OPTIONS)
    transfer(run, tmp_path / "whole")

    whole_step, taken = Training._step, []

    def step(self, x, y):
        if len(taken) == steps:  # in the middle and at the start of an epoch of four steps
            raise KeyboardInterrupt
        taken.append(1)
        return whole_step(self, x, y)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            transfer(run, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    torch.manual_seed(1234)  # the new process knows nothing of the old one's generators
    np.random.seed(1234)
    repeated = []
    monkeypatch.setattr(
        Trainer,
        "train",
        lambda self, b, epoch, *more, train=Trainer.train: repeated.append(epoch) or train(self, b, epoch, *more),
    )
    transfer(run, tmp_path / "killed")
    assert repeated == list(range(steps // 4, 3))
    assert files(tmp_path / "whole", *OUTPUTS[:2]) == files(tmp_path / "killed", *OUTPUTS[:2])


def command(run, folder, *launch):
    return [sys.executable, "-m", *launch, "midas.transfer", run.model_dump_json(), str(folder)]


def test_a_process_killed_in_an_epoch_and_started_again_gives_the_same_files(transfer_run, tmp_path):
    run = transfer_run(epochs=6, **ALL_OPTIONS)
    newest = tmp_path / "killed_checkpoint/newest.pt"
    process = subprocess.Popen(command(run, tmp_path / "killed"), cwd=ROOT, env=ENVIRONMENT)
    while not newest.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    transfer(run, tmp_path / "killed")
    transfer(run, tmp_path / "whole")
    assert files(tmp_path / "whole", *OUTPUTS[:2]) == files(tmp_path / "killed", *OUTPUTS[:2])


def test_the_number_of_workers_changes_nothing(transfer_run, tmp_path):
    for workers in (0, 2):
        transfer(transfer_run(workers=workers, epochs=2), tmp_path / str(workers))
    assert files(tmp_path / "0", *OUTPUTS[:2]) == files(tmp_path / "2", *OUTPUTS[:2])


def test_killed_while_writing_its_outputs_it_writes_them_without_training_again(transfer_run, tmp_path, monkeypatch):
    run = transfer_run(epochs=2)
    transfer(run, tmp_path / "a")
    before = files(tmp_path / "a", *OUTPUTS[:2])
    for name in OUTPUTS:
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a_checkpoint/accepted").unlink()  # the last that it writes
    monkeypatch.delattr(Trainer, "train")
    transfer(run, tmp_path / "a")
    assert files(tmp_path / "a", *OUTPUTS[:2]) == before


def test_other_images_under_the_same_path_start_anew(transfer_run, tmp_path, capsys):
    described = tmp_path / "metrics.json"
    run = transfer_run(epochs=1, warmup_epochs=0).model_copy(update={"described": str(described)})
    for digest in ("a", "b"):
        described.write_text(json.dumps({"sha256": "of pixels", "files_sha256": digest}))
        transfer(run, tmp_path / "a")
    assert "belongs to another run (images: 'a' there, 'b' now)" in capsys.readouterr().err
    described.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{described}: not what the step data wrote")):
        transfer(run, tmp_path / "a")


def test_another_cell_under_the_same_path_starts_anew(transfer_run, tmp_path, capsys):
    run = transfer_run(epochs=1, warmup_epochs=0)
    transfer(run, tmp_path / "a")
    parse(NOISY).save(Path(run.genotype))
    transfer(run, tmp_path / "a")
    assert "belongs to another run" in capsys.readouterr().err
    assert str(parse(NOISY)) == load_network(tmp_path / "a" / "model.safetensors")[1].genotype


def test_diverged_training_ends_with_its_epoch_and_keeps_the_checkpoint(transfer_run, tmp_path, monkeypatch):
    run, train = transfer_run(), Trainer.train

    def diverge(self, batches, epoch, *more):
        if epoch == 1:
            self.network.head[2].weight.data.fill_(float("inf"))
        return train(self, batches, epoch, *more)

    monkeypatch.setattr(Trainer, "train", diverge)
    with pytest.raises(
        ValueError,
        match=r"loss is not finite at step 1 of epoch 2; the last checkpoint before it is kept, a smaller transfer.lr",
    ):
        transfer(run, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a_checkpoint/newest.pt").exists()
