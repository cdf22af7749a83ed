"""The step transfer: what it writes, its protocol, and wrong input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transfers import ALL_OPTIONS, DARTS, DARTS_V2, TEST_IMAGES, by_hand, history, kept, make_trainer, metrics

from midas.networks.counting import count
from midas.networks.skeletons import build
from midas.spaces.genotype import parse
from midas.transfer import _numbers, transfer


def test_history_and_metrics_say_the_same(transfer_run, tmp_path):
    run = transfer_run(**ALL_OPTIONS)
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


@pytest.mark.parametrize("options", [{}, ALL_OPTIONS])
def test_kept_weights_give_the_reported_numbers_on_images_read_by_other_means(options, transfer_run, tmp_path):
    run = transfer_run(**options)
    transfer(run, tmp_path / "a")
    x, y = by_hand(run)
    with torch.no_grad():
        logits = kept(tmp_path / "a", run)(x)
    found = metrics(tmp_path / "a")
    assert found["test_top1"] == pytest.approx(100 * (logits.argmax(1) == y).double().mean().item(), abs=1e-3)
    assert found["test_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-4)
    assert found["test_top5"] == 100  # of three classes


def test_top5_counts_the_five_largest_logits(transfer_run):
    trainer = make_trainer(transfer_run())
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


def test_it_learns(transfer_run, tmp_path):
    transfer(transfer_run(epochs=10, crop_scale=0.5, color_jitter=0.0), tmp_path / "a")
    rows = history(tmp_path / "a")
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    assert rows[-1]["test_top1"] > 90


@pytest.mark.parametrize("warmup", [0, 2])
def test_learning_rate_warms_up_and_falls_to_zero_in_lines(warmup, transfer_run):
    trainer, rates = make_trainer(transfer_run(epochs=6, warmup_epochs=warmup)), []
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
def test_option_changes_the_numbers(option, transfer_run, tmp_path, plain):
    transfer(transfer_run(epochs=2, **option), tmp_path / "changed")
    assert history(tmp_path / "changed")[-1]["test_loss"] != history(plain)[-1]["test_loss"]


@pytest.fixture(scope="module")
def plain(transfer_run, tmp_path_factory):
    """Folder of a run without options."""
    folder = tmp_path_factory.mktemp("plain") / "transfer"
    transfer(transfer_run(epochs=2), folder)
    return folder


def test_the_auxiliary_head_is_trained_at_224_pixels_and_neither_counted_nor_tested(transfer_run, tmp_path):
    # oneDNN 3.13 (torch 2.15) writes out of bounds where so few channels lie last in maps so large
    run = transfer_run(image_size=224, auxiliary=0.4, epochs=1, warmup_epochs=0, channels_last=False)
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


def test_every_parameter_is_decayed(transfer_run):
    trainer = make_trainer(transfer_run(weight_decay=0.25))
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.25]
    assert len(trainer.optimizer.param_groups[0]["params"]) == len(list(trainer.network.parameters()))


def test_bfloat16_and_memory_layout_stay_near(transfer_run, tmp_path, plain):
    a = history(plain)[0]
    for name, option, tolerance in (
        ("layout", {"channels_last": False}, 1e-3),
        ("precision", {"precision": "bfloat16"}, 0.1),
    ):
        transfer(transfer_run(epochs=2, **option), tmp_path / name)
        b = history(tmp_path / name)[0]
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=tolerance)
        assert (a["train_loss"] != b["train_loss"]) or name == "layout"


# --- wrong input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 49}, "batch_size: 49 is not allowed; colours has 48 images"),
        ({"batch_size": 9, "mixup": 0.2}, "batch_size: 9 is not allowed; mixup and cutmix need an even one"),
        ({"channels": 1}, "channels: 1 is not allowed"),
    ],
)
def test_wrong_settings_are_refused(settings, message, transfer_run, tmp_path):
    with pytest.raises(ValueError, match=message):
        transfer(transfer_run(**settings), tmp_path / "a")


def test_wrong_cells_and_folders_are_refused(transfer_run, colours, tmp_path):
    with pytest.raises(ValueError, match="NAS-Bench-201 cell has no ImageNet network"):
        transfer(transfer_run("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), tmp_path / "a")
    with pytest.raises(ValueError, match="colours has 4 classes"):
        transfer(transfer_run(dataset=colours.model_copy(update={"classes": 4})), tmp_path / "a")
    with pytest.raises(ValueError, match="nowhere: an image folder needs train/"):
        transfer(transfer_run(dataset=colours.model_copy(update={"path": str(tmp_path / "nowhere")})), tmp_path / "a")
