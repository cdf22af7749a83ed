"""Which paths of this machine does a text name, and how does it read without them? "/scratch/u/cifar" becomes "cifar"."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

BEGINS = r"(?:(?<=file://)|(?<![\w./*}]))"
OF_A_MACHINE = re.compile(BEGINS + r"/[\w.-]+/[\w.-]+[^\s\"']*")
"""An absolute path in a text."""
PLACES = {
    *("path", "split", "table", "genotype", "history", "dump", "data_root", "nas_bench_201_table", "cifar10_split"),
    *("claims", "results_dir", "figures_dir"),
}
"""Keys of configurations whose values are paths."""
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
"""In a JSON text."""
HOST = re.compile(r"^(--- .*), host \S+?(?=,|$)", re.MULTILINE)
"""In the heading of an attempt in a log (midas.running.step)."""


def places_in(content: Any) -> Iterator[str]:
    """The absolute paths among the values of a configuration."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in PLACES and isinstance(value, str) and value.startswith("/") and last_name(value):
                yield value.rstrip("/")
            yield from places_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from places_in(value)


def shorten(text: str, places: list[str]) -> str:
    """A plain text whose paths are shortened, first those that configurations name: they may hold spaces, or one name alone."""
    for place in places:
        name = last_name(place)
        text = re.sub(f"{BEGINS}{re.escape(place)}(?![\\w.-])", lambda _, name=name: name, text)  # type: ignore[misc]
    return OF_A_MACHINE.sub(lambda found: last_name(found[0]), text)


def shorten_text(text: str, suffix: str, places: list[str]) -> str:
    """The text of a kind of file with its paths shortened."""

    def token(found: re.Match[str]) -> str:
        value = json.loads(found[0])
        shorter = shorten(value, places)
        return found[0] if shorter == value else json.dumps(shorter)

    if suffix == ".json":
        return STRING.sub(token, text)
    if suffix == ".csv":
        rows = list(csv.reader(io.StringIO(text, newline="")))
        shortened = [[shorten(cell, places) for cell in row] for row in rows]
        if shortened == rows:
            return text
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(shortened)
        return table.getvalue()
    return HOST.sub(r"\1", shorten(text, places))


def shorten_values(content: Any, places: list[str]) -> Any:
    """Values of a configuration with their paths shortened."""
    if isinstance(content, dict):
        return {key: shorten_values(value, places) for key, value in content.items()}
    if isinstance(content, list):
        return [shorten_values(value, places) for value in content]
    return shorten(content, places) if isinstance(content, str) else content


def last_name(path: str) -> str:
    """The last name of an absolute path, with what follows it in a text; another one as it is."""
    name = path.rstrip(",:;.)]}")
    return PurePosixPath(name).name + path[len(name) :] if path.startswith("/") else path
