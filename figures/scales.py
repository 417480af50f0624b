"""The proposed factors themselves, and the constants they are compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mambascope.analysis.study import Study

from .horizons import MOST_POINTS
from .spectrum import even_ranks, layer_heatmap
from .style import LAYERS_IN_LEGEND, METHODS, from_zero, layer_colours, new_figure, styled

Floats = npt.NDArray[np.float64]


def factors_of(study: Study) -> Floats:
    """Return the factor on |A| of every mode, (n_layer, nheads) or (n_layer, d_inner, d_state); ones if left alone."""
    rates = np.stack(study.proposal.diagnosis.spectrum.rates)
    if not study.proposal.acts:
        return np.ones_like(rates)
    values = np.asarray(study.proposal.scales.factors[0].values.numpy(), dtype=np.float64)
    return np.broadcast_to(values.reshape(values.shape + (1,) * (rates.ndim - values.ndim)), rates.shape)


@styled
def scales_figure(study: Study) -> Figure:
    """Draw the factors: a heatmap for one factor a head, sorted curves for one a channel and state.

    Args:
        study: a finished study.

    Returns:
        One panel with a logarithmic scale of factors.
    """
    factors = factors_of(study)
    n_layer = len(factors)
    if factors.ndim == 2:
        figure = new_figure(study.name, "factor on |A|", float(np.clip(1.6 + 0.22 * n_layer, 2.2, 6.5)), 5.2)
        axes = figure.subplots()
        norm = LogNorm(1, max(10.0, float(factors.max())))
        mesh = layer_heatmap(axes, factors, factors.shape[1], first=0, norm=norm, cmap="Blues")
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        figure.colorbar(mesh, ax=axes, label="factor s (times)")
        return figure
    figure = new_figure(study.name, "factor on |A|", 2.9, 5.2)
    axes = figure.subplots()
    for layer, colour in enumerate(layer_colours(axes, figure, n_layer)):
        ordered = np.sort(factors[layer], axis=None)[::-1]
        ranks = even_ranks(ordered.size, MOST_POINTS)
        named = f"layer {layer}" if n_layer <= LAYERS_IN_LEGEND else "_"
        axes.plot((ranks + 0.5) / ordered.size * 100, ordered[ranks], color=colour, label=named)
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    axes.set_ylim(0.8, max(10.0, 2 * float(factors.max())))
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel("modes of a layer, largest factor first (% of modes)")
    axes.set_ylabel("factor s (times)")
    if n_layer <= LAYERS_IN_LEGEND:
        axes.legend()
    return figure


@styled
def constants_figure(study: Study) -> Figure:
    """Draw the validation bits of every constant factor that was tried, and mark the best.

    Args:
        study: a finished study.

    Returns:
        One panel.
    """
    figure = new_figure(study.name, "one constant for the whole model", 2.6, 5.2)
    axes = figure.subplots()
    tried, style = sorted(study.constants), METHODS["constant"]
    axes.plot(tried, [study.constants[s] for s in tried], color=style.colour, marker=style.marker, label="tried")
    best = study.best_constant
    axes.plot([best], [study.constants[best]], "*", color="black", markersize=11, label=f"best: {best:g}")
    axes.set_xscale("log")
    axes.set_xticks(tried, [f"{s:g}" for s in tried])
    axes.minorticks_off()
    from_zero(axes)
    axes.set_xlabel("constant factor on A (times)")
    axes.set_ylabel("validation tail bits per token")
    axes.legend()
    return figure
