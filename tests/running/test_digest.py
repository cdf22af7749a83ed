"""The digest of a step sees the code that the step uses, and not words or layout."""

import json
import re

import pytest

from midas.running import provenance

PACKAGE = {
    "__init__.py": "",
    "train.py": '''"""A step."""

from midas import helper
from midas.config.keys import Config
from midas.sub import thing

LIMIT = 3
"""Largest number."""


class Trainer:
    """Trains."""

    def train(self, x: int) -> str:
        from midas.late import more

        return "loss" if more(x) < LIMIT else helper.name(thing)
''',
    "helper.py": "def name(x):\n    return x\n",
    "late.py": "def more(x):\n    return x + 1\n",
    "config/keys.py": "class Config: ...\n",
    "plan/plan.py": "from midas.config.keys import Config\n",
    "sub/__init__.py": "from midas.sub.deep import thing\n",
    "sub/deep.py": "thing = 1\n",
    "other.py": "from midas import helper\n",
    "analysis/__init__.py": "",
    "analysis/plot.py": "import midas.train\n",
}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small package that may be edited; digests are those of its steps."""
    for name, text in PACKAGE.items():
        path = tmp_path / "midas" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path / "midas"


def digest(step="train"):
    return provenance.digest.__wrapped__(step)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def changed_by(source, module, step="train"):
    before = digest(step)
    with (source / module).open("a") as file:
        file.write("\nANOTHER_LINE = 1\n")
    return digest(step) != before


@pytest.mark.parametrize("module", ["train.py", "helper.py", "late.py", "sub/__init__.py", "sub/deep.py"])
def test_code_that_a_step_uses_changes_its_digest(source, module):
    assert changed_by(source, module)


@pytest.mark.parametrize(
    "module", ["config/keys.py", "plan/plan.py", "other.py", "analysis/__init__.py", "analysis/plot.py"]
)
def test_code_that_a_step_does_not_use_leaves_its_digest(source, module):
    assert not changed_by(source, module)


def test_each_step_has_its_own_digest(source):
    assert digest("train") != digest("other")
    assert not changed_by(source, "late.py", "other")


CODE = {
    "a number": ("LIMIT = 3", "LIMIT = 4"),
    "a string": ('"loss"', '"accuracy"'),
    "an operator": ("< LIMIT", "<= LIMIT"),
    "a type": ("x: int", "x: float"),
}
WORDS = {
    "comment": ("LIMIT = 3", "# at most\nLIMIT = 3  # three"),
    "docstring of the module": ('"""A step."""', '"""One step.\n\nOf several.\n"""'),
    "docstring of a class": ('"""Trains."""', '"""Trains a network."""'),
    "docstring of a constant": ('"""Largest number."""', '"""The largest number."""'),
    "docstring added": ("-> str:", '-> str:\n        """Train."""'),
    "docstring removed": ('    """Trains."""\n', ""),
    "layout": ("def train(self, x: int)", "def train(\n        self,\n        x: int,\n    )"),
    "quotes": ('"loss"', "'loss'"),
}


@pytest.mark.parametrize("code", CODE)
def test_code_changes_the_digest(source, code):
    before = digest()
    edit(source / "train.py", *CODE[code])
    assert digest() != before


@pytest.mark.parametrize("words", WORDS)
def test_words_and_layout_leave_the_digest(source, words):
    before = digest()
    edit(source / "train.py", *WORDS[words])
    assert digest() == before


@pytest.mark.parametrize("file", ["late.cpp", "late.h"])
def test_compiled_code_and_its_headers_are_in_the_digest_of_their_module(source, file):
    (source / "late.cpp").write_text("int one();\n")
    (source / "late.h").write_text("int two();\n")
    before, of_others = digest(), digest("other")
    edit(source / file, "int", "long")
    assert digest() != before
    assert digest("other") == of_others


def modules_of(step):
    seen = {}
    provenance._collect(f"midas.{step}", seen)
    return {name.removeprefix("midas.") for name in seen}


def test_the_digest_of_a_search_covers_what_makes_its_numbers():
    modules = modules_of("search")
    assert modules >= {"search", "images.loader", "images.datasets", "networks.operations", "running.checkpoint"}
    assert modules >= {f"spaces.{name}" for name in ("space", "darts", "nas_bench_201", "genotype")}
    assert modules >= {f"supernet.{name}" for name in ("candidates", "mixture", "network")}
    assert modules >= {f"methods.{name}" for name in ("attention", "decoding", "distributions")}
    assert not modules & {"running.provenance", "running.step", "retrain", "lookup"}
    assert not any(name.startswith(("config", "plan")) for name in modules)


@pytest.mark.parametrize("step", ["search", "retrain", "data", "decode", "lookup"])
def test_no_plotting_code_in_the_digest_of_a_step(step):
    modules = modules_of(step)
    assert step in modules
    assert not any(name.startswith("analysis") for name in modules)


def test_a_source_that_was_shown_to_leave_the_same_has_the_earlier_digest(source, tmp_path, monkeypatch):
    now, of_others = digest(), digest("other")
    (tmp_path / "same.json").write_text(json.dumps({now: "0123456789abcdef"}))
    monkeypatch.setattr(provenance, "SAME_NUMBERS", tmp_path / "same.json")
    assert digest() == "0123456789abcdef"
    assert provenance.digest_of_source("train") == now
    assert digest("other") == of_others
    edit(source / "helper.py", "return x", "return 2 * x")
    assert digest() not in ("0123456789abcdef", now)


def test_entries_for_sources_that_are_gone_are_taken_out():
    """What no step's source has any more says nothing: the entries of a commit go with the source that they are of."""
    steps = ("data", "search", "decode", "lookup", "retrain", "transfer", "analysis.statistics")
    entries = json.loads(provenance.SAME_NUMBERS.read_text())
    assert entries.keys() <= {provenance.digest_of_source(step) for step in steps}
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in entries.values())
