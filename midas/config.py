"""The configuration: every key with its type, default and description. Unknown keys are refused.

`python -m midas.config schema` prints the JSON schema, `python -m midas.config table` the parameter table of config/README.md.
Defaults are the paper's protocol; what the paper leaves open and this project decides is marked [D].
"""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(ge=1)]
Cells = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["float32", "bfloat16"]


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError("must be letters a-z, digits and underscores, since it names a folder")
    return name


Name = Annotated[str, AfterValidator(_plain_name)]


class Strict(BaseModel):
    """A group of keys that refuses unknown ones and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(Strict):
    """How the mixing weights of a node come about; a method is a composition of these choices."""

    weights: Literal["static", "attention"] = Field(
        "attention",
        description="static: architecture parameters shared by all images (DARTS); attention: mosaic attention (MIDAS)",
    )
    patch_size: Positive | None = Field(
        8,
        description="attention: side of a patch (PS) in pixels of the node's map, null for global average pooling ('no patch')",
    )
    distribution: Literal["edge", "node", "pairs"] | None = Field(
        None,
        description="softmax over the operations of an edge, over all (edge, operation) of a node, or over admissible pairs of "
        "edges in closed form (topology); null: attention takes pairs where a node keeps two edges, all else takes edge",
    )
    keys: Literal["shared", "per_operation"] = Field(
        "shared", description="attention: one W_K for all candidates of a node [D], or one for each operation"
    )
    mixing: Literal["image", "patch"] = Field(
        "image",
        description="attention: mix whole maps with the image's averaged weights, or each patch with its own [D]",
    )
    projections: Literal["learned", "frozen"] = Field(
        "learned", description="attention: W_Q and W_K are trained, or stay as they were drawn (an ablation)"
    )
    scale: Annotated[float, Field(gt=0)] | None = Field(
        None, description="attention: factor on the query-key product, null for 1/sqrt(d) [D]"
    )
    none_logit: Literal["zero", "learned"] = Field(
        "zero", description="attention: 'none' has the zero key, hence logit 0 [D], or one learned logit per edge"
    )
    decode_none: bool | None = Field(
        None,
        description="whether 'none' may be decoded; null: as the space says (NAS-Bench-201 yes, two-edge spaces no) [D]",
    )


class Search(Strict):
    """First-order bilevel search: weights on one half of the training images, architecture on the other, batch by batch."""

    channels: Positive = Field(16, description="initial channels of the supernet")
    cells: Cells = Field(
        description="cells of the supernet: in all (DARTS) or in each of the three stages (NAS-Bench-201)"
    )
    epochs: Positive = Field(description="epochs of the search")
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="images in a batch, of either half")
    lr: Rate = Field(0.025, description="SGD learning rate of the weights at the start, annealed by a cosine")
    lr_min: Rate = Field(0.001, description="learning rate that the cosine ends at")
    momentum: Fraction = Field(0.9, description="SGD momentum of the weights")
    weight_decay: Rate = Field(3e-4, description="weight decay of the weights")
    clip: Rate = Field(5.0, description="largest norm of the weights' gradient, 0 for no clipping")
    arch_lr: Rate = Field(3e-4, description="Adam learning rate of the architecture parameters")
    arch_betas: tuple[Fraction, Fraction] = Field((0.5, 0.999), description="Adam betas of the architecture parameters")
    arch_weight_decay: Rate = Field(1e-3, description="weight decay of the architecture parameters")
    precision: Precision = Field("float32", description="bfloat16: automatic mixed precision")
    channels_last: bool = Field(True, description="memory layout of the maps; values differ by rounding only")


class Retrain(Strict):
    """Training a found cell from scratch on all training images."""

    channels: Positive = Field(36, description="initial channels of the network")
    cells: Cells = Field(20, description="cells: in all (DARTS) or in each of the three stages (NAS-Bench-201)")
    epochs: Positive = Field(600, description="epochs of training")
    batch_size: Annotated[int, Field(ge=2)] = Field(96, description="images in a batch")
    lr: Rate = Field(0.025, description="SGD learning rate at the start, annealed to 0 by a cosine")
    momentum: Fraction = Field(0.9, description="SGD momentum")
    nesterov: bool = Field(False, description="SGD with Nesterov's momentum (NAS-Bench-201: true)")
    weight_decay: Rate = Field(3e-4, description="weight decay")
    clip: Rate = Field(5.0, description="largest norm of the gradient, 0 for no clipping")
    cutout: Annotated[int, Field(ge=0)] = Field(16, description="side of the square that cutout blanks, 0 for none")
    auxiliary: Rate = Field(0.4, description="weight of the auxiliary head's loss (DARTS networks), 0 for no head")
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="drop-path probability at the end, linear from 0 (DARTS)"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="label smoothing")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="decay of an average of the weights that is evaluated, 0 for none"
    )
    precision: Precision = Field("float32", description="bfloat16: automatic mixed precision")
    channels_last: bool = Field(True, description="memory layout of the maps; values differ by rounding only")


class UserDataset(Strict):
    """A data set of the user's own."""

    kind: Literal["npz", "folder"] = Field(
        description="npz: x_train, y_train, x_test, y_test with images [n, height, width, 3] uint8; folder: train/ and test/ "
        "(or val/) with a folder of images for each class"
    )
    path: str = Field(description="the file or folder")
    image_size: Positive | None = Field(None, description="folder: side to which images are resized and cropped")
    flip: bool = Field(True, description="augmentation: mirror half of the images")
    padding: Annotated[int, Field(ge=0)] = Field(
        4, description="augmentation: pixels by which a random crop shifts at most"
    )


