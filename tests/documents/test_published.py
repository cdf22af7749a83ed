"""The results that are shipped: small, free of images and of paths of a machine, and what is said of them is in them."""

import csv
import gzip
import json
import re
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawn_figures import drawn
from places import ROOT

from midas.analysis.claims.writing import write_claims
from midas.analysis.functions import make as write_functions
from midas.analysis.neighbourhoods.table import make as write_neighbourhoods
from midas.analysis.tables.making import make
from midas.decode import decode_dump
from midas.files.machine_paths import OF_A_MACHINE
from midas.functions.recovery import recoveries
from midas.plan.check import load
from midas.plan.further import listed
from midas.plan.runs import PresentRun
from midas.running.provenance import instructions, processor
from midas.spaces import get_space
from midas.spaces.genotype import load as load_genotype

PUBLISHED = ROOT / "results/published"
SIZES = re.findall(r"^\| \[(\w+)/\]", (PUBLISHED / "README.md").read_text(), re.MULTILINE)
"""Those that README.md names: others are a user's own."""
LARGEST = 30e6
NUMBER = r"[+\N{MINUS SIGN}-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-\d+)?"
BLOCK = re.compile(r"<!-- (results/published/\S+) -->\n(.*?)\n<!-- end -->", re.DOTALL)
TRACED = re.compile(rf'\[({NUMBER})\]\(([^)\s]+) "([^"]+)"\)')
"""A number in prose: ``[0.21](file "key key")``."""
FURTHER = {"S2": write_neighbourhoods, "S4": write_functions}
"""Tables beyond the paper's, and what makes them."""
OWN_SPLITS = {
    "first-5000.json": ((0, 2_500), (2_500, 5_000)),
    "first-10000.json": ((0, 5_000), (5_000, 10_000)),
    "untrained.json": ((0, 64), (5_000, 10_000)),
}
"""Index lists that the heads of configurations make, by first and last image of either half."""


@pytest.fixture
def at_root(monkeypatch):
    """Published configurations name folders relative to the repository."""
    monkeypatch.chdir(ROOT)


def plan_of(size):
    return load(yaml.safe_load((PUBLISHED / size / "config.yaml").read_text()))


def files_of(size):
    """What is shipped: less what `make figures` leaves beside it."""
    files = [path for path in (PUBLISHED / size).rglob("*") if path.is_file()]
    redrawn = ("report.html", "rulegraph.dot", "config.json", "report.log", "claims.log")
    logs = [path for path in files if path.suffix == ".log" and path.parent.name in ("tables", "figures")]
    return [p for p in files if p.name not in redrawn and not p.name.endswith(".run.json") and p not in logs]


def test_something_is_published():
    assert SIZES


@pytest.mark.parametrize("size", SIZES)
def test_it_is_small_and_holds_no_images_or_trained_weights(size):
    assert sum(path.stat().st_size for path in files_of(size)) < LARGEST
    for path in files_of(size):
        assert path.suffix in (".json", ".csv", ".npz", ".yaml", ".log", ".txt", ".md", ".tex"), path
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                assert not {"image", "maps", "x_train", "pixels"} & set(arrays.files), path


@pytest.mark.parametrize("size", SIZES)
def test_it_names_no_folder_of_a_machine(size):
    for path in files_of(size):
        if path.suffix != ".npz":
            assert not OF_A_MACHINE.search(path.read_text()), path


@pytest.mark.parametrize("size", SIZES)
def test_every_method_has_three_seeds_or_more(size, at_root):
    plan = plan_of(size)
    assert not plan.config.experiments or len(plan.config.seeds) >= 3
    assert not plan.config.functions or plan.config.functions.seeds >= 3
    for cell in plan.cells():
        assert (plan.cell_folder(cell) / "decode/genotype.json").exists()


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_those_of_the_dumps(size, at_root):
    plan = plan_of(size)
    for cell in plan.cells(searched=True):
        folder, space = plan.cell_folder(cell), get_space(cell.experiment.space)
        found = decode_dump(folder / "search/arch.npz", space, plan.config.methods[cell.method])
        assert found == load_genotype(folder / "decode/genotype.json"), folder


@pytest.mark.parametrize("size", SIZES)
def test_looked_up_accuracies_are_the_benchmarks_official_columns(size, at_root, shared_data):
    with gzip.open(shared_data / "nas_bench_201/nas_bench_201.csv.gz", "rt", newline="") as file:
        table = {row["arch"]: row for row in csv.DictReader(file)}
    plan, columns = plan_of(size), ("c10_valid_acc_200", "c10_test_acc_200", "c100_test_acc_200", "in16_test_acc_200")
    for cell in plan.cells(space="nas_bench_201", evaluated=True):
        looked_up = json.loads((plan.cell_folder(cell) / "lookup/metrics.json").read_text())["cell"]
        row = table[str(load_genotype(plan.cell_folder(cell) / "decode/genotype.json"))]
        assert [looked_up[name] for name in columns] == [float(row[name]) for name in columns]


