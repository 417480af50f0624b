"""State norms along a text: what grows beyond the training length, and what the scales hold back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mambascope.spectra.norms import StateNorms, table1

from .lengths import mark_lengths, token_axis
from .style import LAYERS_IN_LEGEND, METHODS, layer_colours, new_figure, styled

Floats = npt.NDArray[np.float64]

SCALED_LINE = (0, (4, 1.5))
GUIDES = (("x2 per doubling", "x2 per doubling", 1.0), ("x1.41 per doubling", "x1.41", 0.5))
"""A constant input fills a mode without decay in proportion to length; noise, to its square root."""


def _positive(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return np.where(array > 0, array, np.nan)  # a logarithmic axis has no place for a state of exactly zero


def _slope_guides(axes: Axes, norms: StateNorms, train_length: int) -> None:
    """Two short grey lines that start above the curves at T, for the eye to compare slopes with."""
    lengths = np.array(norms.lengths_tokens)
    beyond = lengths[lengths > train_length]
    if beyond.size == 0:
        return
    nearest = int(np.abs(np.log(lengths / train_length)).argmin())
    level = 3 * float(norms.rms()[nearest].max()) or 1.0
    at = np.array([train_length, min(int(beyond[-1]), 16 * train_length)])
    for name, text, power in GUIDES:
        guide = level * (at / train_length) ** power
        axes.plot(at, guide, color="#777777", linestyle=":", linewidth=1.2, label=f"guide {name}")
        look: dict[str, Any] = {"textcoords": "offset points", "color": "#555555", "fontsize": 6.5, "va": "center"}
        axes.annotate(text, (at[-1], guide[-1]), (3, 0), **look)


def _position_axes(axes: Axes, norms: StateNorms, train_length: int | None, target_length: int | None) -> None:
    low, high = min(norms.lengths_tokens), max(norms.lengths_tokens)
    axes.set_yscale("log")
    axes.set_xlim(low if low < high else low / 2, high if low < high else high * 2)
    token_axis(axes, "position in the text (tokens)")
    mark_lengths(axes, train_length, target_length)


@styled
def norms_figure(
    norms: StateNorms,
    scaled: StateNorms | None = None,
    train_length: int | None = None,
    target_length: int | None = None,
) -> Figure:
    """Draw every layer's RMS state norm by position, and the same with scales.

    Args:
        norms: without scales.
        scaled: with them, if there are any.
        train_length: T, to mark.
        target_length: L, to mark.

    Returns:
        One log-log panel.
    """
    figure = new_figure(norms.name, "size of the state along the text", 3.5)
    axes = figure.subplots()
    n_layer = norms.vector_l2.shape[1]
    colours = layer_colours(axes, figure, n_layer)
    few = n_layer <= LAYERS_IN_LEGEND
    handles = [Line2D([], [], color=colours[layer], label=f"layer {layer}") for layer in range(n_layer if few else 0)]
    for label, of, line in (("no scaling", norms, "-"), ("spectrum-guided", scaled, SCALED_LINE)):
        if of is None:
            continue
        rms = of.rms()
        for layer in range(n_layer):
            look = {"color": colours[layer], "linestyle": line, "marker": "o" if len(rms) < 6 else ""}
            axes.plot(of.lengths_tokens, _positive(rms[:, layer]), label=f"{label}, layer {layer}", **look)
        handles.append(Line2D([], [], color="black", linestyle=line, label=label))
    if train_length is not None:
        _slope_guides(axes, norms, train_length)
    _position_axes(axes, norms, train_length, target_length)
    axes.set_ylabel("RMS of the layer's state norm (L2)")
    if few:
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        axes.legend(handles=handles, loc="best")
    return figure


def _band(axes: Axes, norms: StateNorms, method: str) -> None:
    cells, style = table1(norms), METHODS[method]
    lengths = [cell.length_tokens for cell in cells]
    low, high = _positive([cell.min for cell in cells]), _positive([cell.max for cell in cells])
    axes.fill_between(lengths, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axes.plot(lengths, high, color=style.colour, label=f"{style.label}: largest")
    axes.plot(lengths, low, color=style.colour, linestyle=":", label=f"{style.label}: smallest")


@styled
def vector_norms_figure(
    norms: StateNorms,
    scaled: StateNorms | None = None,
    train_length: int | None = None,
    target_length: int | None = None,
) -> Figure:
    """Draw the largest and smallest state-vector norm of the widest cache: the paper's Table 1 as a curve.

    Args:
        norms: without scales.
        scaled: with them, if there are any.
        train_length: T, to mark.
        target_length: L, to mark.

    Returns:
        One log-log panel with a band without scales and, if there are any, one with them.
    """
    figure = new_figure(norms.name, "range of state-vector norms (Table 1 of the paper)", 3.1)
    axes = figure.subplots()
    _band(axes, norms, "none")
    if scaled is not None:
        _band(axes, scaled, "spectrum")
    _position_axes(axes, norms, train_length, target_length)
    axes.set_ylabel("norm of a state vector (L2)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
