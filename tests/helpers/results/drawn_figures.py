"""Figures as they are drawn, and their texts."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from midas.analysis.figures import drawing as figures
from midas.analysis.figures import style
from midas.config.keys import Config
from midas.plan.plan import Plan

NUMBERS = [1, 2, 3, 4, 5, 6, 7, 12]


def drawn(number: int, config: Config) -> Figure:
    with matplotlib.rc_context(style.RC):
        figure = figures.FIGURES[number](Plan(config))
        style.add_note(figure, config)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
