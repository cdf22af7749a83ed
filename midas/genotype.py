"""A cell in another form: ``python -m midas.genotype CELL --to FORM``.

``python -m midas.genotype CELL FILE [SPACE]`` writes the file that `midas.retrain` and `midas.transfer` read. CELL is a text in
a form of the field (DARTS's, NAS-Bench-201's, NASLib's), or a file that holds one: such a text, or a genotype.json. The first
two forms may stand in an assignment or in a log. SPACE is one of the DARTS family whose networks differ from DARTS's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from midas.spaces.forms import FORMS, written
from midas.spaces.genotype import check_nodes
from midas.spaces.given import read_given


def main() -> None:
    """Print the form, or write genotype.json; wrong input ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m midas.genotype", description=__doc__.partition("\n\n")[0])
    parser.add_argument("cell", help="text of a cell, or a file that holds one")
    parser.add_argument("file", type=Path, nargs="?", help="genotype.json to write")
    parser.add_argument("space", nargs="?", default="darts", help="of the DARTS family, where a text doesn't say it")
    parser.add_argument("--to", choices=FORMS, help="form to print")
    arguments = parser.parse_args()
    if (arguments.file is None) == (arguments.to is None):
        parser.error("name a file to write or a form (--to), one of the two")
    try:
        genotype = read_given(arguments.cell, arguments.space)
        check_nodes(genotype)
        if arguments.to:
            print(written(genotype, arguments.to))
        else:
            genotype.save(arguments.file)
    except (ValueError, OSError) as error:
        wrong = f"{arguments.file}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
