r"""Rules with one factor for many modes: the one at which, on average, their laws at L are nearest to those at T.

The distance of a mode is the Kullback-Leibler divergence of its Gaussian law after L tokens with the factor from its
law after T tokens without it; with writes of mean mu and variance v, and y = gain^2 v g_L(s r) / (v g_T(r)) - 1,

    KL = (y - ln(1 + y) + (mean_L - mean_T)^2 / (v g_T(r))) / 2.

The mean over modes is taken, not their total norm: a few large modes would decide that one, and a mode far outside its
range would go unseen (tests/analysis/test_rules.py has a layer where matching the total norm finds nothing to do).
Source: ``mambascope.simulate.growth.divergence`` is this at s = gain = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mambascope.simulate.modes import energy_gain, mean_gain
from mambascope.spectra.scales import Kind, Scales, scaling

from .evidence import Evidence, LayerEvidence

Floats = npt.NDArray[np.float64]
Axes = tuple[int, ...]

_COARSE, _FINE, _ROUNDS = 121, 17, 5
"""Points of the first search and of each finer one, which is eight times as fine: 1e-6 of the range in the end."""
_BEYOND = float(np.log(8))
"""How far the search goes on either side of what single modes ask for, which is 1 to tau / T and about T / L to 1."""
LARGEST_POWER = 8.0
"""Of ``a_power``, and 0 the least: |A|^8 moves every |A| that a power can move past any factor in use. Ours."""


def scaled_divergence(
    layer: LayerEvidence, factor: npt.ArrayLike, gain: npt.ArrayLike, train_length: int, target_length: int
) -> Floats:
    """Return how far each mode's law at L, scaled, is from its law at T, unscaled.

    Args:
        layer: evidence of one layer, with writes.
        factor: on the rates |A| dt.
        gain: on the writes.
        train_length: T.
        target_length: L.

    Returns:
        Divergences in nats, broadcast over factor, gain and the layer's modes.
    """
    c, q = layer.parts()
    r, size = 1 / layer.horizon_tokens, np.square(np.asarray(gain))
    scaled = np.asarray(factor) * r
    before = q * energy_gain(r, train_length)
    y = np.maximum(size * q * energy_gain(scaled, target_length) / before - 1, -1 + 1e-300)
    shift = np.asarray(gain) * mean_gain(scaled, target_length) - mean_gain(r, train_length)
    return np.asarray((y - np.log1p(y) + c * np.square(shift) / before) / 2)


def _nearest(cost: Callable[[Floats], Floats], low: float, high: float, groups: tuple[int, ...]) -> Floats:
    """Return where between low and high each group's cost is least: a grid, then finer ones around the best point."""
    grid = np.linspace(low, high, _COARSE).reshape(-1, *(1,) * len(groups)) * np.ones(groups)
    step = (high - low) / (_COARSE - 1)
    for _ in range(_ROUNDS):
        best = np.take_along_axis(grid, cost(grid).argmin(0)[None], 0)[0]
        grid = np.clip(best + step * np.linspace(-1, 1, _FINE).reshape(-1, *(1,) * len(groups)), low, high)
        step *= 2 / (_FINE - 1)
    return np.asarray(np.take_along_axis(grid, cost(grid).argmin(0)[None], 0)[0])


def nearest_factor(kind: Kind, layer: LayerEvidence, train_length: int, target_length: int, axes: Axes) -> Floats:
    """Return the factor at which the mean divergence over some axes of a layer is least.

    Args:
        kind: ``a``, ``a_power`` or ``dt``.
        layer: evidence of one layer, with writes.
        train_length: T.
        target_length: L.
        axes: of the layer's modes that share a factor.

    Returns:
        Factors, of the shape of the other axes.
    """
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(layer.rate.shape))
    over = tuple(axis + 1 for axis in axes)

    def cost(x: Floats) -> Floats:
        s = x if kind == "a_power" else np.exp(x)
        factor = layer.rate ** (s - 1) if kind == "a_power" else s
        found = scaled_divergence(layer, factor, s if kind == "dt" else 1.0, train_length, target_length)
        return np.asarray(found.mean(over, keepdims=True))

    if kind == "a_power":
        return _nearest(cost, 0.0, LARGEST_POWER, shape).squeeze(axes)
    slowest = max(1.0, float(layer.horizon_tokens.max()) / train_length)
    low, high = (2 * np.log(train_length / target_length), 0.0) if kind == "dt" else (0.0, np.log(8 * slowest))
    return np.asarray(np.exp(_nearest(cost, low - _BEYOND, high + _BEYOND, shape)).squeeze(axes))


def _layer_rule(evidence: Evidence, kind: Kind) -> Scales:
    T, L = evidence.train_length, evidence.target_length
    factors = [nearest_factor(kind, layer, T, L, tuple(range(layer.rate.ndim))) for layer in evidence.layers]
    return scaling(kind, np.stack(factors))


def layer_a_rule(evidence: Evidence) -> Scales:
    """Give each layer one factor on A."""
    return _layer_rule(evidence, "a")


def layer_power_rule(evidence: Evidence) -> Scales:
    """Give each layer one power of |A|."""
    return _layer_rule(evidence, "a_power")


def layer_dt_rule(evidence: Evidence) -> Scales:
    """Give each layer one factor on dt."""
    return _layer_rule(evidence, "dt")


def head_dt_rule(evidence: Evidence) -> Scales:
    """Give each head (Mamba-2) or channel (Mamba-1, over its states) one factor on dt: memory gets longer."""
    T, L = evidence.train_length, evidence.target_length
    factors = [nearest_factor("dt", layer, T, L, tuple(range(1, layer.rate.ndim))) for layer in evidence.layers]
    return scaling("dt", np.stack(factors))


def rescaled_time_rule(evidence: Evidence) -> Scales:
    """Multiply every dt by T / L: L tokens pass like T, whatever a mode's horizon is."""
    return scaling("dt", np.full(len(evidence.layers), evidence.train_length / evidence.target_length))