@pytest.mark.parametrize("size", SIZES)
def test_tables_and_claims_are_what_the_raw_results_say(size, at_root, tmp_path):
    plan, folder = plan_of(size), PUBLISHED / size
    for number in plan.tables():
        make(PresentRun(number=number, config=plan.config), tmp_path)
        for form in ("csv", "md", "tex"):
            made, shipped = (f / f"table_{number}.{form}" for f in (tmp_path, folder / "tables"))
            assert made.read_text() == shipped.read_text(), shipped
    for number in listed.tables(plan):
        FURTHER[number](PresentRun(config=plan.config), tmp_path)
        for form in ("csv", "md", "tex"):
            made, shipped = (f / f"table_{number.lower()}.{form}" for f in (tmp_path, folder / "tables"))
            assert made.read_text() == shipped.read_text(), shipped
    write_claims(PresentRun(config=plan.config), tmp_path)
    assert (tmp_path / "claims.md").read_text() == (folder / "claims.md").read_text()


@pytest.mark.parametrize("number", [2, 12])
def test_a_figure_of_many_methods_stays_on_the_page_and_tells_them_apart(number, at_root):
    plan = plan_of("attention_cpu")
    figure = drawn(number, plan.config)
    assert all(np.array(figure.get_tightbbox().min) >= 0)
    assert all(np.array(figure.get_tightbbox().max) <= figure.get_size_inches())
    labels = [ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.get_xlabel()]
    assert not any(a.overlaps(b) for a, b in combinations(labels, 2))
    if number == 12:
        methods = list(plan.config.methods)
        panels = [title for ax in figure.axes if (title := ax.get_title("left"))]
        assert panels == [method for method in methods if not plan.is_unsearched(method)]
        assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == methods


def value_at(path, keys):
    """A number of a JSON file by its keys, or the mean in the row of a table's csv file that holds these words."""
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        for key in keys:
            value = value[int(key) if isinstance(value, list) else key]
        return float(value)
    *words, column = keys
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if set(words) <= set(row.values())]
    assert len(rows) == 1, f"{path.name}: {len(rows)} rows hold {words}"
    return float(rows[0][column])


SETTINGS = re.compile(
    r"\b(?:4|8|16) channels|\b1 cell a stage|\b[458] cells|\b(?:8|10|100|50) epochs|\(there: 100\)|seeds 0 to 2|"
    r"\b[13]\u00d7[13]\b|ImageNet16-120|"
    r"\b5,000 (?:training )?images|[Bb]atches of 32|natural logarithm of [57]|"
    r"learning rates? 0|10,000 (?:training )?images|15 epochs|25,000(?:/25,000| images)|bfloat16|\bps[48]\b|"
    r"\bno\. 9930|\b[CS]\d\b|CIFAR-100?|NAS-Bench-201|"
    r"(?:patches )?of side [48]|\b[Tt]able \d|\b[Ff]igure \d+|logit 0|Free of [68]|level 0\.05|1/sqrt\(d\)|"
    r"\bH200|torch 2\.11|issue 188344|float(?:32|64)|1 - cosine"
)
"""What is no result: settings of the runs and of the paper, names."""


def untraced(text, folder):
    """What is wrong with the numbers of a text: a block or number that its file doesn't hold, a number without a file."""
    for name, block in BLOCK.findall(text):
        if block.strip() not in (ROOT / name).read_text():
            yield f"not what {name} says: {block[:60]}"
    text = BLOCK.sub("", text)
    for shown, name, keys in TRACED.findall(text):
        plain = shown.replace("\N{MINUS SIGN}", "-").replace(",", "").removeprefix("+")
        scale = 100 if keys.endswith(" %") else 1
        found = scale * value_at(folder / name, keys.removesuffix(" %").split())
        mantissa, _, exponent = plain.partition("e")
        if f"{found:.{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}}" != plain:
            yield f"{shown}: {name} says {found} at {keys}"
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", TRACED.sub("", text), flags=re.DOTALL)
    for number in re.findall(r"\d[\d.,]*", SETTINGS.sub("", " ".join(text.split()))):
        yield f"{number.rstrip('.,')} has no file behind it"


