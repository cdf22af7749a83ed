"""A cell that other code found, as a method of its own."""

from __future__ import annotations

from pathlib import Path

from midas.spaces.forms import read
from midas.spaces.genotype import Genotype, check_nodes, load
from midas.spaces.space import Space

LONGEST = 256
"""Characters of a file's name; some systems refuse to look for longer ones."""


def read_given(given: str, space: str = "darts") -> Genotype:
    """The cell of a text, or of a file that holds one.

    Args:
        given: text in a form of the field (`midas.spaces.forms`), or the path of a file: such a text, alone or in an assignment
            or a log, or a genotype.json.
        space: of the DARTS family; a text doesn't say whose networks its cells form.

    Raises:
        ValueError: it holds no cell, or several.
    """
    path = Path(given)
    try:
        if set(given) & set("(|[") and not (len(given) < LONGEST and path.is_file()):
            return read(given, space)
        return load(path) if path.suffix == ".json" else read(path.read_text(), space)
    except OSError as error:
        raise ValueError(f"{given}: neither a cell nor a readable file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{given}: not a text: {error.reason}") from error


def known_cell(given: str, space: Space, kept: Path) -> Genotype:
    """The same as `given_cell`; where the file is gone, of what was made of it.

    Args:
        given: see `given_cell`.
        space: the space.
        kept: genotype.json of a finished run.

    Raises:
        ValueError: see `given_cell`, and there is no such file.
    """
    try:
        return given_cell(given, space)
    except ValueError:
        if not kept.exists():
            raise
        return load(kept)


def given_cell(given: str, space: Space) -> Genotype:
    """The same, of one space.

    Raises:
        ValueError: see `read_given`; or the cell is of another space, or has an operation that the space doesn't offer.
    """
    if not given.strip():
        raise ValueError("missing; weights 'given' needs a cell as text, or a file that holds one")
    found = read_given(given, space.networks if space.family == "darts" else "darts")
    if found.space != space.networks:
        raise ValueError(f"a cell of {found.space} is not allowed; a cell of {space.name} is wanted")
    check_nodes(found)
    for kind in found.cells:
        for _, target, operation in found.edges(kind):
            if operation not in space.operations:
                raise ValueError(
                    f"{operation!r} at node {target} is not allowed; {space.name} has {', '.join(space.operations)}"
                )
    return found
