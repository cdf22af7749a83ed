"""Each conda environment holds what the steps that run in it import: read from the sources, without conda."""

import ast
import importlib.metadata
import re
import sys
from functools import cache

import pytest
from documented import ENVIRONMENTS, pip_pins
from places import ROOT

DISTRIBUTIONS = importlib.metadata.packages_distributions()
"""Name that is imported -> packages that install it."""
THROUGH_PANDAS = {"to_markdown": "tabulate", "to_latex": "jinja2"}
"""Method -> package that pandas imports when it is called."""

IN_TRAINING = {("midas.running.provenance", "torch")}
"""Imports within functions that are called only in steps that train, which import them anyway (tested)."""
WITH_TORCH = {"triton"}
"""What torch installs on a machine that may have a GPU; imported for one alone (key search.triton)."""


def rules():
    """Name, environment, steps and programs of each rule that has a command."""
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        blocks = re.split(r"^ *rule\b", file.read_text(), flags=re.MULTILINE)[1:]
        for block in blocks:
            shell = re.search(r"^ +shell:\n(.*?)\n(?=\S|\Z)", block + "\n", re.DOTALL | re.MULTILINE)
            if shell is None:
                continue
            name = re.search(r'^ (\w+):|^ +name:\n +f?"(\w+)', block, re.MULTILINE)
            environment = re.search(r'^ +conda:\n +"(.+)"', block, re.MULTILINE)
            assert environment, f"{name[0]} has no environment"
            steps = re.findall(r"python -m (?:\{params\.launch\} )?(midas[\w.]+)", shell[1])
            yield name[1] or name[2], (file.parent / environment[1]).resolve(), steps, shell[1]


RULES = list(rules())
STEPS = sorted({(environment, step) for _, environment, steps, _ in RULES for step in steps})


def path_of(module):
    """File of a module of this project, None if there is none."""
    stem = ROOT / module.replace(".", "/")
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.exists()), None)


def imported(module):
    """Modules that a module of this project names in its import statements, also in those within functions, or looks for."""
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports aren't followed"
            yield node.module
            yield from (name for alias in node.names if path_of(name := f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("find_spec", "import_module"):
            yield ast.literal_eval(node.args[0])


@cache
def closure(step):
    """Modules of this project that are loaded when a step runs, packages included, and all others that these import."""
    own, others, new = set(), set(), {step, f"{step}.__main__"} if path_of(f"{step}.__main__") else {step}
    while new:
        module = new.pop()
        parts = module.split(".")
        if parts[0] != "midas":
            others.add(parts[0])
        elif module not in own:
            own.add(module)
            new |= {".".join(parts[:n]) for n in range(1, len(parts))} - own
            new |= {name for name in imported(module) if (module, name) not in IN_TRAINING} - own
    return own, others - sys.stdlib_module_names - {"__future__"}


def missing(step, packages):
    """Imports of a step that none of the packages installs, and packages that pandas will ask for."""
    own, others = closure(step)
    others -= WITH_TORCH if "torch" in packages else set()
    found = {name for name in others if not {normal(d) for d in DISTRIBUTIONS[name]} & packages}
    sources = "".join(path_of(module).read_text() for module in own)
    return found | {package for method, package in THROUGH_PANDAS.items() if f".{method}(" in sources} - packages


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(("environment", "step"), STEPS, ids=lambda value: getattr(value, "name", value))
def test_an_environment_has_what_its_step_imports(environment, step):
    assert missing(step, set(pip_pins(environment))) == set()


@pytest.mark.parametrize("step", sorted({step for _, step in STEPS}))
def test_the_base_environment_has_what_every_step_imports(step):
    assert missing(step, set(pip_pins(ENVIRONMENTS[0]))) == set()


def test_every_rule_and_environment_is_looked_at():
    assert {name for name, *_ in RULES} >= {"data", "search", "cost", "decode", "lookup", "retrain", "transfer"}
    assert {name for name, *_ in RULES} >= {"statistics", "table_", "figure_", "claims", "report"}
    assert all(steps for _, _, steps, _ in RULES)
    assert {environment for environment, _ in STEPS} == set(ENVIRONMENTS)


def test_a_rule_that_calls_snakemake_has_it():
    calling = [environment for _, environment, _, shell in RULES if re.search(r"\bsnakemake ", shell)]
    assert calling
    assert all("snakemake" in pip_pins(environment) for environment in calling)


@pytest.mark.parametrize(
    ("step", "package", "name"),
    [
        ("midas.search", "torch", "torch"),
        ("midas.search", "scikit-learn", "sklearn"),  # midas.images.digits looks for its files
        ("midas.analysis.tables", "tabulate", "tabulate"),
        ("midas.decode", "pydantic", "pydantic"),
    ],
)
def test_a_missing_package_is_found(step, package, name):
    (environment,) = [environment for environment, other in STEPS if other == step]
    assert missing(step, set(pip_pins(environment)) - {package}) == {name}


@pytest.mark.parametrize("step", ["midas.search", "midas.retrain", "midas.transfer"])
def test_steps_that_train_import_what_is_passed_over(step):
    own, others = closure(step)
    assert {name for _, name in IN_TRAINING} <= own | others


def test_steps_that_read_files_alone_never_load_torch():
    for environment, step in STEPS:
        if environment.name == "analysis.yaml":
            assert "torch" not in closure(step)[1], step
