"""The file of the paper's claims (config/claims.yaml), read and checked. Nothing here needs numbers of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from midas.config.keys import ConfigError, parse
from midas.config.kinds import Name, Positive, Rate, Strict
from midas.files.yaml_files import read_yaml
from midas.spaces import SPACES

Metric = Literal[
    "optimal_cell", "top1", "best_published", "weight_spread", "dip_rejections", "class_similarity", "transfer_error"
]


def _known(space: str) -> str:
    if space not in SPACES:
        raise ValueError(f"allowed: {', '.join(SPACES)}")
    return space


SpaceName = Annotated[str, AfterValidator(_known)]


class Claim(Strict):
    """One claim, and when it counts as reproduced."""

    id: Annotated[str, Field(pattern="^C[1-9][0-9]*$")] = Field(description="name of the claim: C and a number")
    text: str = Field(description="the claim in words")
    metric: Metric = Field(description="what is measured, and the rule that judges it")
    spaces: list[SpaceName] = Field(min_length=1, description="spaces of the experiments")
    dataset: Name = Field(description="data set of the experiments")
    place: Annotated[int, Field(ge=0)] = Field(
        0, description="place of the data set that stands in for `dataset` among those of the space"
    )
    transfer_dataset: Name | None = Field(None, description="data set of the transfer")
    method: Name | None = Field(None, description="null: the first attention method of the experiment")
    expected: float = Field(description="number that the rule compares with")
    tolerance: Rate = Field(0.0, description="tolerance of the rule")
    seeds: Positive = Field(description="fewest seeds for a verdict")
    from_size: Name = Field(description="smallest size at which the claim may be judged")
    paper_protocol: bool = Field(False, description="whether it may be judged under the paper's protocol alone")
    source: str = Field(description="where the expected number is from")
    assumptions: str = Field(description="what of the rule is this project's decision")


class Claims(Strict):
    """All claims.

    Attributes:
        sizes: sizes at which claims may be judged, from the smallest.
        claims: the claims.
    """

    sizes: list[Name] = Field(min_length=1)
    claims: list[Claim] = Field(min_length=1)


def read_claims(path: str | Path) -> Claims:
    """Read the file of the claims.

    Raises:
        ValueError: with one line for each mistake, naming file, claim, key, value and what is allowed.
    """
    raw = read_yaml(Path(path))
    try:
        claims: Claims = parse(raw, Claims)
    except ConfigError as error:
        raise ValueError("\n".join(f"{path}: {_by_name(problem, raw)}" for problem in error.problems)) from error
    problems = list(_problems(claims))
    if problems:
        raise ValueError("\n".join(f"{path}: {problem}" for problem in problems))
    return claims


def _by_name(problem: str, raw: Any) -> str:
    """A message that names the claim by its id instead of its place."""
    found = re.match(r"claims\.(\d+)", problem)
    claim = raw["claims"][int(found[1])] if found else None
    return f"{claim['id']}{problem[found.end() :]}" if found and isinstance(claim, dict) and "id" in claim else problem


def _problems(claims: Claims) -> Iterator[str]:
    """What is wrong with claims whose keys are all right by themselves."""
    ids = [claim.id for claim in claims.claims]
    for key, names in (("claims", ids), ("sizes", claims.sizes)):
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                yield f"{key}: {name!r} appears twice; each once"
    for claim in claims.claims:
        for key, value, allowed in _wrong(claim, claims.sizes):
            yield f"{claim.id}.{key}: {value!r} is not allowed; {allowed}"


def _wrong(claim: Claim, sizes: list[str]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and what is allowed instead."""
    if claim.from_size not in sizes:
        yield "from_size", claim.from_size, f"allowed: {', '.join(sizes)}"
    if claim.metric == "transfer_error" and claim.transfer_dataset is None:
        yield "transfer_dataset", None, "metric transfer_error needs the data set of the transfer"
    if claim.metric != "transfer_error" and claim.transfer_dataset is not None:
        yield "transfer_dataset", claim.transfer_dataset, "only for metric transfer_error"
    if claim.metric != "best_published" and len(claim.spaces) > 1:
        yield "spaces", claim.spaces, f"one space for metric {claim.metric}"
    if claim.metric == "optimal_cell" and claim.spaces != ["nas_bench_201"]:
        yield "spaces", claim.spaces, "allowed for metric optimal_cell: nas_bench_201"
