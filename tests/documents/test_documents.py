"""What is written down twice stays equal: lock and environments, configuration, outputs and links and their documents."""

import json
import re
import tomllib

import pytest
import yaml
from documented import ENVIRONMENTS, OF_A_CELL, OUTPUTS, pip_pins, undocumented
from places import ROOT

from midas.analysis.tables.presentation import TIDY
from midas.config import keys as config
from midas.spaces.benchmark import COLUMNS

NAMES = (
    "README.md",
    "REPRODUCIBILITY.md",
    "CHANGELOG.md",
    "config/README.md",
    "workflow/profiles/README.md",
    "results/published/README.md",
)
DOCUMENTS = [
    *(ROOT / name for name in NAMES),
    *sorted((ROOT / "docs").glob("*.md")),
]
GENERATED = ("results", "figures", "data", ".venv")
LOCK = dict(re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


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


@pytest.mark.parametrize("profile", ["slurm", "cluster-generic"])
def test_a_profile_asks_on_the_first_attempt_for_what_the_rule_states(profile):
    content = yaml.safe_load((ROOT / f"workflow/profiles/{profile}/config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    compared = 0
    for rule, resources in content["set-resources"].items():
        block = re.search(rf"^rule {rule}:\n(.*?)(?:^(?=\S)|\Z)", rules, re.DOTALL | re.MULTILINE)[1]
        for name, value in resources.items():
            if match := re.fullmatch(r"(\d+) \* attempt", value):
                assert f"{name}={match[1]}," in block, f"{rule}: {name}"
                compared += 1
    assert compared == 5


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


def without_code(document):
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document):
    """Anchors that GitHub gives the headings of a document."""
    found = []
    for heading in re.findall(r"^#+ +(.+)$", without_code(document), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.append(anchor + (f"-{found.count(anchor)}" if anchor in found else ""))
    return found


def links(document):
    """Targets of a document's links and pictures that lie in the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(document))
    return [target for target in targets if not re.match(r"https?://", target)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_of_the_project_and_its_anchor_to_a_heading(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name}: {link}"
        folder, *inner = target.relative_to(ROOT).parts
        assert folder not in GENERATED or inner[0] == "published", f"{document.name}: {link} isn't in a fresh clone"
        assert not anchor or anchor in anchors(target), f"{document.name}: {link}: no such heading"


def test_links_and_anchors_are_found():
    assert {"data", "the-table-of-nas-bench-201", "methodsname", "experimentssearch"} <= set(
        anchors(ROOT / "config/README.md")
    )
    assert all(len(links(ROOT / name)) > 5 for name in ("README.md", "REPRODUCIBILITY.md", "docs/extending.md"))


def declared_outputs():
    """Folder and name of every output of a rule, written as docs/output.md writes them."""
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for block in re.findall(r"^ +output:\n(.*?)^ +log:\n", file.read_text(), re.DOTALL | re.MULTILINE):
            for folder, name in re.findall(r'f"(\{[^"]+)/([^/"]+)"', block):
                folder = folder.replace("{{", "{").replace("}}", "}") + "/"
                folder = folder.replace("{RUN}/", OF_A_CELL).replace("{FIGURES}/", "figures/{size}/")
                yield folder.removeprefix("{ROOT}/") or "results/{size}/", name.replace(":02d", "")


def test_every_output_of_a_rule_is_described():
    outputs = list(declared_outputs())
    assert len(outputs) > 25
    for folder, name in outputs:
        assert f"`{name}`" in OUTPUTS[folder], f"{folder}{name}"


def test_every_column_of_the_tables_is_described():
    assert [name for name in TIDY if f"`{name}`" not in OUTPUTS["tables/"]] == []


def test_what_is_not_described_is_found(searched, tmp_path):
    step = tmp_path / "s1/digits/midas/seed0/search"
    step.mkdir(parents=True)
    for file in searched.iterdir():
        (step / file.name).write_bytes(file.read_bytes())
    figures = tmp_path / "nothing"
    assert undocumented(tmp_path, figures) == []
    (step / "arch.png").touch()
    (step / "history.csv").write_text("epoch,lr,p_skip_connect,speed\n")
    metrics = json.loads((step / "metrics.json").read_text())
    (step / "metrics.json").write_text(json.dumps({**metrics, "rows": [{"colour": 1}]}))
    assert [line.removeprefix(OF_A_CELL + "search/") for line in undocumented(tmp_path, figures)] == [
        "arch.png",
        "colour",
        "rows",
        "speed",
    ]


def test_citation_and_changelog_name_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] in (ROOT / "pyproject.toml").read_text()
    assert any("2602.17700" in str(reference) for reference in citation["references"])
    released = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version in released or released == ["Unreleased"]
