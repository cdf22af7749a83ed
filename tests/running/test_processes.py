"""A transfer by several processes comes near that by one."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from places import ROOT
from safetensors.torch import load_file
from transfers import (
    ALONE,
    DARTS,
    DARTS_V2,
    ENVIRONMENT,
    SMALL,
    TEST_IMAGES,
    by_hand,
    history,
    kept,
    keys,
    loader,
    metrics,
)

from midas.config.settings import Transfer
from midas.networks.skeletons import build
from midas.plan.runs import TransferRun
from midas.running import processes
from midas.running.processes import Group, join
from midas.spaces.genotype import parse
from midas.training.transferring import Transferring as Trainer
from midas.transfer import transfer

SCRIPT = """
import hashlib, sys
from pathlib import Path
import torch
from midas.plan.runs import TransferRun
from midas.training.photos import PhotoLoader
from midas.running.step import main
from midas.training.transferring import Transferring as Trainer
from midas.transfer import transfer

keys = lambda x: [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in x]
whole_train, whole_test, whole_order = Trainer.train, Trainer.test, PhotoLoader.in_order
seen, tested = [], []

def train(self, batches, epoch, *more):
    batches = list(batches)
    seen.append([keys(x) for x, _ in batches])
    return whole_train(self, batches, epoch, *more)

def in_order(self):
    tested.append([])
    for x, y in whole_order(self):
        tested[-1].extend(keys(x))
        yield x, y

def test(self, batches):
    found = whole_test(self, batches)
    state = {"weights": self.network.state_dict(), "ema": self.ema.module.state_dict(), "seen": seen, "tested": tested}
    torch.save(state, f"{Path(sys.argv[2]).parent}/rank{self.group.rank}.pt")
    return found

Trainer.train, Trainer.test, PhotoLoader.in_order = train, test, in_order
main(TransferRun, transfer)
"""


@pytest.fixture(scope="module")
def two(colours, tmp_path_factory):
    """Folder of a run by two processes, with what each of them saw and had in the end; and the run."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    parse(DARTS).save(folder / "genotype.json")
    settings = Transfer(**SMALL | {"gpus": 2, "ema": 0.5, "drop_path": 0.2, "label_smoothing": 0.1})
    genotype = str(folder / "genotype.json")
    run = TransferRun(genotype=genotype, dataset=colours, seed=0, device="cpu", threads=1, transfer=settings)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / "script.py")]
    arguments = [run.model_dump_json(), str(folder / "out")]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *launch, *arguments], cwd=ROOT, env=environment, check=True, timeout=300)
    return folder, run


def test_two_processes_end_with_equal_weights(two):
    folder, _ = two
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for part in ("weights", "ema"):
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), name
    written = load_file(folder / "out/model.safetensors")
    assert all(torch.equal(tensor, first["ema"][name]) for name, tensor in written.items())


def test_two_processes_see_the_batches_of_one_and_test_each_image_once(two):
    folder, run = two
    ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = run.model_copy(update={"transfer": run.transfer.model_copy(update={"gpus": 1})})
    batches = loader(alone)
    for epoch in (0, 2):
        expected = [sorted(keys(x)) for x, _ in batches.epoch(epoch)]
        found = [sorted(a + b) for a, b in zip(*(rank["seen"][epoch] for rank in ranks), strict=True)]
        assert found == expected
    images = [name for x, _ in loader(alone, training=False).in_order() for name in keys(x)]
    assert len(set(images)) == TEST_IMAGES
    assert [len(rank["tested"][-1]) for rank in ranks] == [11, 10]
    assert sorted(ranks[0]["tested"][-1] + ranks[1]["tested"][-1]) == sorted(images)


def test_two_processes_report_what_their_weights_give_and_come_near_one_process(two, tmp_path):
    folder, run = two
    x, y = by_hand(run)
    with torch.no_grad():
        logits = kept(folder / "out", run)(x)
    found = metrics(folder / "out")
    assert found["test_top1"] == pytest.approx(100 * (logits.argmax(1) == y).double().mean().item(), abs=1e-3)
    assert found["test_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-4)
    transfer(run.model_copy(update={"transfer": run.transfer.model_copy(update={"gpus": 1})}), tmp_path / "one")
    for a, b in zip(history(folder / "out"), history(tmp_path / "one"), strict=True):
        assert a["lr"] == b["lr"]
        # near, not equal: each process draws its own drop-path and normalises with its own images (20 % apart in the last epoch)
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.3)


def test_a_cell_whose_noise_cuts_parameters_off_can_be_trained_by_several_processes(transfer_run):
    cell = DARTS_V2.replace("('sep_conv_3x3', 0)", "('noise', 0)").replace("('skip_connect', 0)", "('noise', 0)")
    network = build(parse(cell), 4, 3, 3, imagenet=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        trainer = Trainer(network, transfer_run().transfer, 0, 3, 4, Group(ALONE.device, 0, 2))
        for _ in range(2):
            trainer._step(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    finally:
        dist.destroy_process_group()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert any("preprocess" in name for name in without)


def test_as_many_processes_as_gpus_are_needed(transfer_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"gpus: 2 needs .* there are 1; start it by torchrun .* 2 -m midas.transfer"):
        transfer(transfer_run(gpus=2), tmp_path / "a")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="gpus: 1 needs as many processes, but there are 4"):
        join("cpu", 1)
    monkeypatch.setattr(processes, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="gpus: 4 is not allowed; this machine has 2"):
        join("cuda", 4)
