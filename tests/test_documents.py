"""What is written down twice stays equal: lock and environments, configuration and its documentation."""

import re
from pathlib import Path

import pytest
import yaml

from midas import config
from midas.benchmark import COLUMNS

ROOT = Path(__file__).parent.parent
LOCK = dict(re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
ENVIRONMENTS = [ROOT / "environment.yml", *sorted((ROOT / "workflow/envs").glob("*.yaml"))]


def pip_pins(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    pins = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return dict(pin.split("==") for pin in pins)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environments_have_the_versions_of_the_lock(path):
    pins = pip_pins(path)
    assert pins
    assert {name: LOCK.get(name) for name in pins} == pins


def test_base_environment_runs_every_rule():
    base = pip_pins(ENVIRONMENTS[0])
    for path in ENVIRONMENTS[1:]:
        assert pip_pins(path).items() <= base.items()
    assert "snakemake" in base


def test_lock_names_no_hosts_and_has_hashes():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert text.count("--hash=sha256:") > len(LOCK)


def test_parameter_table_and_schema_are_the_generated_ones():
    readme = (ROOT / "config/README.md").read_text()
    table = re.search(r"<!-- generated: python -m midas.config table -->\n(.*)\n<!-- end -->", readme, re.DOTALL)
    assert table, "the markers are gone"
    assert table[1] == config.table().rstrip()
    assert (ROOT / "config/schema.json").read_text() == config.schema()


def test_columns_of_the_benchmark_table_are_described():
    readme = (ROOT / "config/README.md").read_text()
    for name, meaning in COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in readme


def test_links_and_paths_in_the_readmes_exist():
    for document in (ROOT / "README.md", ROOT / "config/README.md", ROOT / "docs/output.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
