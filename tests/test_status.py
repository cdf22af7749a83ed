"""How far a workflow is: states of jobs by their files, hours left by what others took, what is said of failed ones."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml
from small_configuration import RAW

from midas.plan.check import load
from midas.running.limits import GOES_ON
from midas.status import jobs, seconds_left, status


@pytest.fixture
def plan(tmp_path):
    return load(RAW | {"results_dir": str(tmp_path / "results"), "analysis": None, "seeds": [0, 1, 2, 3]})


@pytest.fixture
def searches(plan):
    """The four searches of the first method that is searched."""
    found = [job for job in jobs(plan) if job.step == "search"]
    return [job for job in found if job.kind == found[0].kind]


def written(job, text="", seconds=None, owner=None):
    job.folder.mkdir(parents=True)
    job.log.write_text(text)
    if seconds is not None:
        (job.folder / "metrics.json").write_text(json.dumps({"cost": {"wall_seconds": seconds}}))
    if owner:
        lock = job.folder.with_name(f"{job.folder.name}_checkpoint") / "lock"
        lock.parent.mkdir()
        lock.write_text(owner)


def test_states_are_told_by_files(searches):
    done, failed, stopped, _ = searches
    written(done, seconds=100)
    written(failed, "--- 1\nsearch: SIGTERM ends\n--- 2\n10:00:00 search epoch 1/4  loss 1  9 s\nerror: no space\n")
    written(
        stopped,
        f"--- 1\nerror: once\n--- 2\nsearch: SIGTERM {GOES_ON}\n",
        owner="process 999999999 on " + socket.gethostname(),
    )
    assert [job.state() for job in searches] == ["done", "failed", "stopped", "left"]


def test_a_process_that_lives_is_at_work_and_one_elsewhere_while_its_log_grows(searches):
    here, other, elsewhere, silent = searches
    code = "import sys, time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "midas.search"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        written(here, owner=f"process {process.pid} on {socket.gethostname()}")
        assert here.state() == "running"
        process.kill()
    assert here.state() == "stopped"
    written(other, owner=f"process {os.getpid()} on {socket.gethostname()}")  # its number, of another program
    written(elsewhere, owner="process 7 on node7")
    written(silent, owner="process 7 on node7")
    os.utime(silent.log, (1, 1))
    assert [job.state() for job in (other, elsewhere, silent)] == ["stopped", "running", "stopped"]


def test_time_left_follows_from_what_others_took_and_from_epochs(plan, searches):
    first, second, stopped, _ = searches
    written(first, seconds=100)
    written(second, seconds=300)
    written(stopped, "10:00:00 search epoch 1/4  loss 1  9 s\n10:00:09 search epoch 2/4, step 3/5\n")
    found = [(job, job.state()) for job in jobs(plan) if job.kind == first.kind]
    assert seconds_left(found) == (200 * 0.75 + 200, 0)  # one of its four epochs is done, and a whole search
    others = [(job, "left") for job in jobs(plan) if job.step == "retrain"]
    assert seconds_left([*found, *others]) == (350, len(others))


def test_the_page_of_the_demo_is_named_when_all_is_done_and_a_failed_job_by_its_last_lines(plan, searches, tmp_path):
    written(searches[0], "--- 1\nTraceback\nerror: no space\n")
    said = list(status(plan))
    assert f"failed   {searches[0].log}" in said
    assert "    error: no space" in said
    for job in jobs(plan):
        job.folder.mkdir(parents=True, exist_ok=True)
        name = "genotype.json" if job.step == "decode" else "metrics.json"
        (job.folder / name).write_text(json.dumps({"cost": {"wall_seconds": 1}}))
    assert f"All of these are done. Tables, figures or {plan.root}/report.html are still to be made." in list(
        status(plan)
    )
    (plan.root / "report.html").touch()
    assert f"All of these are done. See file://{tmp_path}/results/{plan.config.size}/report.html" in list(status(plan))


def test_the_command_prints_it_and_refuses_a_wrong_configuration_in_one_line(plan, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(RAW | {"results_dir": str(tmp_path / "results")}))
    call = [sys.executable, "-m", "midas.status", str(path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "Left, one job after another" in done.stdout
    wrong = subprocess.run([*call, "seeds=[0, 0]"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "error: seeds: [0, 0] is not allowed; each seed once\n")


def test_a_step_that_claims_nothing_runs_while_its_log_grows(plan):
    job = next(job for job in jobs(plan) if job.step == "retrain")
    written(job, "measuring\n")
    assert job.state() == "running"
    os.utime(job.log, (1, 1))
    assert job.state() == "stopped"
    job.log.write_text("Traceback (most recent call last):\nKeyboardInterrupt\n")
    assert job.state() == "stopped"
    job.log.write_text("error: no\n")
    assert job.state() == "failed"
