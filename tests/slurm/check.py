"""Runs one cell of the demo through workflow/profiles/slurm on the Slurm of tests/slurm/run.sh, and says what held.

A search is preempted, requeued and cancelled; a second call of Snakemake goes on with it, in four jobs: the first three are ended
by the signal before the limit, by the step's own time budget and by the limit itself. What ran when is read from Slurm's records,
what was computed from the logs.
"""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

STATE = Path(sys.argv[1])
CONFIG = "tests/slurm/config.yaml"
RUN = STATE / "results/slurm/nas_bench_201/digits/midas/seed0"
EPOCHS = yaml.safe_load(Path(CONFIG).read_text())["experiments"][0]["search"]["epochs"]
RESUMED = re.compile(r"^search: goes on at epoch (\d+), step \d+", re.MULTILINE)

QUICK = {
    "slurm-status-command": "squeue",  # no accounting here
    "slurm-init-seconds-before-status-checks": 5,
    "slurm-logdir": str(STATE / "slurm_logs"),
    "latency-wait": 5,
}
# How the attempts of the second call end: 1 by the profile's signal, which comes two or three minutes before the limit; 2 by
# the step's own budget; 3 by the limit, which is lowered once it runs; 4 when it is done.
SEARCH = {
    "runtime": "[4, 3, 30, 30][attempt - 1]",
    "slurm_extra": "'--signal=TERM@120' if attempt == 1 else ''",
    "gres": "gpu:1",
}

Job = dict[str, str]
failed: list[str] = []


def claim(held: bool, text: str) -> None:
    """Print a claim and whether it held."""
    print(f"{'PASS' if held else 'FAIL'}  {text}", flush=True)
    if not held:
        failed.append(text)


def jobs(rule: str) -> list[Job]:
    """Slurm's records of a rule's jobs, oldest first."""
    lines = subprocess.check_output(["scontrol", "--oneliner", "show", "job"], text=True).splitlines()
    records = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    return [record for record in records if record.get("Comment", "").startswith(f"rule_{rule}_")]


def seconds(job: Job) -> int:
    """How long a job ran."""
    hours, minutes, rest = job["RunTime"].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(rest)


def epochs(log: str) -> list[int]:
    """The epochs that a search's log says were finished."""
    return [int(number) for number in re.findall(r"^\S+ search epoch (\d+)/\d+  ", log, re.MULTILINE)]


def attempts() -> list[str]:
    """What each attempt at the search has printed, by the headings in its log."""
    log = RUN / "search.log"
    return re.split(r"^--- .*\n", log.read_text(), flags=re.MULTILINE)[1:] if log.exists() else []


