"""A calibration on the way: bits of the selection windows by forward passes, and what became of the factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mambascope.analysis.calibration import Calibrated
from mambascope.analysis.study import Study

from .spectrum import even_ranks, mode_word
from .style import LAYERS_IN_LEGEND, MARK_COLOUR, METHODS, layer_colours, new_figure, styled

MOST_POINTS = 400
"""Of a layer's factors that are drawn, evenly spaced in rank."""


@styled
def calibration_figure(study: Study) -> Figure:
    """Draw the selection bits by passes, and calibrated against proposed factors.

    Args:
        study: a study with refined scales.

    Returns:
        Two panels side by side.

    Raises:
        ValueError: the study was not refined.
    """
    if study.refined is None:
        raise ValueError(f"{study.name}: no scales were refined")
    found = study.refined.found
    figure = new_figure(study.name, "the proposal refined on text", 3.1)
    passes, factors = figure.subplots(1, 2)
    _selection(passes, found)
    before, after = (np.asarray(scales.factors[0].values.numpy()) for scales in (found.start, found.scales))
    before = np.broadcast_to(before.reshape(before.shape + (1,) * (after.ndim - before.ndim)), after.shape)
    after = np.broadcast_to(after.reshape(after.shape + (1,) * (before.ndim - after.ndim)), before.shape)
    for layer, colour in enumerate(layer_colours(factors, figure, len(after))):
        x, y = before[layer].ravel(), after[layer].ravel()
        chosen = np.argsort(x, kind="stable")[even_ranks(x.size, MOST_POINTS)]
        named = f"layer {layer}" if len(after) <= LAYERS_IN_LEGEND else "_"
        factors.plot(
            x[chosen], y[chosen], "o", color=colour, markersize=3 if x.size <= MOST_POINTS / 10 else 1.5, label=named
        )
    both = np.stack([before, after])
    low, high = both.min(), both.max()
    factors.plot([low, high], [low, high], color=MARK_COLOUR, linewidth=0.8, zorder=1)
    factors.set_xscale("log")
    factors.set_yscale("log")
    factors.set_xlabel("proposed factor on |A| (times)")
    factors.set_ylabel(f"calibrated factor, one point a {mode_word(study.arch)}")
    if len(after) <= LAYERS_IN_LEGEND:
        factors.legend()
    return figure


def _selection(axes: Axes, found: Calibrated) -> None:
    """Draw every look at the selection windows, the best so far, and the point that was kept."""
    style = METHODS["calibrated"]
    looks = [(step.passes, step.selection.tail) for step in found.history if step.selection is not None]
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
    axes.plot(*zip(*looks, strict=True), **look, label="looked at")
    best: dict[str, Any] = {"color": MARK_COLOUR, "linewidth": 0.8}
    axes.step(*zip(*found.best_so_far(), strict=True), where="post", **best, label="best so far")
    kept = found.history[found.step]
    axes.plot([kept.passes], [found.bits.tail], "*", color="black", markersize=11, label=f"kept: step {kept.step}")
    start = METHODS["spectrum"]
    line: dict[str, Any] = {"color": start.colour, "linewidth": 0.8, "linestyle": "--"}
    axes.axhline(found.start_bits.tail, **line, label=f"start: {start.label}")
    axes.set_xlabel(f"forward passes over windows of {found.plan.target_length:,} tokens")
    axes.set_ylabel("tail bits per token, selection text")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend()
