"""One look for all figures: fonts, colours, names, the note on the size, files that don't change from run to run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from midas.config.keys import Config

COLUMN = 3.3
WIDTH = 7.0
"""Widths of one column and of the page in inches; fonts are sized for print at these widths."""

GREY = "#666666"

COLOURS = {
    "none": "#B8B8B8",
    "noise": "#4E1056",
    "skip_connect": "#444444",
    "max_pool_3x3": "#0E5D1C",
    "avg_pool_3x3": "#A0E070",
    "sep_conv_3x3": "#0073F6",
    "sep_conv_5x5": "#23C3FE",
    "dil_conv_3x3": "#CC740B",
    "dil_conv_5x5": "#EED01C",
    "nor_conv_3x3": "#1812CD",
    "nor_conv_1x1": "#A33FA5",
}
"""One colour for each operation. Within a space any two are at least 23 CIELAB units apart, in normal vision and with
protanopia, deuteranopia or tritanopia (Machado et al. 2009)."""

METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
METHOD_MARKERS = ("o", "s", "^", "D", "v", "P")
"""Okabe and Ito's colours, each with a marker, for methods in the order of the configuration."""

RC: Any = {  # matplotlib.rc_context(RC) around drawing and saving
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "midas",
    "text.parse_math": False,  # a note, a class or a group may hold dollar signs; what is a formula says so where it is drawn
    "savefig.dpi": 300,
}


def operation_label(operation: str, short: bool = False) -> str:
    """An operation's name for people, without "conv" and "pool" where room is short."""
    name = {"skip_connect": "skip"}.get(operation, operation.removeprefix("nor_").replace("_", " "))
    name = re.sub(r"(\d)x(\d)", "\\1\N{MULTIPLICATION SIGN}\\2", name)
    return re.sub(r" (conv|pool) ", " ", name) if short else name


def node_label(family: str, node: int) -> str:
    """A node's name as the papers print it: in DARTS the inputs are c_{k-2} and c_{k-1} and the first node is 0.

    It is a formula: to be drawn with parse_math=True.
    """
    if family != "darts":
        return str(node)
    return ("$c_{k-2}$", "$c_{k-1}$")[node] if node < 2 else str(node - 2)


def panel_label(ax: Axes, letter: str, text: str) -> None:
    """Put "a  text" above a panel, on the left."""
    ax.set_title(rf"$\bf{{{letter}}}$  {plain(text)}", pad=4, parse_math=True)


def plain(text: str) -> str:
    """Text of a user within one that is parsed for formulas."""
    return text.replace("$", r"\$")


def add_note(figure: Figure, config: Config) -> None:
    """Say inside the picture which size it shows, unless that is the paper's protocol; the layout keeps room for it."""
    if not config.paper_protocol:
        characters = int(figure.get_figwidth() * 72 / (0.55 * 6))  # a character of DejaVu Sans is about 0.55 em wide
        text = textwrap.fill(f"size {config.size}: {config.note}", characters)
        figure.supxlabel(text, fontsize=6, color=GREY, x=0.01, ha="left")


def save(figure: Figure, folder: Path, number: int | str) -> None:
    """Write figure_NN.pdf and figure_NN.png, or figure_s1 and on; equal figures give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"figure_{number:02d}" if isinstance(number, int) else f"figure_{number.lower()}"
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png")
