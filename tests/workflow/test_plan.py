"""The paper-size plan, job by job, against the protocol: nothing runs, no data, GPU or network are needed."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
from places import ROOT

SEEDS = range(4)
ROBUST = ("s1", "s2", "s3", "s4")
EXPERIMENTS = [("nas_bench_201", "cifar10"), ("darts", "cifar10"), ("darts", "cifar100"), *product(ROBUST, ["cifar10"])]
EVALUATED = ("midas", "static", "random")
# the ablation's methods beside midas and static; where a node keeps all edges there are no pairs, and edge is the default
VARIANTS = {
    ("nas_bench_201", "cifar10"): (
        "no_patch",
        "ps4",
        "softmax_node",
        "frozen",
        "key_per_operation",
        "patch_mixing",
        "attached",
        "none_left_out",
    ),
    ("darts", "cifar10"): (
        *("no_patch", "ps4", "softmax_node", "softmax_edge"),
        *("frozen", "key_per_operation", "patch_mixing", "attached"),
    ),
}


def dry_run(tmp_path, *config):
    """What a dry run of config/paper.yaml prints."""
    places = [f"results_dir={tmp_path}/results", f"figures_dir={tmp_path}/figures"]
    call = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--nocolor", "--configfile", "config/paper.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "MIDAS_DATA"}
    done = subprocess.run(
        [*call, "--config", *places, *config], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def jobs(text, step):
    """(space, data set, method, seed) of each job of a step."""
    found = re.findall(rf"^Job \d+: {step}: (\w+) (?:on|from) (\w+) by (\w+), seed (\d+)$", text, re.MULTILINE)
    assert len(set(found)) == len(found)
    return {(space, dataset, method, int(seed)) for space, dataset, method, seed in found}


def protocol(methods_of):
    """What a step should be run on: methods of an experiment, each with four seeds."""
    return {(*e, method, seed) for e in EXPERIMENTS for method in methods_of(e) for seed in SEEDS}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return dry_run(tmp_path_factory.mktemp("plan"))


def test_every_space_data_set_method_and_seed_is_searched(text):
    expected = protocol(lambda e: ("midas", "static", *VARIANTS.get(e, ())))
    assert jobs(text, "search") == expected
    assert len(expected) == 120


def test_every_search_is_decoded_and_as_many_random_cells_drawn(text):
    assert jobs(text, "decode") == jobs(text, "search") | protocol(lambda e: ("random",))


def test_every_evaluated_cell_is_retrained_once_a_seed(text):
    expected = protocol(lambda e: EVALUATED)
    assert jobs(text, "retrain") == expected
    assert len(expected) == 84


def test_the_cifar10_cells_of_midas_and_static_are_transferred(text):
    assert jobs(text, "transfer") == {("darts", "cifar10", m, seed) for m in ("midas", "static") for seed in SEEDS}


def test_with_a_table_cells_of_nas_bench_201_are_looked_up_those_of_the_ablation_too(tmp_path, shared_data):
    text = dry_run(tmp_path, f"nas_bench_201_table={shared_data}/nas_bench_201/nas_bench_201.csv.gz")
    nas = EXPERIMENTS[0]
    looked_up = jobs(text, "look-up")
    assert looked_up == {(*nas, m, seed) for m in (*EVALUATED, *VARIANTS[nas]) for seed in SEEDS}
    assert jobs(text, "retrain") == {job for job in protocol(lambda e: EVALUATED) if job[0] != "nas_bench_201"}


def test_job_counts_by_rule(text):
    counts = Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)})
    steps = {"data": 3, "search": 120, "decode": 148, "retrain": 84, "transfer": 8, "cost": 2, "statistics": 1}
    present = {f"table_{n}": 1 for n in range(1, 7)} | {f"figure_{n:02d}": 1 for n in range(1, 13)}
    rest = {"claims": 1, "report": 1, "all": 1}
    expected = steps | present | rest
    assert counts == Counter(expected | {"total": sum(expected.values())})
