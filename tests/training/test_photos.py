"""The images of a transfer: shuffled, augmented and numbered, each read or named."""

from pathlib import Path

import pytest
from PIL import Image
from transfers import COLOURS, keys, loader

from midas.images.listing import folder_files
from midas.transfer import transfer


def test_an_epoch_is_shuffled_and_augmented_anew_and_repeatable(transfer_run):
    epochs = [[y.tolist() for _, y in loader(transfer_run()).epoch(e)] for e in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert [len(batch) for batch in epochs[0]] == [12] * 4
    assert sorted(label for batch in epochs[0] for label in batch) == [0] * 16 + [1] * 16 + [2] * 16
    batches = loader(transfer_run())
    first, again, second = ({name for x, _ in batches.epoch(e) for name in keys(x)} for e in (0, 0, 1))
    assert len(first) == 48
    assert first == again
    assert not first & second


def test_classes_are_numbered_as_everywhere_else(transfer_run):
    photos = loader(transfer_run()).photos
    assert photos.classes == ["10", "9", "a"]
    for x, y in loader(transfer_run(), training=False).in_order():
        assert (x.mean((2, 3)).argmax(1) == y).all()  # red, green, blue


def test_images_are_not_mirrored_where_the_data_set_forbids_it(transfer_run, colours):
    def transforms(**keys):
        run = transfer_run(dataset=colours.model_copy(update=keys))
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
def test_an_unreadable_image_is_named_and_not_passed_over(workers, transfer_run, colours, tmp_path):
    own = copy_of(colours, tmp_path)
    path = tmp_path / "own/val/9/1.jpg"
    path.write_bytes(path.read_bytes()[:400])
    run = transfer_run(dataset=own, workers=workers, epochs=2)
    with pytest.raises(ValueError, match=rf"^{path}: not a readable image: .*") as caught:
        transfer(run, tmp_path / "a")
    assert "\n" not in str(caught.value)  # a worker's stack neither


def test_images_of_every_suffix_are_read(transfer_run, colours, tmp_path):
    own = copy_of(colours, tmp_path)
    for suffix in ("webp", "bmp", "PNG"):
        Image.new("L", (40, 40), 90).save(tmp_path / f"own/train/a/new.{suffix}")
    counted = sum(map(len, folder_files(tmp_path / "own/train").values()))
    assert len(loader(transfer_run(dataset=own)).photos) == counted == 15
