"""Long steps killed, asked to leave, run out of time, disk or memory, started twice: nothing that was saved is lost."""

import ast
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from midas.images.digits import digit_halves
from midas.images.folders import write_photos
from midas.methods.decoding import random_genotype
from midas.plan.check import load as load_config
from midas.plan.runs import SearchRun
from midas.running import limits, step
from midas.running.checkpoint import Checkpoint, read
from midas.running.durable import FirstBad, lock
from midas.running.limits import RETRY, Limits
from midas.search import search
from midas.spaces import get_space
from midas.training.bilevel import Bilevel
from midas.transfer import AGREE_EVERY

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
NUMBERS_AND_OPTIONS = {"resources.runtime", "params.launch"}
"""Fields of shell commands that aren't quoted: a number, and what `launch` of common.smk makes of one."""
FILES = {
    "search": ("arch.npz", "example.npz", "history.csv"),
    "retrain": ("history.csv", "model.safetensors"),
    "transfer": ("history.csv", "model.safetensors"),
}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    """The run of a step of the demo, as JSON."""
    folder = tmp_path_factory.mktemp("demo")
    plan = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    random_genotype(get_space("darts"), 0).save(folder / "genotype.json")
    write_photos(folder / "photos", *digit_halves())

    def make(name):
        run = json.loads(plan.run(name, "darts", "digits", "midas", 0))
        if name != "search":
            run["genotype"] = str(folder / "genotype.json")
        if name == "transfer":
            run["dataset"]["path"], run["described"] = str(folder / "photos"), None
        return json.dumps(run)

    return make


def command(name, run, folder, *options):
    return [sys.executable, "-m", f"midas.{name}", run, str(folder), *options]


def finish(name, run, folder, *options):
    subprocess.run(command(name, run, folder, *options), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return {file: (folder / file).read_bytes() for file in FILES[name]}


# --- killed


@pytest.mark.parametrize("name", FILES)
def test_seven_kills_at_random_moments_change_no_byte(name, demo_run, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    print(f"{name}: moments drawn with seed {seed}")  # shown where the test fails
    run, folder = demo_run(name), tmp_path / "killed" / name
    start = time.monotonic()
    whole = finish(name, run, tmp_path / "whole" / name)
    taken, kills = time.monotonic() - start, 0
    while kills < 7:
        process = subprocess.Popen(
            command(name, run, folder, "--save-every", "0.01"), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
        try:
            assert process.wait(draw.uniform(0.1, 0.9) * taken) == 0
            assert {file: (folder / file).read_bytes() for file in FILES[name]} == whole
            shutil.rmtree(folder.parent)  # it was faster: once more from the beginning
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            kills += 1
    assert finish(name, run, folder) == whole


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


# --- asked to leave


@pytest.mark.parametrize(
    ("name", "number"),
    [("search", signal.SIGTERM), ("search", signal.SIGINT), ("retrain", signal.SIGUSR1), ("transfer", signal.SIGTERM)],
)
def test_a_signal_is_answered_by_a_checkpoint_and_the_code_for_a_retry(name, number, demo_run, tmp_path):
    run, folder = demo_run(name), tmp_path / name
    process = subprocess.Popen(
        command(name, run, folder, "--save-every", "0.01"), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    newest = tmp_path / f"{name}_checkpoint/newest.pt"
    while not newest.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == RETRY, said
    assert f"{name}: {signal.Signals(number).name} ends this attempt" in said
    assert "Traceback" not in said
    assert finish(name, run, folder) == finish(name, run, tmp_path / "whole" / name)


def test_its_time_budget_ends_an_attempt_and_the_next_goes_on(searched, search_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(limits._Asked, "limits", Limits.of(minutes=1e-9))
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            search(search_run(), tmp_path / "search")
        assert left.value.code == RETRY
        assert "search: its time budget" in capsys.readouterr().err
    monkeypatch.setattr(limits._Asked, "limits", Limits.of(minutes=60))
    search(search_run(), tmp_path / "search")
    assert "goes on at epoch 1, step 3" in capsys.readouterr().err
    for file in FILES["search"]:
        assert (tmp_path / "search" / file).read_bytes() == (searched / file).read_bytes()


def test_the_margin_of_a_time_budget():
    for minutes, margin in ((1, 12), (10, 120), (1440, 120)):
        limits = Limits.of(minutes)
        assert limits.margin == pytest.approx(margin)
        assert limits.end == pytest.approx(time.monotonic() + 60 * minutes, abs=1)


@pytest.mark.parametrize("options", [["--minutes", "0"], ["--minutes", "x"], ["--save-every", "-1"], ["--hours", "1"]])
def test_wrong_options_end_in_the_usage(options, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["midas.search", "{}", "folder", *options])
    with pytest.raises(SystemExit) as left:
        step.main(SearchRun, search, long=True)
    assert str(left.value.code).startswith("usage: ")


# --- two at once


def test_a_second_job_on_a_folder_refuses_and_names_the_first(demo_run, tmp_path):
    folder = tmp_path / "search"
    held = lock(tmp_path / "search_checkpoint")
    done = subprocess.run(command("search", demo_run("search"), folder), cwd=ROOT, capture_output=True, text=True)
    os.close(held)
    assert done.returncode == RETRY
    assert done.stderr.strip().endswith("is at work on it; only one job may be")
    assert f"process {os.getpid()} on " in done.stderr
    assert not folder.exists()


def test_the_lock_ends_with_its_process(tmp_path):
    code = "import os, pathlib, sys; from midas.running.durable import lock; "
    code += "lock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT).returncode == -9
    descriptor = lock(tmp_path)
    with (tmp_path / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


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


# --- out of disk, out of memory


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


# --- what may not be in the code

FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "pickle.load",
    "pickle.loads",
}


def test_nothing_runs_what_a_file_or_a_name_says():
    files = list((ROOT / "midas").rglob("*.py"))
    assert len(files) > 60
    loads = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "dill"} & set(names), file
            if isinstance(node, ast.Call):
                called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert called not in FORBIDDEN, (file, called)
                assert options.get("shell", "False") == "False", (file, node.lineno)
                assert options.get("allow_pickle", "False") == "False", (file, node.lineno)
                if called == "torch.load":
                    loads += 1
                    assert options.get("weights_only") == "True", (file, node.lineno)
    assert loads


def test_what_rules_hand_to_a_shell_is_quoted():
    found = 0
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for block in re.findall(r'shell:\s*((?:"[^"]*"\s*)+)', file.read_text()):
            fields = set(re.findall(r"\{([^}]*)\}", block))
            found += 1
            assert {f for f in fields if not f.endswith(":q")} <= NUMBERS_AND_OPTIONS, (file.name, block)
    rules = sum(file.read_text().count("shell:") for file in (ROOT / "workflow/rules").glob("*.smk"))
    assert found == rules > 10
