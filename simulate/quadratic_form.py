r"""Tails of a weighted sum of squared normals, Q = sum_i w_i z_i^2, each tail to its own digits.

P(Q <= x) is the inverse Laplace transform of prod (1 + 2 w_i s)^{-1/2} / s, whose singularities all lie on s <= 0; the
upper tail is minus the same integral left of the pole at 0. Both run along a parabola through the saddle point of the
integrand, where the trapezium rule converges geometrically and nothing cancels.

Source: Rice 1980, SIAM J. Sci. Stat. Comput. 1:438 (saddle point); Weideman and Trefethen 2007, Math. Comp. 76:1341
(parabolas).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Floats

_NODES = np.arange(193) / 8
"""Upper half of the nodes of the trapezium rule, in standard deviations of the integrand at its saddle. Ours: a
sixth of the spacing and a longer reach change no tail by more than 1e-9 of itself (worst: one large weight among 3000
small ones)."""
_BENDS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3)
"""Curvatures to choose from: 1/(3 sqrt k) is the path of steepest descent of a pole of order k, from 1.5 (one entry,
0.27) on; a straight line suits many alike entries."""
_HALVINGS = 30
_ENTRIES = 1_000_000  # of the largest array: 16 MB


def tail(w: Floats, x: Floats, *, upper: bool) -> Floats:
    """Return P(Q > x) or P(Q <= x).

    Args:
        w: (n,) weights > 0, the largest of them 1.
        x: (points,) > 0.
        upper: which tail; the smaller one keeps its digits: the upper one above sum w, else the lower one.

    Returns:
        (points,) probabilities, relative error below 1e-9, mostly 1e-12.
    """
    block = max(1, _ENTRIES // (w.size * _NODES.size))
    parts = [_tail_block(w, x[i : i + block], upper) for i in range(0, x.size, block)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _tail_block(w: Floats, x: Floats, upper: bool) -> Floats:
    s0 = _saddle(w, x, upper)  # (points,)
    pole = w / (1 + 2 * w * s0[:, None])  # (points, n)
    step = (1 / s0**2 + 2 * np.square(pole).sum(-1)) ** -0.5
    coarse = [_log_integrand(pole, x, s0, step, np.full(x.size, b), _NODES[::8]).real for b in _BENDS]
    ends = np.stack([np.append(real, real[:, -1:] + 30, axis=1) for real in coarse])  # an unreached end weighs e^30
    area = np.logaddexp.reduce(ends, axis=-1)  # (bends, points); least area: least is lost
    # a path more bent than that of steepest descent passes the pole so closely that coarse nodes miss the peak there
    order = 1 + np.square(pole.sum(-1)) / (2 * np.square(pole).sum(-1))
    area[np.array(_BENDS)[:, None] > 2 / (3 * np.sqrt(order))] = np.inf
    bend = np.array(_BENDS)[np.argmin(area, axis=0)]
    values = np.exp(_log_integrand(pole, x, s0, step, bend, _NODES)) * (1j - 2 * bend[:, None] * _NODES)
    half = values.sum(-1).imag - 0.5  # the other half is its mirror image; the node at 0 counts once
    height = s0 * x - np.log(np.abs(s0)) - np.log1p(2 * w * s0[:, None]).sum(-1) / 2
    return np.asarray(half * step * _NODES[1] / np.pi * np.exp(height))


def _saddle(w: Floats, x: Floats, upper: bool) -> Floats:
    """Minimum of s x - ln|s| - sum ln(1 + 2 w s) / 2 over s > 0, or over -1/2 < s < 0 (largest w = 1)."""
    low, high = (np.full(x.shape, -0.5), np.zeros(x.shape)) if upper else (0.5 / x, (1 + w.size / 2) / x)
    for _ in range(_HALVINGS):
        s = (low + high) / 2
        falls = x - 1 / s - (w / (1 + 2 * w * s[:, None])).sum(-1) < 0
        low, high = np.where(falls, s, low), np.where(falls, high, s)
    return np.asarray((low + high) / 2)


def _log_integrand(
    pole: Floats, x: Floats, s0: Floats, step: Floats, bend: Floats, u: Floats
) -> npt.NDArray[np.complex128]:
    """Logarithm of e^{sx} prod (1 + 2 w s)^{-1/2} / s along s = s0 + step (i u - bend u^2), over its value at s0."""
    move = step[:, None] * (1j * u - bend[:, None] * u**2)  # (points, nodes)
    factors = np.log(1 + 2 * pole[:, :, None] * move[:, None, :]).sum(1)
    return np.asarray(move * x[:, None] - np.log(1 + move / s0[:, None]) - factors / 2)
