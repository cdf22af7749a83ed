"""Figures 6 to 11: the cells found on the first and the second data set in the DARTS space, and in S1 to S4."""

from __future__ import annotations

from matplotlib.figure import Figure

from midas.analysis.figures.cells import cell_size, draw_cell
from midas.analysis.figures.style import WIDTH, panel_label
from midas.plan.plan import Plan
from midas.spaces.genotype import Genotype, load

NAMES = {"normal": "normal cell", "reduce": "reduction cell", "cell": "cell"}


def found_cells(plan: Plan, number: int) -> Figure:
    """Draw the cells of the search that `Plan.shown_cell` names: neither method nor seed is chosen by a result.

    Args:
        plan: the configuration.
        number: of the figure.

    Raises:
        ValueError: the genotype file is missing or damaged.
    """
    cell = plan.shown_cell(number)
    assert cell is not None  # the dispatcher offers this figure only then
    return draw_genotype(load(plan.cell_folder(cell) / "decode/genotype.json"))


def draw_genotype(genotype: Genotype) -> Figure:
    """Draw all kinds of cell of an architecture, one below the other."""
    heights = [cell_size(genotype, kind)[1] for kind in genotype.cells]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.28 * len(heights) + 0.2), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, kind, letter in zip(axes, genotype.cells, "ab", strict=False):
        draw_cell(ax, genotype, kind)
        ax.set_anchor("W")
        if len(heights) > 1:
            panel_label(ax, letter, NAMES[kind])
    return figure
