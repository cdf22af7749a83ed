"""Figures 6 and 7: the cells found on the first and the second data set in the DARTS space."""

from __future__ import annotations

from matplotlib.figure import Figure

from midas.analysis.cells import cell_size, draw_cell
from midas.analysis.style import WIDTH, panel_label
from midas.genotype import Genotype, load
from midas.plan import Plan

NAMES = {"normal": "normal cell", "reduce": "reduction cell", "cell": "cell"}


def found_cells(plan: Plan, index: int) -> Figure:
    """Draw the cells that the first attention method found with the first seed.

    Neither method nor seed is chosen by a result.

    Args:
        plan: the configuration.
        index: number of the DARTS experiment in the configuration, from 0.

    Raises:
        ValueError: no attention method is evaluated in that experiment, or the genotype file is missing.
    """
    experiment = [e for e in plan.config.experiments if e.space == "darts"][index]
    attention = [name for name in experiment.methods if plan.config.methods[name].weights == "attention"]
    if not attention:
        raise ValueError(
            f"experiment darts on {experiment.dataset}: methods {experiment.methods} hold no attention method"
        )
    folder = plan.folder("darts", experiment.dataset, attention[0], plan.config.seeds[0])
    return draw_genotype(load(folder / "decode/genotype.json"))


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
