"""The spectrum of every layer: static exp(-|A|), what a token really keeps on text, and the horizons that follow.

Layers are rows, a layer's modes are sorted from the largest value, each panel by its own values.
Source: Mamba Modulation (arXiv 2509.19633), Figure 1, for the static panel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mambascope.spectra.eigenvalues import Spectrum

from .lengths import tokens_text
from .style import MARK_COLOUR, WIDE_INCHES, new_figure, styled

Floats = npt.NDArray[np.float64]

BELOW: dict[str, Any] = {"location": "bottom", "aspect": 30, "pad": 0.06}

MOST_COLUMNS = 256
"""More modes than this are shown by evenly spaced ranks; the largest and the smallest are always among them."""


def even_ranks(modes: int, at_most: int = MOST_COLUMNS) -> npt.NDArray[np.intp]:
    """Return ranks 0 .. modes - 1, or as many evenly spaced ones as may be shown.

    >>> even_ranks(9, at_most=3)
    array([0, 4, 8])
    """
    return np.linspace(0, modes - 1, min(modes, at_most)).round().astype(np.intp)


def mode_word(arch: str) -> str:
    """Return what one mode of an architecture is."""
    return "head" if arch == "mamba2" else "(channel, state)"


def _sorted_rows(layers: Sequence[Floats]) -> Floats:
    rows = np.stack([np.sort(values, axis=None)[::-1] for values in layers])
    return rows[:, even_ranks(rows.shape[1])]


def layer_heatmap(axes: Axes, values: Floats, modes: int, *, first: int = 1, **look: Any) -> Any:
    """Draw (n_layer, columns) as cells, layer 0 on top, columns spread over as many numbers as there are modes."""
    across = np.linspace(first - 0.5, first + modes - 0.5, values.shape[1] + 1)
    down = np.arange(values.shape[0] + 1) - 0.5
    mesh = axes.pcolormesh(across, down, values, rasterized=True, **look)
    axes.set_ylim(values.shape[0] - 0.5, -0.5)
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.spines[:].set_visible(False)
    return mesh


def _horizon_norm(log_tau: Floats, train_length: int | None) -> Normalize:
    """White at T, one colour on each side; a side without modes still gets half a decade."""
    low, high = float(log_tau.min()), float(log_tau.max())
    if train_length is None:
        return Normalize(low, high)
    centre = float(np.log10(train_length))
    return TwoSlopeNorm(centre, min(low, centre - 0.5), max(high, centre + 0.5))


@styled
def spectrum_figure(found: Spectrum, train_length: int | None = None) -> Figure:
    """Draw the static spectrum and, where a text was read, the effective one and the horizons.

    Args:
        found: a spectrum.
        train_length: T, to mark among the horizons.

    Returns:
        One heatmap, or three with a text.
    """
    modes, n_layer = found.rates[0].size, found.n_layer
    measured = found.moments is not None
    height = float(np.clip(2.7 + 0.1 * n_layer, 3.1, 7.0))
    figure = new_figure(found.name, "spectrum by layer", height, WIDE_INCHES if measured else 3.5)
    panels = list(figure.subplots(1, 3 if measured else 1, sharey=True, squeeze=False)[0])
    unit: dict[str, Any] = {"norm": Normalize(0, 1), "cmap": "cividis"}
    mesh = layer_heatmap(panels[0], _sorted_rows(found.eigenvalues("static")), modes, **unit)
    panels[0].set_title("one step of size 1\nexp(-|A|)")
    panels[0].set_ylabel("layer")
    if measured:
        layer_heatmap(panels[1], _sorted_rows(found.eigenvalues("effective")), modes, **unit)
        panels[1].set_title("one token of text\nE exp(-dt |A|)")
        _horizon_panel(panels[2], found, train_length)
    for axes in panels:
        axes.title.set_multialignment("left")
        axes.set_xlabel(f"rank of {mode_word(found.arch)}")
    figure.colorbar(mesh, ax=panels[:2], label="eigenvalue (1 = forgets nothing)", shrink=0.6, **BELOW)
    return figure


def _horizon_panel(axes: Axes, found: Spectrum, train_length: int | None) -> None:
    log_tau = np.log10(_sorted_rows(found.horizons_tokens()))
    norm = _horizon_norm(log_tau, train_length)
    mesh = layer_heatmap(
        axes, log_tau, found.rates[0].size, norm=norm, cmap="Reds" if train_length is None else "RdBu_r"
    )
    axes.set_title("memory on text\ntau = 1 / (|A| E dt)")
    bar = axes.figure.colorbar(mesh, ax=axes, label="horizon tau (tokens)", **BELOW)
    low, high = float(log_tau.min()), float(log_tau.max())
    sides = [(low, high)]
    if train_length is not None:
        centre = float(np.log10(train_length))
        sides = [(low, centre - 0.3), (centre + 0.3, high)]
        bar.ax.axvline(centre, color=MARK_COLOUR, linewidth=1.5)
        look: dict[str, Any] = {"ha": "center", "va": "bottom", "color": MARK_COLOUR}
        text = f"T = {tokens_text(train_length)}"
        bar.ax.text(centre, 1.1, text, transform=bar.ax.get_xaxis_transform(), **look)
    bar.set_ticks([tick for side in sides for tick in _decades(*side)])
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))


def _decades(low: float, high: float) -> list[float]:
    """Return at most three whole decades between two logarithms."""
    decades = [float(d) for d in range(math.ceil(low), math.floor(high) + 1)]
    return decades[:: max(1, -(-len(decades) // 3))]
