import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from midas.config.settings import Transfer
from midas.images.datasets import Dataset
from midas.images.listing import folder_files
from midas.networks.counting import count
from midas.networks.skeletons import build
from midas.plan.runs import TransferRun
from midas.running import processes
from midas.running.processes import Group, join
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse
from midas.training.photos import PhotoLoader
from midas.training.trainer import Training
from midas.training.transferring import Transferring as Trainer
from midas.transfer import _numbers, transfer

ROOT = Path(__file__).parents[1]
ALONE = Group(torch.device("cpu"))
OUTPUTS = ("history.csv", "model.safetensors", "metrics.json")
CELL = (
    "[('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('avg_pool_3x3', 0), "
    "('skip_connect', 1), ('skip_connect', 3), ('sep_conv_3x3', 2)]"
)
DARTS = f"Genotype(normal={CELL}, normal_concat=[2, 3, 4, 5], reduce={CELL}, reduce_concat=[2, 3, 4, 5])"
NOISY = DARTS.replace("skip_connect", "noise")
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)

SMALL = {
    "dataset": "colours",
    "methods": ["midas"],
    "image_size": 32,
    "channels": 4,
    "cells": 3,
    "epochs": 3,
    "batch_size": 12,
    "lr": 0.05,
    "warmup_epochs": 1,
    "label_smoothing": 0.0,
    "auxiliary": 0.0,
    "precision": "float32",
    "workers": 0,
}
ALL_OPTIONS = {"drop_path": 0.3, "label_smoothing": 0.1, "ema": 0.8, "mixup": 0.2, "cutmix": 1.0}
COLOURS = {"10": (150, 60, 60), "9": (60, 150, 60), "a": (60, 60, 150)}
"""Classes whose order by number would be another than by name."""

