"""The configuration: every key with its type, default and description. Unknown keys are refused.

`python -m midas.config schema` prints the JSON schema, `python -m midas.config table` the parameter table of config/README.md.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from midas.config.further.functions import Functions
from midas.config.further.neighbourhoods import Neighbourhoods
from midas.config.further.proxies import Proxies, Robust
from midas.config.further.ranks import Ranks
from midas.config.kinds import Location, Name, Positive, Strict
from midas.config.method import Method
from midas.config.parts import PARTS
from midas.config.protocols import expanded
from midas.config.settings import Cost, Retrain, RetrainChanges, Search, SearchChanges, Transfer, UserDataset
from midas.files.naming import among
from midas.spaces.benchmark import CELLS


class Experiment(Strict):
    """One space searched on one data set by some methods."""

    space: Name = Field(
        description="search space: nas_bench_201, darts, RobustDARTS's s1, s2, s3, s4, or one of the DARTS-Bench-Suite: wide, "
        "deep or single_cell with _regular, _no_skip or _all_skip"
    )
    dataset: Name = Field(
        description="digits, digit_pairs (embedded), cifar10, cifar100, svhn, or a name of the key datasets"
    )
    methods: list[Name] = Field(
        [],
        description="methods that are searched, decoded and evaluated; none where searches alone are compared (ablation)",
    )
    ablation: list[Name] = Field(
        [],
        description="methods side by side in table 5; those not in methods are searched and decoded alone, and looked up "
        "where there is a table",
    )
    search: Search = Field(description="search protocol")
    search_of: dict[Name, SearchChanges] = Field(
        {}, description="settings of single methods' searches, in the place of those of search"
    )
    retrain: Retrain | None = Field(
        None, description="retraining protocol; may be left out where cells are looked up, or none is evaluated"
    )
    retrain_as: Name = Field("retrain", description="name of the settings of retrain, beside those of retrain_also")
    retrain_also: dict[Name, RetrainChanges] = Field(
        {},
        description="further retrainings of every evaluated cell, by name: settings in the place of those of retrain",
    )
    transfer: Transfer | None = Field(None, description="training of the found cells on large images: table 3")
    cost: Cost | None = Field(None, description="measurement of what a search costs: table 6")

    def search_by(self, method: str) -> Search:
        """The settings of a method's searches."""
        if method not in self.search_of:
            return self.search
        changes = self.search_of[method].model_dump()
        return Search.model_validate(self.search.model_dump() | expanded(changes))

    def retrainings(self) -> dict[str, Retrain]:
        """The settings of all retrainings of a cell by name, that of `retrain` first; none where it is left out."""
        if self.retrain is None:
            return {}
        given = self.retrain.model_dump()
        also = {name: Retrain.model_validate(given | own.model_dump()) for name, own in self.retrain_also.items()}
        return {self.retrain_as: self.retrain, **also}


class Analysis(Strict):
    """Which search figures 1 to 5 look into."""

    space: Name = Field(description="space of an experiment")
    dataset: Name = Field(description="data set of that experiment")
    method: Name = Field(description="an attention method of that experiment: figures 1, 3, 4 and 5")
    compare: list[Name] = Field(
        min_length=1, description="attention methods of that experiment that figure 2 puts side by side"
    )
    example: bool = Field(
        True,
        description="whether figure 1 is drawn, which shows one of the images; false where that may not be passed on",
    )
    groups: dict[str, list[str]] = Field(
        {},
        description="groups of classes that mean similar things, by name; whether classes of one group are more similar than "
        "classes of different ones is tested by permutation",
    )


def _one_line(text: str) -> str:
    """A text over several lines of YAML as one: it stands within sentences, and within a heading of a table."""
    return " ".join(text.split())