def results_of_the_readme():
    text = (ROOT / "README.md").read_text()
    return re.search(r"^## Results\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)[1]


def test_every_number_of_the_findings_is_in_a_published_file():
    text = (ROOT / "docs/findings.md").read_text()
    assert len(TRACED.findall(text)) > 10
    assert list(untraced(text, ROOT / "docs")) == []


def test_every_number_of_the_readmes_results_is_in_a_published_file():
    text = results_of_the_readme()
    assert BLOCK.search(text)
    assert list(untraced(text, ROOT)) == []


def test_every_number_of_what_a_gpu_said_is_in_its_file():
    text = (ROOT / "benchmarks/README.md").read_text()
    text = re.search(r"^### What a GPU said first\n(.*?)^What a pass launches", text, re.DOTALL | re.MULTILINE)[1]
    assert len(TRACED.findall(text)) > 10
    assert list(untraced(text, ROOT / "benchmarks")) == []


def test_a_number_without_a_file_or_another_one_is_found(tmp_path):
    (tmp_path / "a.json").write_text('{"x": {"y": 0.126}}')
    (tmp_path / "t.csv").write_text("method,quantity,mean\nmidas,std,0.5\nstatic,std,0.25\n")
    good = 'It is [0.13](a.json "x y"), [12.6](a.json "x y %") % and [0.25](t.csv "static std mean") with 8 channels.'
    assert list(untraced(good, tmp_path)) == []
    wrong = list(untraced(good.replace("0.13", "0.12"), tmp_path))
    assert wrong == ["0.12: a.json says 0.126 at x y"]
    for text, number in (
        ("It is 0.13 better.", "0.13"),
        ("in 12min", "12"),
        ("_2.5x_ faster", "2.5"),
        ("3 of them", "3"),
    ):
        assert list(untraced(text, tmp_path)) == [f"{number} has no file behind it"]
    with pytest.raises(AssertionError, match="0 rows hold"):
        list(untraced('[0.25](t.csv "random std mean")', tmp_path))


@pytest.mark.parametrize("size", SIZES)
def test_a_published_search_runs_again_to_the_same_first_epoch(size, at_root, cifar10, shared_data, tmp_path):
    """Of the first seed of the first method; the whole search takes longer than a test may.

    Only on a processor of the kind that it ran on: elsewhere another rounding ends in accuracies of another seed.
    """
    plan = plan_of(size)
    first = next(plan.cells(searched=True), None)
    if first is None:
        pytest.skip("it has no searches on images; functions are looked at below")
    folder = plan.cell_folder(first)
    metrics = json.loads((folder / "search/metrics.json").read_text())
    if metrics["config"]["device"] != "cpu" or metrics["config"]["dataset"]["kind"] != "cifar10":
        pytest.skip("a search on a GPU, or on data that aren't here")
    cost = metrics["cost"]
    if cost["device"] != processor():
        pytest.skip(f"it ran on {cost['device']}, this is {processor()}")
    if cost.get("instructions") not in (None, instructions()):
        pytest.skip(f"it ran with {cost['instructions']}, this processor has {instructions()}")
    took = re.search(r" epoch 1/.* ([\d.]+) s(?:,.*)?$", (folder / "search.log").read_text(), re.MULTILINE)
    assert took
    if float(took[1]) > 180:
        pytest.skip(f"its first epoch took {took[1]} s")
    split = Path(metrics["config"]["dataset"]["split"]).name
    if split in OWN_SPLITS:
        train, valid = (list(range(*ends)) for ends in OWN_SPLITS[split])
        split = tmp_path / split
        split.write_text(json.dumps({"train": train, "valid": valid}))
    else:
        split = shared_data / "nas_bench_201/splits" / split
    metrics["config"]["dataset"] |= {"path": str(cifar10), "split": str(split)}
    (tmp_path / "run.json").write_text(json.dumps(metrics["config"]))
    command = [sys.executable, "-m", "midas.search", tmp_path / "run.json", tmp_path / "search"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None and "epoch 1/" not in (tmp_path / "log").read_text():
            time.sleep(1)
        process.kill()
        process.wait()

    def first_epoch(text):
        line = next((line for line in text.splitlines() if " epoch 1/" in line), None)
        assert line, text
        return [float(number) for number in re.findall(r"(?:loss|accuracy|entropy) ([\d.]+)", line)]

    again, before = (path.read_text() for path in (tmp_path / "log", folder / "search.log"))
    # equal by the code that it ran by, later code rounds otherwise; without instructions the processor may have been an older one
    assert first_epoch(again) == pytest.approx(first_epoch(before), rel=0.05 if "instructions" in cost else 0.1)


@pytest.mark.parametrize("size", SIZES)
def test_published_functions_are_found_again(size, at_root):
    """The first search of each method and target without noise."""
    plan = plan_of(size)
    if plan.config.functions is None:
        pytest.skip("it has none")
    asked = plan.config.functions.model_copy(update={"seeds": 1, "noise": [0.0]})
    with (plan.root / "functions/recovery.csv").open(newline="") as file:
        rows = {(r["target"], r["noise"], r["method"], r["seed"]): r for r in csv.DictReader(file)}
    again = list(recoveries(asked))
    assert len(again) == len(asked.targets) * len(asked.methods) >= 2
    for row in again:
        before = rows[row["target"], "0.0", row["method"], "0"]
        assert (before["operations"], int(before["found"])) == (row["operations"], row["found"])
        assert float(before["explained"]) == pytest.approx(row["explained"], abs=1e-3)