TEST_IMAGES = 21


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """JPEGs of several sizes, noise on three colours, which are the classes: 48 training and 21 test images."""
    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "colours"
    for part, number in (("train", 16), ("val", TEST_IMAGES // 3)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for image in range(number):
                shape = (*draw.integers(32, 48, 2), 3)
                pixels = draw.normal(colour, 60, shape).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.jpg", quality=90)
    return Dataset(name="colours", kind="folder", path=str(root), classes=3, image=(32, 32), flip=True, padding=0)


@pytest.fixture(scope="module")
def make_run(dataset, tmp_path_factory):
    """Makes a small run, with some keys changed."""

    def make(text=DARTS, seed=0, dataset=dataset, **settings):
        path = tmp_path_factory.mktemp("cell") / "genotype.json"
        parse(text).save(path)
        size = (settings.get("image_size", 32),) * 2
        return TransferRun(
            genotype=str(path),
            dataset=dataset.model_copy(update={"image": size}),
            seed=seed,
            device="cpu",
            threads=1,
            transfer=Transfer(**SMALL | settings),
        )

    return make


def files(folder, *names):
    return [(folder / name).read_bytes() for name in names]


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def keys(x):
    """A name for each of the images [B, 3, h, w], by its pixels."""
    return [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in x]


def loader(run, training=True, group=ALONE):
    return PhotoLoader(run.dataset, run.transfer, run.seed, group, training)


def make_trainer(run, updates=4):
    network = build(parse(DARTS), 4, 3, 3, run.transfer.auxiliary > 0, imagenet=True)
    return Trainer(network, run.transfer, 0, 3, updates, ALONE)


# --- repeatable, whatever happens


def test_same_seed_gives_the_same_files_and_another_seed_others(make_run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        transfer(make_run(seed=seed, epochs=2, **ALL_OPTIONS), tmp_path / name)
    a, b, c = (files(tmp_path / name, "history.csv", "model.safetensors") for name in "abc")
    assert a == b
    assert a[0] != c[0]
    assert a[1] != c[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [6, 8])
def test_killed_and_started_again_gives_the_same_files(steps, workers, make_run, tmp_path, monkeypatch):
    run = make_run(NOISY, workers=workers, **ALL_OPTIONS)
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


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_a_process_killed_in_an_epoch_and_started_again_gives_the_same_files(make_run, tmp_path):
    run = make_run(epochs=6, **ALL_OPTIONS)
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


def test_the_number_of_workers_changes_nothing(make_run, tmp_path):
    for workers in (0, 2):
        transfer(make_run(workers=workers, epochs=2), tmp_path / str(workers))
    assert files(tmp_path / "0", *OUTPUTS[:2]) == files(tmp_path / "2", *OUTPUTS[:2])


def test_killed_while_writing_its_outputs_it_writes_them_without_training_again(make_run, tmp_path, monkeypatch):
    run = make_run(epochs=2)
    transfer(run, tmp_path / "a")
    before = files(tmp_path / "a", *OUTPUTS[:2])
    for name in OUTPUTS:
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a_checkpoint/accepted").unlink()  # the last that it writes
    monkeypatch.delattr(Trainer, "train")
    transfer(run, tmp_path / "a")
    assert files(tmp_path / "a", *OUTPUTS[:2]) == before


def test_other_images_under_the_same_path_start_anew(make_run, tmp_path, capsys):
    described = tmp_path / "metrics.json"
    run = make_run(epochs=1, warmup_epochs=0).model_copy(update={"described": str(described)})
    for digest in ("a", "b"):
        described.write_text(json.dumps({"sha256": "of pixels", "files_sha256": digest}))
        transfer(run, tmp_path / "a")
    assert "belongs to another run (images: 'a' there, 'b' now)" in capsys.readouterr().err
    described.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{described}: not what the step data wrote")):
        transfer(run, tmp_path / "a")


def test_another_cell_under_the_same_path_starts_anew(make_run, tmp_path, capsys):
    run = make_run(epochs=1, warmup_epochs=0)
    transfer(run, tmp_path / "a")
    parse(NOISY).save(Path(run.genotype))
    transfer(run, tmp_path / "a")
    assert "belongs to another run" in capsys.readouterr().err
    assert parse(NOISY) == parse(safe_open(tmp_path / "a" / "model.safetensors", "pt").metadata()["genotype"])


def test_diverged_training_ends_with_its_epoch_and_keeps_the_checkpoint(make_run, tmp_path, monkeypatch):
    run, train = make_run(), Trainer.train

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


# --- what is written


def test_history_and_metrics_say_the_same(make_run, tmp_path):
    run = make_run(**ALL_OPTIONS)
    transfer(run, tmp_path / "a")
    rows, found = history(tmp_path / "a"), metrics(tmp_path / "a")
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "test_loss", "test_top1", "test_top5"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for name in ("test_top1", "test_top5", "test_loss", "train_loss"):
        assert found[name] == rows[-1][name]
    plain = build(parse(DARTS), 4, 3, 3, imagenet=True)
    assert (found["params"], found["multiply_adds"]) == count(plain, (32, 32))
    assert (found["train_images"], found["test_images"], found["epochs"]) == (48, TEST_IMAGES, 3)
    assert found["mobile_setting"] is True
    assert found["test_part"] == "val"
    assert found["config"] == run.model_dump(mode="json")
    assert {"provenance", "cost"} < found.keys()


def kept(folder, run):
    """The network that a run has written, ready to be tested."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        genotype = parse(file.metadata()["genotype"])
    assert genotype == load_genotype(Path(run.genotype))
    network = build(genotype, 4, 3, 3, run.transfer.auxiliary > 0, imagenet=True)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def by_hand(run):
    """The test images as the network must see them, and their classes: middle 7/8, resized, normalised as timm says."""
    images, labels = [], []
    for label, paths in enumerate(folder_files(Path(run.dataset.path) / "val").values()):
        for path in paths:
            with Image.open(path) as image:
                scale = 36 / min(image.size)
                size = [36 if side == min(image.size) else int(36 * side / min(image.size)) for side in image.size]
                assert scale > 0
                large = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            left, top = (round((side - 32) / 2) for side in large.size)
            pixels = np.asarray(large.crop((left, top, left + 32, top + 32))) / 255
            images.append((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
            labels.append(label)
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float(), torch.tensor(labels)


@pytest.mark.parametrize("options", [{}, ALL_OPTIONS])
def test_kept_weights_give_the_reported_numbers_on_images_read_by_other_means(options, make_run, tmp_path):
    run = make_run(**options)
    transfer(run, tmp_path / "a")
    x, y = by_hand(run)
    with torch.no_grad():
        logits = kept(tmp_path / "a", run)(x)
    found = metrics(tmp_path / "a")
    assert found["test_top1"] == pytest.approx(100 * (logits.argmax(1) == y).double().mean().item(), abs=1e-3)
    assert found["test_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-4)
    assert found["test_top5"] == 100  # of three classes


def test_top5_counts_the_five_largest_logits(make_run):
    trainer = make_trainer(make_run())
    logits = torch.randn(40, 9, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 9
    trainer.network.forward_auxiliary = lambda x: (logits[x[:, 0, 0, 0].long()], None)
    index = torch.arange(40.0).view(-1, 1, 1, 1)
    found = trainer.test([(index[:30], y[:30]), (index[30:], y[30:])])
    ranks = (logits > logits.gather(1, y[:, None])).sum(1)
    assert found["test_top1"] == pytest.approx(100 * (ranks < 1).double().mean().item())
    assert found["test_top5"] == pytest.approx(100 * (ranks < 5).double().mean().item())
    assert found["test_loss"] == pytest.approx(F.cross_entropy(logits, y).item())


@pytest.mark.parametrize(("channels", "mobile"), [(48, True), (52, False)])
def test_the_mobile_setting_is_checked(channels, mobile):
    with torch.device("meta"):
        network = build(parse(DARTS_V2), channels, 14, 1000, auxiliary=True, imagenet=True)
    row = {"test_top1": 1.0, "test_top5": 1.0, "test_loss": 1.0, "train_loss": 1.0}
    found = _numbers(network, [row], (224, 224), 1, 1)
    assert found["mobile_setting"] is mobile
    assert (found["multiply_adds"] < 600e6) is mobile
    if channels == 48:
        assert found["params"] == 4_718_752


# --- the protocol


def test_it_learns(make_run, tmp_path):
    transfer(make_run(epochs=10, crop_scale=0.5, color_jitter=0.0), tmp_path / "a")
    rows = history(tmp_path / "a")
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    assert rows[-1]["test_top1"] > 90


@pytest.mark.parametrize("warmup", [0, 2])
def test_learning_rate_warms_up_and_falls_to_zero_in_lines(warmup, make_run):
    trainer, rates = make_trainer(make_run(epochs=6, warmup_epochs=warmup)), []
    for epoch in range(6):
        batches = ((torch.zeros(0), torch.zeros(0)) for _ in range(4))
        trainer._step = lambda x, y: rates.append(trainer.optimizer.param_groups[0]["lr"]) or (torch.zeros(()),)
        assert trainer.train(batches, epoch)["lr"] == rates[-1]
    up, down = rates[: 4 * warmup], rates[4 * warmup :]
    assert len(rates) == 24
    assert down == pytest.approx([0.05 * (1 - t / len(down)) for t in range(len(down))])
    assert min(rates) > 0
    if warmup:
        assert np.diff(up) == pytest.approx(np.full(7, (0.05 - up[0]) / 8))
        assert up[0] == pytest.approx(0.05 / 8)


@pytest.mark.parametrize(
    "option",
    [
        {"label_smoothing": 0.2},
        {"ema": 0.9},
        {"clip": 0.1},
        {"weight_decay": 0.1},
        {"momentum": 0.0},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"drop_path": 0.5},
        {"crop_scale": 0.9},
        {"flip": False},
        {"color_jitter": 0.0},
        {"warmup_epochs": 0},
    ],
)
def test_option_changes_the_numbers(option, make_run, tmp_path, plain):
    transfer(make_run(epochs=2, **option), tmp_path / "changed")
    assert history(tmp_path / "changed")[-1]["test_loss"] != history(plain)[-1]["test_loss"]


@pytest.fixture(scope="module")
def plain(make_run, tmp_path_factory):
    """Folder of a run without options."""
    folder = tmp_path_factory.mktemp("plain") / "transfer"
    transfer(make_run(epochs=2), folder)
    return folder


def test_the_auxiliary_head_is_trained_at_224_pixels_and_neither_counted_nor_tested(make_run, tmp_path):
    # oneDNN 3.13 (torch 2.15) writes out of bounds where so few channels lie last in maps so large
    run = make_run(image_size=224, auxiliary=0.4, epochs=1, warmup_epochs=0, channels_last=False)
    transfer(run, tmp_path / "a")
    plain = build(parse(DARTS), 4, 3, 3, imagenet=True)
    assert metrics(tmp_path / "a")["params"] == sum(p.numel() for p in plain.parameters())
    before = make_trainer(run).network
    torch.manual_seed(0)
    after = kept(tmp_path / "a", run)
    assert not torch.equal(before.auxiliary[-1].weight, after.auxiliary[-1].weight)
    trainer = make_trainer(run)
    x, y = torch.randn(4, 3, 224, 224), torch.tensor([0, 1, 2, 0])
    logits, auxiliary = trainer.network.train().forward_auxiliary(x)
    both = F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)
    expected = torch.autograd.grad(both, list(trainer.network.parameters()))
    torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), run.transfer.clip)
    trainer.optimizer.step = lambda: None
    trainer._step(x, y)
    norm = torch.stack([g.norm() for g in expected]).norm()
    scale = min(1.0, run.transfer.clip / norm.item())
    for p, g in zip(trainer.network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g * scale, rtol=1e-3, atol=1e-5)


def test_every_parameter_is_decayed(make_run):
    trainer = make_trainer(make_run(weight_decay=0.25))
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.25]
    assert len(trainer.optimizer.param_groups[0]["params"]) == len(list(trainer.network.parameters()))


def test_bfloat16_and_memory_layout_stay_near(make_run, tmp_path, plain):
    a = history(plain)[0]
    for name, option, tolerance in (
        ("layout", {"channels_last": False}, 1e-3),
        ("precision", {"precision": "bfloat16"}, 0.1),
    ):
        transfer(make_run(epochs=2, **option), tmp_path / name)
        b = history(tmp_path / name)[0]
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=tolerance)
        assert (a["train_loss"] != b["train_loss"]) or name == "layout"


# --- images


def test_an_epoch_is_shuffled_and_augmented_anew_and_repeatable(make_run):
    epochs = [[y.tolist() for _, y in loader(make_run()).epoch(e)] for e in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert [len(batch) for batch in epochs[0]] == [12] * 4
    assert sorted(label for batch in epochs[0] for label in batch) == [0] * 16 + [1] * 16 + [2] * 16
    batches = loader(make_run())
    first, again, second = ({name for x, _ in batches.epoch(e) for name in keys(x)} for e in (0, 0, 1))
    assert len(first) == 48
    assert first == again
    assert not first & second


def test_classes_are_numbered_as_everywhere_else(make_run):
    photos = loader(make_run()).photos
    assert photos.classes == ["10", "9", "a"]
    for x, y in loader(make_run(), training=False).in_order():
        assert (x.mean((2, 3)).argmax(1) == y).all()  # red, green, blue


def test_images_are_not_mirrored_where_the_data_set_forbids_it(make_run, dataset):
    def transforms(**keys):
        run = make_run(dataset=dataset.model_copy(update=keys))
        return [type(transform).__name__ for transform in loader(run).photos.transform.transforms]

    assert "RandomHorizontalFlip" in transforms()
    assert "RandomHorizontalFlip" not in transforms(flip=False)


def copy_of(dataset, tmp_path):
    """The data set in a folder of its own, small enough to be changed."""
    for part in ("train", "val"):
        for name in COLOURS:
            (tmp_path / "own" / part / name).mkdir(parents=True)
            for file in sorted((Path(dataset.path) / part / name).iterdir())[:4]:
                (tmp_path / "own" / part / name / file.name).write_bytes(file.read_bytes())
    return dataset.model_copy(update={"path": str(tmp_path / "own")})


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_and_not_passed_over(workers, make_run, dataset, tmp_path):
    own = copy_of(dataset, tmp_path)
    path = tmp_path / "own/val/9/1.jpg"
    path.write_bytes(path.read_bytes()[:400])
    run = make_run(dataset=own, workers=workers, epochs=2)
    with pytest.raises(ValueError, match=rf"^{path}: not a readable image: .*") as caught:
        transfer(run, tmp_path / "a")
    assert "\n" not in str(caught.value)  # a worker's stack neither


def test_images_of_every_suffix_are_read(make_run, dataset, tmp_path):
    own = copy_of(dataset, tmp_path)
    for suffix in ("webp", "bmp", "PNG"):
        Image.new("L", (40, 40), 90).save(tmp_path / f"own/train/a/new.{suffix}")
    counted = sum(map(len, folder_files(tmp_path / "own/train").values()))
    assert len(loader(make_run(dataset=own)).photos) == counted == 15


# --- several processes

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
def two(dataset, tmp_path_factory):
    """Folder of a run by two processes, with what each of them saw and had in the end; and the run."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    parse(DARTS).save(folder / "genotype.json")
    settings = Transfer(**SMALL | {"gpus": 2, "ema": 0.5, "drop_path": 0.2, "label_smoothing": 0.1})
    genotype = str(folder / "genotype.json")
    run = TransferRun(genotype=genotype, dataset=dataset, seed=0, device="cpu", threads=1, transfer=settings)
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


def test_a_cell_whose_noise_cuts_parameters_off_can_be_trained_by_several_processes(make_run):
    cell = DARTS_V2.replace("('sep_conv_3x3', 0)", "('noise', 0)").replace("('skip_connect', 0)", "('noise', 0)")
    network = build(parse(cell), 4, 3, 3, imagenet=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        trainer = Trainer(network, make_run().transfer, 0, 3, 4, Group(ALONE.device, 0, 2))
        for _ in range(2):
            trainer._step(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    finally:
        dist.destroy_process_group()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert any("preprocess" in name for name in without)


def test_as_many_processes_as_gpus_are_needed(make_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"gpus: 2 needs .* there are 1; start it by torchrun .* 2 -m midas.transfer"):
        transfer(make_run(gpus=2), tmp_path / "a")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="gpus: 1 needs as many processes, but there are 4"):
        join("cpu", 1)
    monkeypatch.setattr(processes, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="gpus: 4 is not allowed; this machine has 2"):
        join("cuda", 4)


# --- wrong input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 49}, "batch_size: 49 is not allowed; colours has 48 images"),
        ({"batch_size": 9, "mixup": 0.2}, "batch_size: 9 is not allowed; mixup and cutmix need an even one"),
        ({"channels": 1}, "channels: 1 is not allowed"),
    ],
)
def test_wrong_settings_are_refused(settings, message, make_run, tmp_path):
    with pytest.raises(ValueError, match=message):
        transfer(make_run(**settings), tmp_path / "a")


def test_wrong_cells_and_folders_are_refused(make_run, dataset, tmp_path):
    with pytest.raises(ValueError, match="NAS-Bench-201 cell has no ImageNet network"):
        transfer(make_run("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), tmp_path / "a")
    with pytest.raises(ValueError, match="colours has 4 classes"):
        transfer(make_run(dataset=dataset.model_copy(update={"classes": 4})), tmp_path / "a")
    with pytest.raises(ValueError, match="nowhere: an image folder needs train/"):
        transfer(make_run(dataset=dataset.model_copy(update={"path": str(tmp_path / "nowhere")})), tmp_path / "a")
