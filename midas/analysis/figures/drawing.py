"""Draw one figure: ``python -m midas.analysis.figures RUN FOLDER`` writes figure_NN.pdf and figure_NN.png."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from midas.analysis.figures import style
from midas.analysis.figures.attention import attention
from midas.analysis.figures.dip import dip
from midas.analysis.figures.found_cells import found_cells
from midas.analysis.figures.progress import progress
from midas.analysis.figures.similarity import class_similarity
from midas.analysis.figures.weights import mean_weights, spread_over_images
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.plan.shown import CELL_FIGURES

FIGURES: dict[int, Callable[[Plan], Figure]] = {
    1: attention,
    2: mean_weights,
    3: dip,
    4: class_similarity,
    5: spread_over_images,
    **{number: partial(found_cells, number=number) for number in CELL_FIGURES},
    12: progress,
}


def draw(run: PresentRun, folder: Path) -> None:
    """Draw the figure `run.number`.

    Raises:
        ValueError: the configuration has no such figure, or a file that it needs is missing or damaged.
    """
    plan = Plan(run.config)
    if run.number not in plan.figures():
        raise ValueError(f"figure {run.number} does not exist at size {run.config.size}; allowed: {plan.figures()}")
    with matplotlib.rc_context(style.RC):
        figure = FIGURES[run.number](plan)
        style.add_note(figure, run.config)
        style.save(figure, folder, run.number)
