"""What a call of the workflow says at its end: the page, failed jobs with their logs, and what only stopped."""

import pytest

from midas.running.endings import AGAIN, ended_early, finished
from midas.running.limits import GOES_ON

BLOCK = """
Error in rule {rule}:
    message: None
    jobid: 6
    input: results/data/metrics.json
    output: results/a/metrics.json, results/a/arch.npz
    log: {log} (check log file(s) for error details)
    shell:
        exec python -m midas.{rule} x
        (command exited with non-zero exit code)
"""


@pytest.fixture
def logs(tmp_path):
    """Logs of a search that failed and of one that was asked to stop at its second attempt."""
    failed, stopped = tmp_path / "a/search.log", tmp_path / "b/search.log"
    for path, last in ((failed, "error: out of memory"), (stopped, f"search: SIGTERM {GOES_ON}")):
        path.parent.mkdir()
        path.write_text(f"--- first\nsearch epoch 1/3\n--- second\n{last}\n")
    return failed, stopped


def text(*logs):
    return "Job stats:\n" + "".join(BLOCK.format(rule="search", log=log) for log in logs) + "Exiting.\n"


def test_failed_jobs_are_named_once_and_stopped_ones_apart(logs):
    failed, stopped = logs
    said = list(ended_early(text(failed, stopped, failed)))
    assert said[:2] == ["1 job(s) failed:", f"  search: {failed}"]
    assert said[-1] == f"1 job(s) stopped. {AGAIN}"


def test_a_stop_is_no_failure(logs):
    assert list(ended_early(text(logs[1]))) == [f"1 job(s) stopped. {AGAIN}"]
    assert list(ended_early("Job stats:\n")) == [f"This call stopped before all was made; nothing failed. {AGAIN}"]


def test_a_job_with_the_log_of_its_scheduler_too_and_one_without_any(logs, tmp_path):
    assert f"  search: {logs[0]}" in list(ended_early(text(f"{logs[0]}, {tmp_path}/slurm/7.log")))
    assert f"  search: {tmp_path}/none.log" in list(ended_early(text(tmp_path / "none.log")))


def test_the_page_is_named_where_it_is(tmp_path):
    page = tmp_path / "a b/report.html"
    assert list(finished(page)) == []
    page.parent.mkdir()
    page.touch()
    (line,) = finished(page)
    assert line.endswith(f"file://{tmp_path}/a%20b/report.html")


def test_an_interrupted_step_without_a_checkpoint_only_stopped_and_one_that_succeeded_later_did_not_fail(tmp_path):
    cost, again = tmp_path / "cost.log", tmp_path / "search.log"
    cost.write_text("Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n")
    again.write_text("error: once\n")
    (tmp_path / "search").mkdir()
    (tmp_path / "search/metrics.json").touch()
    assert list(ended_early(text(cost, again))) == [f"1 job(s) stopped. {AGAIN}"]
