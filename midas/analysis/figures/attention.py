"""Figure 1: how mosaic attention works, drawn with what one node made of one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from midas.analysis.dumps import Example, load_classes, load_example
from midas.analysis.figures.style import COLOURS, GREY, WIDTH, node_label, operation_label, panel_label
from midas.plan.plan import Plan
from midas.spaces import get_space

GAP = 0.14
"""Room between two tiles as a part of a tile's side."""


def attention(plan: Plan) -> Figure:
    """Draw image, candidate maps, weights in each patch, their average and the node's output.

    Raises:
        ValueError: `search/example.npz` or `search/arch.npz` is missing or damaged.
    """
    chosen = plan.config.analysis
    assert chosen is not None  # the dispatcher offers this figure only then
    folder = plan.folder(chosen.space, chosen.dataset, chosen.method, plan.config.seeds[0]) / "search"
    example, classes = load_example(folder / "example.npz"), load_classes(folder / "arch.npz")
    family = get_space(chosen.space).family
    operations, sources = list(dict.fromkeys(example.operations)), list(dict.fromkeys(example.sources))
    figure = Figure(figsize=(WIDTH, 1.35 + 1.5 * len(sources) / len(operations)), layout="constrained")
    axes, bars = figure.subplots(2, 5, width_ratios=[1, 1.75, 1.75, 1.75, 1], height_ratios=[1, 0.05])
    image, maps, patches, average, output = axes
    _draw_image(image, example, classes[example.label])
    extent = -0.5, len(operations) - 0.5, len(sources) - 0.5, -0.5  # a tile's centre has whole coordinates
    drawn = maps.imshow(_mosaic(example, example.maps, operations, sources), extent=extent, **_diverging(example.maps))
    _colour_bar(figure, bars[1], drawn, "channel mean")
    tiles = np.moveaxis(example.patch_p, 2, 0)
    grey = {"cmap": "Greys", "vmin": 0, "vmax": tiles.max()}
    drawn = patches.imshow(_mosaic(example, tiles, operations, sources), extent=extent, **grey)
    _colour_bar(figure, bars[2], drawn, "weight in the patch")
    _draw_average(average, example, operations, sources)
    text = f"bars: mean over patches\ndotted: equal weights, {example.p.mean():.3f}"
    bars[3].text(0.5, 1, text, fontsize=7, ha="center", va="top", transform=bars[3].transAxes)
    drawn = output.imshow(example.output, **_diverging(example.output))
    _colour_bar(figure, bars[4], drawn, "channel mean")
    output.set(xticks=[], yticks=[])
    output.set_xlabel(f"node {node_label(family, example.node)}\nof cell {example.cell}", parse_math=True)
    for ax in (maps, patches, average):
        _name_tiles(ax, operations, [node_label(family, source) for source in sources] if ax is maps else [])
    maps.set_ylabel("from node", labelpad=2)
    labels = ("image", "candidate maps", "weights in patches", "their average", "output")
    for ax, letter, text in zip(axes, "abcde", labels, strict=True):
        ax.set_anchor("N")
        panel_label(ax, letter, text)
    for bar in (bars[0], bars[3]):
        bar.axis("off")
    return figure


def _diverging(values: np.ndarray) -> dict[str, Any]:
    """Colours for values around 0; the few outermost are cut off, or else one outlier would make all others pale."""
    limit = float(np.quantile(np.abs(values), 0.995)) or 1.0
    return {"cmap": "PuOr", "vmin": -limit, "vmax": limit}


def _draw_image(ax: Axes, example: Example, label: str) -> None:
    """The image with the borders of its patches."""
    _, height, width = example.image.shape
    rows, columns = example.patch_p.shape[:2]
    ax.imshow(example.image.transpose(1, 2, 0), interpolation="nearest")
    for row in range(1, rows):
        ax.axhline(row * height / rows - 0.5, color="#FF00C8", linewidth=0.9)
    for column in range(1, columns):
        ax.axvline(column * width / columns - 0.5, color="#FF00C8", linewidth=0.9)
    grid = f"{rows}\N{MULTIPLICATION SIGN}{columns} patches" if rows * columns > 1 else "one patch"
    ax.set(xticks=[], yticks=[], xlabel=f"“{label}”\n{grid}")


def _mosaic(example: Example, tiles: np.ndarray, operations: list[str], sources: list[int]) -> np.ma.MaskedArray:
    """Tiles [K, h, w] in one picture, a row for each source and a column for each operation; gaps are masked."""
    _, height, width = tiles.shape
    fine = max(1, round(1 / (GAP * min(height, width))))  # few and large pixels are repeated, so that a gap can be thin
    tiles = tiles.repeat(fine, axis=1).repeat(fine, axis=2)
    down, across = round(height * fine * (1 + GAP)), round(width * fine * (1 + GAP))
    picture = np.full((len(sources) * down, len(operations) * across), np.nan)
    for tile, operation, source in zip(tiles, example.operations, example.sources, strict=True):
        top, left = sources.index(source) * down, operations.index(operation) * across
        top, left = top + (down - height * fine) // 2, left + (across - width * fine) // 2
        picture[top : top + height * fine, left : left + width * fine] = tile
    return np.ma.masked_invalid(picture)


def _name_tiles(ax: Axes, operations: list[str], rows: list[str]) -> None:
    ax.set_xticks(range(len(operations)), [operation_label(name, short=True) for name in operations], rotation=90)
    ax.set_yticks(range(len(rows)), rows, parse_math=True)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _colour_bar(figure: Figure, ax: Axes, drawn: AxesImage, label: str) -> None:
    low, high = drawn.get_clim()
    values = np.ma.compressed(drawn.get_array())  # type: ignore[arg-type]
    sides = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = sides[bool(values.min() < low), bool(values.max() > high)]
    bar = figure.colorbar(drawn, cax=ax, orientation="horizontal", extend=extend, label=label)
    bar.ax.xaxis.set_major_locator(MaxNLocator(3))
    bar.ax.xaxis.label.set_fontsize(7)
    bar.outline.set_linewidth(0.4)


def _draw_average(ax: Axes, example: Example, operations: list[str], sources: list[int]) -> None:
    """The image's weights as bars, in the same arrangement as the maps; a line in each row marks equal weights."""
    scale = 0.85 / max(float(example.p.max()), 1e-12)
    for weight, operation, source in zip(example.p, example.operations, example.sources, strict=True):
        row, column = sources.index(source), operations.index(operation)
        ax.bar(column, -weight * scale, bottom=row + 0.45, width=0.75, color=COLOURS[operation])
    equal = float(example.p.mean()) * scale
    left, right, base = -0.5, len(operations) - 0.5, np.arange(len(sources)) + 0.45
    ax.hlines(base - equal, left, right, colors=GREY, linewidth=0.7, linestyles=":")
    ax.hlines(base, left, right, colors="black", linewidth=0.5)
    ax.set(xlim=(left, right), ylim=(len(sources) - 0.5, -0.5), aspect="equal")