class Snakemake:
    """A call of Snakemake with the profile, and what it printed."""

    def __init__(self, name: str, target: Path, **changes: object):
        profile = yaml.safe_load(Path("workflow/profiles/slurm/config.yaml").read_text())
        profile["set-resources"]["search"] |= SEARCH
        folder = STATE / name
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(profile | QUICK | changes))
        self.log = folder / "snakemake.log"
        places = [f"results_dir={STATE}/results", f"figures_dir={STATE}/figures"]
        call = [
            "snakemake",
            "--nocolor",
            "--workflow-profile",
            str(folder),
            "--configfile",
            CONFIG,
            "--config",
            *places,
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*call, "--", str(target)], stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Snakemake:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # cancels its jobs; SIGTERM would wait for them
            self.process.wait(60)

    def wait(self, minutes: float, until: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for the end of the call (its exit code) or for something before it (None)."""
        end = time.monotonic() + 60 * minutes
        while not until():
            if self.process.poll() is not None:
                return self.process.returncode
            if time.monotonic() > end:
                print(self.log.read_text()[-5000:])
                sys.exit(f"FAIL  nothing happened for {minutes} minutes")
            time.sleep(1)
        return None


def computing(count: int, restarts: int = 0) -> Callable[[], bool]:
    """Whether the newest search runs and has finished an epoch, is the count-th one and was requeued so often."""

    def reached() -> bool:
        found = jobs("search")
        if len(found) != count or found[-1]["JobState"] != "RUNNING" or found[-1]["Restarts"] != str(restarts):
            return False
        said = attempts()
        return len(said) == count + restarts and bool(epochs(said[-1]))

    return reached


def preempt(call: Snakemake) -> None:
    """Let a job of more priority take the node until the only search has begun anew."""
    urgent = ["--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2"]
    subprocess.run(["sbatch", "--quiet", *urgent], check=True)
    call.wait(2, lambda: jobs("search")[0]["JobState"] == "PENDING")
    (search,) = jobs("search")
    log = (RUN / "search.log").read_text()
    asked = "search: SIGTERM ends this attempt" in log and "newest.pt" in {path.name for path in RUN.glob("search*/*")}
    claim(asked, f"job {search['JobId']} was preempted: the search got SIGTERM, and saved")
    # Slurm itself would wait two minutes; it refuses while the job's old processes are ending
    at_once = ["scontrol", "update", f"JobId={search['JobId']}", "StartTime=now"]
    call.wait(1, lambda: subprocess.run(at_once, capture_output=True).returncode == 0)
    call.wait(2, computing(1, restarts=1))
    said = call.log.read_text()
    same = (
        len(jobs("search")) == 1 and said.count(f"SLURM jobid {search['JobId']}") == 1 and "Error in rule" not in said
    )
    claim(same, "Slurm requeued it as the same job, and Snakemake waited for it without a retry")


def preempt_and_cancel_a_search() -> None:
    """First call: the search is preempted and, begun anew, cancelled."""
    with Snakemake("first", RUN / "search/metrics.json", retries=0) as first:
        first.wait(5, computing(1))
        preempt(first)
        subprocess.run(["scancel", jobs("search")[0]["JobId"]], check=True)
        code = first.wait(5)
    (data,), (search,) = jobs("data"), jobs("search")
    claim(data["JobState"] == "COMPLETED", f"data ran as Slurm job {data['JobId']}")
    claim(search["JobState"] == "CANCELLED", f"search ran as Slurm job {search['JobId']}, was cancelled by scancel")
    reported = f"SLURM-job '{search['JobId']}' failed, SLURM status is: 'CANCELLED'" in first.log.read_text()
    claim(code == 1 and reported, "Snakemake (retries: 0) names that job, and ends with exit code 1")
    left = sorted(path.name for path in RUN.glob("search*/*"))
    claim("newest.pt" in left and not (RUN / "search/metrics.json").exists(), "it left a checkpoint and no output")


def go_on() -> None:
    """Second call, with the retries of the profile."""
    with Snakemake("second", RUN / "retrain/metrics.json") as second:
        if second.wait(20, computing(4)) is None:  # the cancelled one, and the third attempt of this call
            lowered = jobs("search")[3]
            subprocess.run(["scontrol", "update", f"JobId={lowered['JobId']}", "TimeLimit=1"], check=True)
        code = second.wait(20)
    found = jobs("search")[1:]
    numbers = ", ".join(job["JobId"] for job in found)
    claim(code == 0, "called again, Snakemake finishes: exit code 0")
    claim(
        len(found) == 4,
        f"the search went on in 4 jobs, each retry a new one (fewer: more epochs are needed): {numbers}",
    )
    if failed:
        print(second.log.read_text()[-5000:])
        return
    ends(*found)
    claim(all(job.get("TresPerNode") == "gres:gpu:1" for job in found), "each asked for the GPU of the profile's gres")
    logs = attempts()
    claim(len(logs) == 6, f"search.log has all six attempts, each with its heading: {len(logs)}")
    nothing_twice(logs)
    states = [job["JobState"] for job in jobs("retrain")]
    claim(states == ["COMPLETED"], "retrain ran as a Slurm job")
    alone = (RUN / "decode/genotype.json").exists() and not jobs("decode")
    claim(alone, "decode, a matter of a second, ran without one")


def ends(by_signal: Job, by_budget: Job, by_limit: Job, last: Job) -> None:
    """How the jobs of the second call ended."""
    for job, limit, most, how in (
        (by_signal, "00:04:00", 125, "at the signal, two minutes before its limit of 4 minutes or sooner"),
        (
            by_budget,
            "00:03:00",
            180,
            "by its own budget (--minutes 3), before its limit of 3 minutes, without a signal",
        ),
    ):
        left = job["JobState"] == "FAILED" and job["TimeLimit"] == limit and exit_code(job) == "75"
        text = f"job {job['JobId']} left with exit code 75 {how}: {exit_code(job)} after {seconds(job)} s"
        claim(left and seconds(job) <= most, text)
    hit = by_limit["JobState"] == "TIMEOUT" and by_limit["TimeLimit"] == "00:01:00"
    claim(hit, f"job {by_limit['JobId']} was ended by Slurm at its limit, lowered to 1 minute: {by_limit['JobState']}")
    claim(last["JobState"] == "COMPLETED", f"job {last['JobId']} finished the search: {last['JobState']}")


def exit_code(job: Job) -> str | None:
    """Exit code of the step, as Snakemake says it in Slurm's log of the job: Slurm's own is Snakemake's."""
    (log,) = (STATE / "slurm_logs").rglob(f"{job['JobId']}.log")
    found = re.search(r"returned non-zero exit status (\d+)", log.read_text())
    return found[1] if found else None


def nothing_twice(logs: list[str]) -> None:
    """Each attempt goes on where the one before it stopped."""
    parts = [epochs(log) for log in logs]
    spans = [f"{part[0]} to {part[-1]}" if part else "none" for part in parts]
    claim(all(parts), f"each attempt finished epochs: {', '.join(spans)}")
    in_turn = [epoch for part in parts for epoch in part] == list(range(1, EPOCHS + 1))
    claim(in_turn, f"no epoch was computed twice or left out: 1 to {EPOCHS} in turn")
    said = [match for log in logs[1:] if (match := RESUMED.search(log))]
    goes_on = [int(match[1]) for match in said] == [part[-1] + 1 for part in parts[:-1] if part]
    claim(
        goes_on and len(said) == len(logs) - 1,
        f"each says so, the first apart: {'; '.join(match[0] for match in said)}",
    )
    claim(not RESUMED.search(logs[0]), "and the first, which began, doesn't")
    with (RUN / "search/history.csv").open(newline="") as file:
        rows = [int(row["epoch"]) for row in csv.DictReader(file)]
    claim(rows == list(range(1, EPOCHS + 1)), f"history.csv has each of the {EPOCHS} epochs once")


def main() -> None:
    """Run both calls, print Slurm's records and the verdict."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what bash starts in the background
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    preempt_and_cancel_a_search()
    go_on()
    print("\nSlurm's records (scontrol show job):")
    for rule in ("data", "search", "retrain"):
        for job in jobs(rule):
            shown = "  ".join(f"{key}={job[key]}" for key in ("JobId", "JobState", "TimeLimit", "RunTime", "ExitCode"))
            print(f"  {rule:8}{shown}")
    print(f"\n{len(failed)} of the claims FAILED" if failed else "\nall claims PASS")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
