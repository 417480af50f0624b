"""The passkey grid, drawn: a panel a method, a cell a length and depth, the share of keys by shade and as a number.

Shades run from white to one dark blue, so that they read alike with any colour vision and in grey; a cell that is
solved has a dark outline besides.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mambascope.analysis.passkey.evaluation import PasskeyFound
from mambascope.analysis.passkey.grid import SOLVED, PasskeyGrid

from .lengths import tokens_text
from .style import MARK_COLOUR, WIDE_INCHES, new_figure, plain, styled

PANELS_ACROSS = 3
OUTLINE_COLOUR = "#000000"
SHADES = "Blues"
CELL_INCHES = 0.24
"""Height of a cell."""


@styled
def grid_figure(found: PasskeyFound) -> Figure:
    """Draw the grids of all methods side by side.

    Args:
        found: a finished evaluation.

    Returns:
        A panel a method, in the order in which they were asked for.
    """
    across = min(PANELS_ACROSS, len(found.grids))
    down = -(-len(found.grids) // across)
    lengths, depths = found.plan.lengths, found.plan.depths
    title = f"keys found, {found.examples_words()}; outlined: {SOLVED:.0%} or more"
    height = 0.9 + down * (CELL_INCHES * len(depths) + 0.75)
    figure = new_figure(found.model, title, height, WIDE_INCHES if across > 1 else WIDE_INCHES / 2)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for axes, each, grid in zip(panels.flat, found.fitted, found.grids, strict=False):
        mesh = _panel(axes, grid, lengths, depths)
        axes.set_title(plain(each.method, 36), pad=12)
        _mark_training(axes, lengths, found.train_length)
    for axes in list(panels.flat)[len(found.grids) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel("depth of the key")
    for column, axes in enumerate(panels[-1]):
        lowest = axes if axes.get_visible() else panels[-2][column]
        lowest.set_xlabel("length (tokens)")
        lowest.tick_params(labelbottom=True)
    assert mesh is not None
    figure.colorbar(mesh, ax=panels, label="share of keys found", shrink=0.8, pad=0.02)
    return figure


def _panel(
    axes: Axes, grid: PasskeyGrid, lengths: tuple[int, ...], depths: tuple[float, ...]
) -> mpl.collections.QuadMesh:
    by_place = {(cell.length, cell.depth): cell for cell in grid.cells}
    shares = np.array([[by_place[n, d].share for n in lengths] for d in depths])
    mesh = axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1, edgecolors="#d0d0d0", linewidth=0.4)
    small = 6 if len(lengths) <= 6 else 5
    for row, depth in enumerate(depths):
        for column, length in enumerate(lengths):
            cell = by_place[length, depth]
            text = "x" if cell.broken else f"{100 * cell.share:.0f}"
            dark = shares[row, column] > 0.6
            axes.text(
                column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=small,
                color="white" if dark else "black",
            )  # fmt: skip
            if cell.is_solved:
                box = (column + 0.06, row + 0.08)
                axes.add_patch(Rectangle(box, 0.88, 0.84, fill=False, edgecolor=OUTLINE_COLOUR, linewidth=1.1))
    axes.set_xticks(np.arange(len(lengths)) + 0.5, [tokens_text(n) for n in lengths], fontsize=small + 0.5)
    axes.set_yticks(np.arange(len(depths)) + 0.5, [f"{d:g}" for d in depths])
    axes.tick_params(length=0)
    axes.set_ylim(len(depths), 0)  # depth 0, the start of the text, on top
    return mesh


def _mark_training(axes: Axes, lengths: tuple[int, ...], train_length: int) -> None:
    """Draw a line behind the last length that fits into the training length."""
    inside = sum(n <= train_length for n in lengths)
    axes.axvline(inside, color=MARK_COLOUR, linewidth=1.4, linestyle=(0, (4, 2)), clip_on=False)
    axes.text(
        inside, 1.02, f"T = {tokens_text(train_length)}", transform=axes.get_xaxis_transform(), ha="center",
        va="bottom", color=MARK_COLOUR, fontsize=6.5,
    )  # fmt: skip
