"""Bits per token by position and by length: the breakdown, and how much of it each method mends.

Documents differ far more than methods do, so what counts is shown as a difference on the same tokens. Its axis is
linear near zero and logarithmic beyond, so that neither the blow-up nor a thousandth of a bit is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mambascope.analysis.study import Study, bits_by_position

from .lengths import mark_lengths, token_axis, tokens_text
from .style import MARK_COLOUR, from_zero, method_style, new_figure, plain, styled

CONTROL = "fresh-window"
LINEAR_BELOW_BITS = 0.01
"""Differences up to here are on the linear part of the axis; ours, a hundredth of a bit is 0.7 % of perplexity."""


def method_label(study: Study, method: str) -> str:
    """Return a method's name for a legend, with the factor where it is a constant."""
    label = method_style(method).label
    return f"{label} ({study.best_constant:g})" if method == "constant" else label


def shown_methods(study: Study) -> list[str]:
    """Return the methods that say something of their own: without scales, spectrum-guided is the unscaled model."""
    return [method for method in study.bits if study.proposal.acts or method != "spectrum"]


def difference_axis(axes: Axes) -> None:
    """Make the y axis linear near zero and logarithmic beyond, ticks in bits."""
    low, high = (float(v) for v in axes.dataLim.intervaly)
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW_BITS, linscale=0.8)
    reach = LINEAR_BELOW_BITS * 10.0 ** np.arange(5)
    ticks = [*(-reach), 0.0, *reach]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_ylim(min(-LINEAR_BELOW_BITS, 2 * low), max(LINEAR_BELOW_BITS, 2 * high))
    axes.axhline(0, color=MARK_COLOUR, linewidth=0.8, zorder=1)


def _curve(axes: Axes, curve: dict[str, list[Any]], method: str, label: str) -> None:
    style = method_style(method)
    centre = np.sqrt(np.array(curve["start"], dtype=float) * np.array(curve["stop"], dtype=float))
    axes.plot(centre, curve["mean"], color=style.colour, linestyle=style.line, label=label)
    if curve["low"] != curve["high"]:  # one document has no spread
        axes.fill_between(centre, curve["low"], curve["high"], color=style.colour, alpha=0.18, linewidth=0)


@styled
def curves_figure(study: Study) -> Figure:
    """Draw bits per token by position, and the same less the control's.

    Args:
        study: a finished study.

    Returns:
        Two panels above each other.
    """
    figure = new_figure(study.name, "bits per token along the text", 5.0)
    whole, difference = figure.subplots(2, 1, sharex=True)
    for method in shown_methods(study):
        label = method_label(study, method)
        _curve(whole, bits_by_position(study.bits[method]), method, label)
        if method != CONTROL:
            _curve(difference, bits_by_position(study.bits[method] - study.bits[CONTROL]), method, label)
    from_zero(whole)
    whole.set_ylabel("bits per token")
    difference.set_ylabel("bits more than the control,\non the same tokens")
    difference_axis(difference)
    token_axis(difference, "position in the text (tokens)")
    for axes in (whole, difference):
        mark_lengths(axes, study.train_length, study.target_length)
    whole.legend(loc="best")
    return figure


@styled
def models_figure(studies: Sequence[Study]) -> Figure:
    """Draw the whole story: bits more than the control along the text, unscaled and with the scales, a panel a model.

    Args:
        studies: finished studies.

    Returns:
        Panels in rows of three, all to one scale.
    """
    across = min(len(studies), 3)
    down = -(-len(studies) // across)
    figure = new_figure("breakdown and cure", "bits per token more than the control, along the text", 0.5 + 2.2 * down)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, study in zip(grid.ravel(), studies, strict=False):
        for method in [m for m in ("none", "spectrum") if m in shown_methods(study)]:
            curve = bits_by_position(study.bits[method] - study.bits[CONTROL])
            _curve(axes, curve, method, method_style(method).label)
        axes.axhline(0, color=MARK_COLOUR, linewidth=0.8, zorder=1)
        axes.set_title(plain(study.name))
        token_axis(axes, "position in the text (tokens)")
        mark_lengths(axes, study.train_length, None)
        axes.legend(loc="upper left")
    for axes in grid[:, 0]:
        axes.set_ylabel("bits more than the control")
    for axes in grid.ravel()[len(studies) :]:
        axes.set_visible(False)
    return figure


@styled
def tail_figure(study: Study) -> Figure:
    """Draw tail bits by length, and harm by length with its 95 % interval.

    Args:
        study: a finished study.

    Returns:
        Two panels side by side.
    """
    figure = new_figure(study.name, "the second half of each length", 3.1)
    tail, harm = figure.subplots(1, 2)
    lengths = sorted({row.length for row in study.rows})
    methods = shown_methods(study)
    for place, method in enumerate(methods):
        style, label = method_style(method), method_label(study, method)
        rows = [study.row(method, length) for length in lengths]
        across = np.arange(len(lengths)) + 0.14 * (place - (len(methods) - 1) / 2)  # side by side, not on top
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": "none", "label": label}
        tail.plot(across, [row.tail_bits_per_token for row in rows], **look)
        if method == CONTROL:
            continue
        harm.plot(across, [row.harm for row in rows], **look)
        for x, row in zip(across, rows, strict=True):
            if row.harm_ci_low is not None:
                harm.vlines(x, row.harm_ci_low, row.harm_ci_high, color=style.colour, linewidth=1.3)
    tail.set_ylabel("tail bits per token")
    from_zero(tail)
    harm.set_ylabel("harm (bits more than the control)")
    difference_axis(harm)
    for axes in (tail, harm):
        axes.set_xticks(range(len(lengths)), [_length_name(study, length) for length in lengths])
        axes.set_xlabel("length (tokens)")
        axes.set_xlim(-0.5, len(lengths) - 0.5)
    tail.legend(loc="best")
    return figure


def _length_name(study: Study, length: int) -> str:
    name = {study.train_length: "T = ", study.target_length: "L = "}.get(length, "")
    return name + tokens_text(length)
