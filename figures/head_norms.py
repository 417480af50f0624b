"""Norms of single heads far beyond the training length, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from mambascope.analysis.head_norms import HeadNorms
from mambascope.analysis.norm_forms import DEFAULT_FORM

from .lengths import tokens_text
from .style import LAYERS_IN_LEGEND, MARK_COLOUR, layer_colours, new_figure, plain, styled

TRAINED_COLOUR = "#b8b8b8"

INPUTS = {
    "model": "in the model's own run",
    "replay": "replayed on inputs that stayed in range",
}


def _limits(norms: Sequence[HeadNorms]) -> tuple[float, float]:
    values = np.concatenate([v[v > 0] for n in norms for v in (n.measured, n.trained, n.predicted[DEFAULT_FORM])])
    return float(values.min()) / 1.6, float(values.max()) * 1.6


def _panel(axes: Axes, norms: HeadNorms, colours: Sequence[Any]) -> None:
    heads = norms.measured[0].size
    rim: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.3}
    size = 16 if heads <= 64 else 6
    for layer, colour in enumerate(colours):
        label = f"layer {layer}: {norms.by_layer()[layer]:.1%}"
        points = (norms.predicted[DEFAULT_FORM][layer], norms.measured[layer])
        axes.scatter(*points, s=size, color=colour, label=label, zorder=3 + (len(colours) - layer) / 100, **rim)
    # where a head would stand if its norm were predicted to stay what it was at T
    axes.scatter(norms.trained, norms.measured, s=size / 3, color=TRAINED_COLOUR, label="no growth after T", zorder=2)
    what = "heads" if norms.unit == "head" else "channels"
    axes.set_title(f"{plain(norms.name)}, {norms.measured.size} {what},\n{INPUTS[norms.inputs]}", pad=6)


@styled
def head_norms_figure(norms: Sequence[Sequence[HeadNorms]]) -> Figure:
    """Draw measured against predicted norms of every head, one panel for each measurement.

    Args:
        norms: rows of panels: for each model its head norms, such as those of its own run and of a replay. Mamba-1's
            modes are drawn by channel.

    Returns:
        A grid with one line of panels a model; grey points stand where a prediction of no growth would.
    """
    shown = [[each.by_channel() for each in row] for row in norms]
    first = shown[0][0]
    T, L = tokens_text(first.train_length), tokens_text(first.target_length)
    title = f"norms at L = {L} tokens, predicted from windows of T = {T}"
    columns = max(len(row) for row in shown)
    figure = new_figure("every head", title, 0.5 + 3.0 * len(shown), 0.7 + 3.0 * columns)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    n_layer = max(len(each.measured) for row in shown for each in row)
    colours = layer_colours([axes for line in grid for axes in line], figure, n_layer)
    for line, row in zip(grid, shown, strict=True):
        low, high = _limits(row)
        for axes, each in zip(line, row, strict=False):
            _panel(axes, each, colours[: len(each.measured)])
            axes.plot([low, high], [low, high], color=MARK_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
            axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("predicted RMS norm")
            axes.set_ylabel("measured RMS norm")
            error = f"median error {each.median_error():.1%}"
            if n_layer <= LAYERS_IN_LEGEND:
                legend = axes.legend(loc="lower right", title=error, handletextpad=0.2, borderaxespad=0.2)
                legend.get_title().set_fontsize(7)
            else:
                axes.text(0.97, 0.04, error, transform=axes.transAxes, ha="right")
        for spare in line[len(row) :]:
            spare.set_visible(False)
    return figure
