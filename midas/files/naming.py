"""What is there in the place of a name that isn't."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def among(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that doesn't exist: the one that was probably meant, and all that are allowed."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"{f', did you mean {near[0]}?' if near else ';'} allowed: {', '.join(names)}"
