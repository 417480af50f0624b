"""How many tokens every mode remembers, before and after scaling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mambascope.analysis.study import Study

from .lengths import mark_lengths
from .spectrum import even_ranks
from .style import METHODS, new_figure, styled

Floats = npt.NDArray[np.float64]

MOST_POINTS = 512


def sorted_horizons(layers: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Sort the horizons of all modes from the longest.

    Args:
        layers: tau of each layer's modes, in tokens.

    Returns:
        Share of modes up to a mode, in percent, and its horizon; at most ``MOST_POINTS`` evenly spaced modes.
    """
    tau = np.sort(np.concatenate([values.ravel() for values in layers]))[::-1]
    ranks = even_ranks(tau.size, MOST_POINTS)
    return (ranks + 0.5) / tau.size * 100, tau[ranks]


@styled
def horizons_figure(study: Study) -> Figure:
    """Draw all modes' horizons, sorted, without scales and with them, and mark T and L.

    Args:
        study: a finished study.

    Returns:
        One panel; a model that is left alone has one curve.
    """
    figure = new_figure(study.name, "how long its modes remember", 2.9, 5.2)
    axes = figure.subplots()
    curves = [("none", study.proposal.diagnosis.spectrum)]
    if study.proposal.acts:
        curves.append(("spectrum", study.scaled_spectrum))
    for method, spectrum in curves:
        share, tau = sorted_horizons(spectrum.horizons_tokens())
        style = METHODS[method]
        marker = style.marker if tau.size <= 64 else ""
        axes.plot(share, tau, color=style.colour, linestyle=style.line, marker=marker, markersize=3, label=style.label)
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, study.train_length / 2), max(high, study.target_length * 2))
    mark_lengths(axes, study.train_length, study.target_length, along="y")
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel("modes of all layers, longest memory first (% of modes)")
    axes.set_ylabel("horizon tau (tokens)")
    axes.set_title("shaded: longer than the training length", color="#555555", pad=6)
    axes.legend(loc="best")
    return figure
