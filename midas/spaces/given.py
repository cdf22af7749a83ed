"""A cell that other code found, as a method of its own."""

from __future__ import annotations

from pathlib import Path

from midas.spaces.genotype import Genotype, check_nodes, load, parse
from midas.spaces.space import Space


def given_cell(given: str, space: Space) -> Genotype:
    """The cell of a text, or of a file that holds one.

    Args:
        given: text in a form of the field, or the path of a file: such a text, alone or in an assignment or a log, or a
            genotype.json.
        space: the space whose cell it must be.

    Raises:
        ValueError: it holds none or several, the cell is of another space, or has an operation that the space doesn't offer.
    """
    if not given.strip():
        raise ValueError("missing; weights 'given' needs a cell as text, or a file that holds one")
    form = space.networks if space.family == "darts" else "darts"
    path = Path(given)
    try:
        there = "(" not in given and "|" not in given
        json = there and path.suffix == ".json"
        found = load(path) if json else parse(path.read_text() if there else given, form)
    except OSError as error:
        raise ValueError(f"{given}: neither a cell nor a readable file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{given}: not a text: {error.reason}") from error
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