class Experiment(Strict):
    """One space searched on one data set by some methods."""

    space: Name = Field(description="search space: nas_bench_201 or darts")
    dataset: Name = Field(
        description="digits, digit_pairs (embedded), cifar10, cifar100, svhn, or a name of the key datasets"
    )
    methods: list[Name] = Field(min_length=1, description="methods that are searched, decoded and evaluated")
    search_only: list[Name] = Field(
        [], description="methods that are searched and decoded alone (figure 2 compares their weights)"
    )
    search: Search = Field(description="search protocol")
    retrain: Retrain | None = Field(None, description="retraining protocol; may be left out where cells are looked up")


class Analysis(Strict):
    """Which search figures 1 to 5 look into."""

    space: Name = Field(description="space of an experiment")
    dataset: Name = Field(description="data set of that experiment")
    method: Name = Field(description="an attention method of that experiment: figures 1, 3, 4 and 5")
    compare: list[Name] = Field(
        min_length=1, description="attention methods of that experiment that figure 2 puts side by side"
    )


class Config(Strict):
    """One size of the whole pipeline."""

    size: Name = Field(description="name of this size; results and figures go into folders of this name")
    note: str = Field(
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
    results_dir: str = Field("results", description="folder of results, relative to the repository's root")
    figures_dir: str = Field("figures", description="folder of figures, relative to the repository's root")
    data_root: str | None = Field(
        None,
        description="existing folder with the data sets as torchvision lays them out, never written to; null: the environment "
        "variable MIDAS_DATA, or else a download to data/ with check sums",
    )
    nas_bench_201_table: str | None = Field(
        None,
        description="table of NAS-Bench-201 (columns: docs in config/README.md); null: cells are trained instead of looked up",
    )
    cifar10_split: str | None = Field(
        None,
        description="JSON file with the index lists train and valid (may be gzipped) of the search on CIFAR-10; "
        "null: fixed random halves",
    )
    datasets: dict[Name, UserDataset] = Field({}, description="data sets of your own by name")
    methods: dict[Name, Method] = Field(min_length=1, description="methods by name")
    experiments: list[Experiment] = Field(min_length=1, description="what is searched, on what, by which methods")
    analysis: Analysis | None = Field(
        None, description="what figures 1 to 5 look into; null: those figures are left out"
    )


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
        return f"{key}: unknown key; allowed: {', '.join(_fields(model, error['loc'][:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
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
        ("experiments[]", Experiment),
        ("experiments[].search", Search),
    ]
    groups += [("experiments[].retrain", Retrain), ("datasets.NAME", UserDataset), ("analysis", Analysis)]
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
            return "mapping of names to keys below"
        limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        return " ".join([node["type"], *(f"{sign} {node[key]:g}" for key, sign in limits.items() if key in node)])

    return words(model.model_json_schema()["properties"][name])


if __name__ == "__main__":
    printers = {"schema": schema, "table": table}
    if len(sys.argv) != 2 or sys.argv[1] not in printers:
        sys.exit("usage: python -m midas.config schema|table")
    print(printers[sys.argv[1]](), end="")
