"""All of what stands beside the paper's tables; apart, since what one of them needs no other has to import.

Each module has the key of the configuration that asks for it, the numbers of its table and of its figure if it has one, whether
it needs no search (`ALONE`), what is wrong with its settings (`problems`), and which files are published with it beside those of
steps (`files`).
"""

from midas.plan.cells import Cells
from midas.plan.further import functions, neighbourhoods, proxies, ranks

FURTHER = (ranks, neighbourhoods, proxies, functions)


def tables(plan: Cells) -> list[str]:
    """Numbers of the tables that the configuration asks for."""
    return [further.TABLE for further in FURTHER if getattr(plan.config, further.KEY) is not None]


def figures(plan: Cells) -> list[str]:
    """Numbers of the figures that the configuration asks for."""
    return [further.FIGURE for further in FURTHER if further.FIGURE and getattr(plan.config, further.KEY) is not None]