class Config(Strict):
    """One size of the whole pipeline."""

    size: Name = Field(description="name of this size; results and figures go into folders of this name")
    note: Annotated[str, AfterValidator(_one_line)] = Field(
        description="what every figure and table says of this size, e.g. how it differs from the paper's protocol"
    )
    paper_protocol: bool = Field(
        False, description="true only where every number is the paper's; all else is marked inside each picture"
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="seeds; each is one search and one retraining"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    threads: Positive = Field(1, description="CPU threads of one search or retraining; also the cores it takes")
    go_on_elsewhere: bool = Field(
        False,
        description="whether an interrupted search, retraining or transfer may go on with other threads or on another device "
        "than it began with, so with another rounding; false: that is refused before any job starts",
    )
    results_dir: Location = Field("results", description="folder of results, relative to the repository's root")
    figures_dir: Location = Field("figures", description="folder of figures, relative to the repository's root")
    data_root: Location | None = Field(
        None,
        description="existing folder with the data sets as torchvision lays them out, never written to; null: the environment "
        "variable MIDAS_DATA, or else a download to data/ with check sums",
    )
    nas_bench_201_table: Location | None = Field(
        None,
        description="table of NAS-Bench-201 (columns: docs in config/README.md); null: cells are trained instead of looked up",
    )
    nas_bench_201_cells: Annotated[int, Field(ge=1, le=CELLS)] = Field(
        CELLS,
        description="cells of that table: all of the benchmark's; fewer for a table of some of them, e.g. for a test",
    )
    cifar10_split: Location | None = Field(
        None,
        description="JSON file with the index lists train and valid (may be compressed; also as NAS-Bench-201's authors ship "
        "it) of the search on CIFAR-10; null: fixed random halves",
    )
    open_images: bool = Field(
        True,
        description="whether each image of a folder that a transfer reads is opened once before, so that a damaged one is known "
        "at once; false for folders of so many that this takes hours",
    )
    partial: bool = Field(
        False,
        description="show the seeds of which everything is finished, and say which are left out, instead of making those",
    )
    claims: Location = Field("config/claims.yaml", description="file of the claims that are checked")
    datasets: dict[Name, UserDataset] = Field({}, description="data sets of your own by name")
    methods: dict[Name, Method] = Field(description="methods by name")
    experiments: list[Experiment] = Field(
        description="what is searched, on what, by which methods; may be empty beside proxies or functions alone"
    )
    ranks: Ranks | None = Field(
        None, description="what table S1 and figure S1 rank (target suite); null: neither is made"
    )
    analysis: Analysis | None = Field(
        None, description="what figures 1 to 5 look into; null: those figures are left out"
    )
    proxies: Proxies | None = Field(
        None, description="scores without training, on cells drawn at random: table S3; null: none"
    )
    neighbourhoods: Neighbourhoods | None = Field(
        None,
        description="how accurate the cells of NAS-Bench-201 are that lie near the found ones: table S2 and figure S2; needs "
        "nas_bench_201_table, which is read after the searches; null: they are left out, {}: with the defaults",
    )
    functions: Functions | None = Field(
        None, description="search over functions, not images: table S4; null: it is left out"
    )


FURTHER = ("functions", "neighbourhoods", "proxies", "ranks")
"""Keys of what stands beside the paper's tables and figures: they decide what is made of them, and nothing else."""


class ConfigError(ValueError):
    """A configuration that can't be used; the message has one line for each error."""

    def __init__(self, problems: list[str]):
        self.problems = [" ".join(problem.splitlines()) for problem in problems]
        super().__init__("\n".join(self.problems))


def parse(raw: dict[str, Any], model: type[Strict] = Config) -> Any:
    """Check a configuration.

    Raises:
        ConfigError: with one line for each wrong key, naming key, value and what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError([_line(model, e) for e in error.errors()]) from error


def _line(model: type[BaseModel], error: Any) -> str:
    # "[key]" marks an error in a mapping's key itself
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{among(str(error['loc'][-1]), _fields(model, error['loc'][:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "model_type":
        message = "must be keys with values"
    if model is Config and error["type"] == "string_type" and isinstance(error["input"], int | float | date | None):
        message += "; in YAML a text that reads as a number, a date, yes, no or null needs quotes"
    if error["type"] == "missing":
        return f"{key}: missing; {message.lower()}"
    return f"{key}: {error['input']!r} is not allowed; {message[0].lower()}{message[1:]}"


def _fields(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Names of the keys that are allowed at `path`."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:  # otherwise an index of a list or a name in a mapping: the model stays
            model = next(_models(field.annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Any:
    """The models inside an annotation such as ``dict[str, Method]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def schema() -> str:
    """The JSON schema of a configuration file."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


def table() -> str:
    """Every key as rows of a markdown table, group by group."""
    groups: list[tuple[str, type[BaseModel]]] = [
        ("", Config),
        ("methods.NAME", Method),
        *((f"methods.NAME.{name}", part) for name, part in PARTS.items()),
        ("experiments[]", Experiment),
        ("experiments[].search", Search),
    ]
    groups += [("experiments[].retrain", Retrain), ("experiments[].transfer", Transfer), ("experiments[].cost", Cost)]
    groups += [("datasets.NAME", UserDataset), ("analysis", Analysis), ("ranks", Ranks)]
    groups += [
        ("neighbourhoods", Neighbourhoods),
        ("proxies", Proxies),
        ("proxies.robust", Robust),
        ("functions", Functions),
    ]
    lines = []
    for prefix, model in groups:
        title = f"`{prefix}`" if prefix else "Top level"
        lines += [
            f"### {title}",
            "",
            str(model.__doc__).strip(),
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            lines.append(f"| `{name}` | {_type_name(model, name)} | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _type_name(model: type[BaseModel], name: str) -> str:
    """A field's type as its JSON schema says it, for people."""

    def words(node: dict[str, Any]) -> str:
        if "anyOf" in node:
            return " or ".join(words(option) for option in node["anyOf"])
        if "enum" in node:
            return ", ".join(f"`{value}`" for value in node["enum"])
        if "$ref" in node:
            return "keys below"
        if node["type"] == "array":
            inner = node.get("items") or node["prefixItems"][0]
            return f"list of {words(inner)}"
        if node["type"] == "object":
            return f"mapping of names to {words(node['additionalProperties'])}"
        limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        return " ".join([node["type"], *(f"{sign} {node[key]:g}" for key, sign in limits.items() if key in node)])

    return words(model.model_json_schema()["properties"][name])


def main() -> None:
    """Print what is generated of the keys: the schema, or the table for people."""
    printers = {"schema": schema, "table": table}
    if len(sys.argv) != 2 or sys.argv[1] not in printers:
        sys.exit("usage: python -m midas.config schema|table")
    print(printers[sys.argv[1]](), end="")
