"""Wrong input of the command for a slice of a GPU's time is one line, before anything starts."""

import fcntl

import pytest
from leased import run

from benchmarks.lease.options import has_gpu


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "0.5"], "error: --minutes 0.5 is not allowed; a number of at least 1"),
        (["--device", "cuda"], "error: --device cuda is not allowed: no GPU is found here; allowed: cpu"),
        (["--out", "."], "error: --out . is not allowed: it holds the repository; a folder of its own"),
        (["--data", "nowhere"], "error: --data: 'nowhere' is not an existing folder"),
        (
            ["--data", "tests"],
            "error: --data: data folder 'tests' has no cifar-10-batches-py/data_batch_1, which cifar10 needs",
        ),
        (["--table", "nowhere"], "error: --table: nowhere: not a readable table"),
        (["--split", "README.md"], "error: --split: README.md: not a JSON file with the index lists train and valid"),
        (["--resume", "nowhere"], "error: --resume nowhere is not an existing folder"),
        (["--config", "nowhere.yaml"], "error: --config nowhere.yaml: can't be read"),
        (
            ["--config", "config/test.yaml"],
            "error: --config config/test.yaml is not allowed: one experiment, of nas_bench_201 on cifar10",
        ),
        (["--at-once", "0"], "error: --at-once 0 is not allowed; a number of at least 1"),
        (["--only", "search", "seek"], "argument --only: invalid choice: 'seek'"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(tmp_path, more, message):
    if "cuda" in more and has_gpu():
        pytest.skip("there is a GPU")
    done = run(tmp_path / "out", *more)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_command_works_in_is_refused(tmp_path):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: --out {tmp_path}: another command is at work on it\n"


def test_a_file_in_the_folders_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file")
    assert (done.returncode, done.stderr) == (2, f"error: --out {tmp_path / 'file'}: File exists\n")


def test_a_folder_without_a_slice_cannot_be_resumed(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "out", "--resume", str(tmp_path / "empty"))
    assert done.returncode == 2
    assert "holds no slice; needed: slice.json, or slice.tar.gz.0" in done.stderr
