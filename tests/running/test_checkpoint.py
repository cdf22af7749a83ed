import hashlib
import io
import os
import pickle

import pytest
import torch

from midas.running.checkpoint import Checkpoint, read

IDENTITY = {"config": {"seed": 0, "search": {"lr": 0.025, "arch_betas": (0.5, 0.999)}}, "source_digest": "abc"}


def state(number):
    return {"weights": torch.full((1000,), float(number)), "history": [{"epoch": number, "lr": 0.1}], "seconds": 1.5}


def number_of(loaded):
    assert torch.equal(loaded["weights"], torch.full((1000,), float(loaded["history"][0]["epoch"])))
    return loaded["history"][0]["epoch"]


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "search_checkpoint", IDENTITY)


@pytest.fixture
def two(checkpoint):
    """After the second save."""
    checkpoint.save(state(1))
    checkpoint.save(state(2))
    return checkpoint


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit_of_a_tensor(path):
    content = bytearray(path.read_bytes())
    place = content.index(torch.full((500,), 2.0 if path.name == "newest.pt" else 1.0).numpy().tobytes())
    content[place + 1000] ^= 0x10
    path.write_bytes(content)


def replace_by_something_else(path):
    torch.save([1, 2, 3], path)


DAMAGES = [cut_short, empty, flip_a_bit_of_a_tensor, replace_by_something_else]


def test_nothing_to_continue(checkpoint, capsys):
    assert checkpoint.load() is None
    assert capsys.readouterr().err == ""


def test_round_trip(checkpoint):
    saved = {**state(3), "nested": {"a": [1.25, None, "text"], "t": torch.arange(4, dtype=torch.int64)}}
    checkpoint.save(saved)
    loaded = checkpoint.load()
    tensor = loaded["nested"].pop("t")
    assert torch.equal(tensor, saved["nested"].pop("t"))
    assert tensor.dtype == torch.int64
    assert torch.equal(loaded.pop("weights"), saved.pop("weights"))
    assert loaded == saved


def test_a_new_process_finds_the_newest(two):
    assert number_of(Checkpoint(two.folder, IDENTITY).load()) == 2
    assert sorted(path.name for path in two.folder.iterdir()) == ["newest.pt", "previous.pt"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_gives_the_previous_with_a_warning(two, damage, capsys):
    damage(two.newest)
    assert number_of(two.load()) == 1
    message = capsys.readouterr().err
    assert str(two.newest) in message
    assert "damaged" in message
    assert str(two.previous) not in message


@pytest.mark.parametrize("damage", DAMAGES)
def test_both_damaged_gives_nothing(two, damage, capsys):
    damage(two.newest)
    damage(two.previous)
    assert two.load() is None
    message = capsys.readouterr().err
    assert str(two.newest) in message
    assert str(two.previous) in message


def test_saving_goes_on_after_damage(two):
    cut_short(two.newest)
    two.save(state(3))
    assert number_of(two.load()) == 3


def test_a_damaged_file_does_not_push_the_good_one_out(two):
    cut_short(two.newest)
    assert number_of(two.load()) == 1
    two.save(state(3))
    cut_short(two.newest)
    assert number_of(two.load()) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_a_damaged_file_is_an_error(two, damage):
    damage(two.newest)
    with pytest.raises(ValueError, match=r"newest\.pt is damaged"):
        read(two.newest)


def test_another_identity_is_set_aside_and_kept(two, capsys):
    other = {"config": {"seed": 7, "search": {"lr": 0.025, "arch_betas": (0.5, 0.9)}}, "source_digest": "abc"}
    assert Checkpoint(two.folder, other).load() is None
    message = capsys.readouterr().err
    aside = two.folder.with_name("search_checkpoint_aside1")
    assert "config.seed: 0 there, 7 now" in message
    assert "config.search.arch_betas: [0.5, 0.999] there, [0.5, 0.9] now" in message
    assert "lr" not in message
    assert "source_digest" not in message
    assert str(aside) in message
    assert not list(two.folder.iterdir())
    assert number_of(Checkpoint(aside, IDENTITY).load()) == 2


def test_a_key_that_came_or_went_is_a_difference(two, capsys):
    assert Checkpoint(two.folder, IDENTITY | {"genotype": "x"}).load() is None
    assert "genotype: None there, 'x' now" in capsys.readouterr().err


def test_several_set_aside_are_all_kept(checkpoint):
    for number in (1, 2, 3):
        other = Checkpoint(checkpoint.folder, {"source_digest": number})
        assert other.load() is None
        other.save(state(number))
    for number in (1, 2):
        aside = checkpoint.folder.with_name(f"search_checkpoint_aside{number}")
        assert number_of(Checkpoint(aside, {"source_digest": number}).load()) == number


def test_another_identity_never_leads_to_an_older_checkpoint(two):
    """Newest of another run, previous of this one: nothing is continued."""
    Checkpoint(two.folder, {"source_digest": "new"}).save(state(3))
    assert two.load() is None


class KilledError(Exception):
    pass


def killed(*_, **__):
    raise KilledError


@pytest.mark.parametrize(("owner", "name"), [(torch, "save"), (os, "fsync"), (os, "replace")])
def test_an_interrupted_write_leaves_the_old_one(two, monkeypatch, owner, name):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KilledError):
            two.save(state(3))
    assert number_of(two.load()) == 2
    two.save(state(4))
    assert number_of(two.load()) == 4


def test_killed_between_the_two_renames_leaves_the_old_one(two, monkeypatch, capsys):
    replace = os.replace

    def first_alone(source, target):
        if target == two.newest:
            raise KilledError
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", first_alone)
        with pytest.raises(KilledError):
            two.save(state(3))
    assert number_of(two.load()) == 2
    assert capsys.readouterr().err == ""


def test_a_checkpoint_is_never_unpickled_freely(checkpoint, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    content = io.BytesIO()
    torch.save({"identity": checkpoint.identity, "state": Evil()}, content)
    checkpoint.folder.mkdir()
    checkpoint.newest.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load()
    assert not (tmp_path / "evil").exists()
