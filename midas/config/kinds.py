"""What values of keys may be, and what all groups of keys have in common."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[int, Field(ge=1)]
Cells = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16"]


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError("must be letters a-z, digits and underscores, since it names a folder")
    return name


Name = Annotated[str, AfterValidator(_plain_name)]


def expanded(path: str) -> str:
    """A path with its ``~`` and ``$NAME`` replaced, as a shell would.

    Raises:
        ValueError: there is no such user or variable.
    """
    found = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{[^}]*\})", found):
        raise ValueError(f"the environment variable {unset[1].strip('{}')} is not set")
    if found.startswith("~"):
        raise ValueError(f"there is no user {found.partition('/')[0][1:]}; a folder of that name is ./{found}")
    return found


Location = Annotated[str, AfterValidator(expanded)]
"""A file or folder; ``~`` and ``$NAME`` in it are replaced."""


class Strict(BaseModel):
    """A group of keys that refuses unknown ones and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1; a key that is a number has other values."""
        assert info.field_name is not None
        if _holds_truth(value) and not _takes_truth(cls.model_fields[info.field_name].annotation):
            raise ValueError("true and false are no numbers")
        return value


def _holds_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_truth, get_args(annotation)))
