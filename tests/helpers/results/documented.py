"""What the documents say of outputs, and what the environments pin."""

import csv
import json
import re

import numpy as np
import yaml
from places import ROOT

OUTPUTS = dict(
    re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/output.md").read_text(), re.DOTALL | re.MULTILINE)
)
"""Folder, as the headings of docs/output.md name it -> what is said of it."""
OF_A_CELL = "{space}/{dataset}/{method}/seed{n}/"


ENVIRONMENTS = [ROOT / "environment.yml", *sorted((ROOT / "workflow/envs").glob("*.yaml"))]


def pip_pins(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    pins = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return dict(pin.split("==") for pin in pins)


def undocumented(results, figures):
    """What docs/output.md doesn't name of a finished run: files, csv columns, keys of JSON files, arrays.

    Args:
        results: folder of the results of one size.
        figures: folder of its figures.
    """
    found = []
    for root, path in [(r, p) for r in (results, figures) for p in sorted(r.rglob("*")) if p.is_file()]:
        folder = _heading(path.parent.relative_to(root).as_posix(), root == figures)
        if folder is None or path.suffix == ".log" or path.name == "log.txt" or path.name.endswith(".run.json"):
            continue
        name = re.sub(r"(?<=table_)\d|(?<=figure_)\d\d", "{number}", path.name)
        found += [f"{folder}{n}" for n in (name, *_inner_names(path)) if f"`{n}`" not in OUTPUTS.get(folder, "")]
    return sorted(set(found))


def _heading(folder, of_figures):
    """A folder as the headings name it; None for what is described elsewhere: checkpoints, embedded images."""
    if re.search(r"_checkpoint|/images/", f"{folder}/"):
        return None
    if folder == ".":
        return "figures/{size}/" if of_figures else "results/{size}/"
    for pattern, heading in (
        (r"data/\w+", "data/{dataset}/"),
        (r"proxies/chunk\d+", "proxies/chunk{chunk}/"),
        (r"proxies/accuracies", "proxies/accuracies/"),
        (r"proxies", None),  # logs
        (r"\w+/\w+/cost", "{space}/{dataset}/cost/"),
        (r"\w+/\w+/\w+/seed\d+/retrain_also/\w+", OF_A_CELL + "retrain_also/{setting}/"),
        (r"\w+/\w+/\w+/seed\d+/(\w+)", OF_A_CELL + r"\1/"),
        (r"\w+/\w+/\w+/seed\d+|\w+/\w+", None),  # their files are logs
    ):
        match = re.fullmatch(pattern, folder)
        if match:
            return heading and match.expand(heading)
    return f"{folder}/"


def _inner_names(path):
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [re.sub(r"^p_(?!value).+", "p_{operation}", column) for column in next(csv.reader(file))]
    if path.suffix == ".npz":
        return np.load(path).files
    if path.suffix == ".json" and path.name != "config.json":
        return _keys(json.loads(path.read_text()))
    return []


def _keys(value):
    """Keys of JSON content, less those that users or spaces name, and those that every metrics.json has."""
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    if not isinstance(value, dict):
        return set()
    value = {key: inner for key, inner in value.items() if key not in ("config", "provenance", "cost")}
    inner = {k for key, item in value.items() if key not in ("cells", "names", "verdicts") for k in _keys(item)}
    return set(value) | inner
