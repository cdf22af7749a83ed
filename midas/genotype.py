"""A published cell as the file that a retraining reads: ``python -m midas.genotype TEXT FILE [SPACE]``.

It writes the JSON file of the cell, which `midas.retrain` and `midas.transfer` read. SPACE is one of the DARTS family whose
networks differ from DARTS's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from midas.spaces.genotype import check_nodes, parse


def main() -> None:
    """Write the genotype.json of a text; wrong input ends in one line and exit code 2."""
    if len(sys.argv) not in (3, 4):
        sys.exit(
            "usage: python -m midas.genotype TEXT FILE [SPACE]\n  writes genotype.json, as a retraining reads it, of a text form"
        )
    try:
        genotype = parse(sys.argv[1], *sys.argv[3:])
        check_nodes(genotype)
        genotype.save(Path(sys.argv[2]))
    except (ValueError, OSError) as error:
        wrong = f"{sys.argv[2]}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
