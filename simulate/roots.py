"""Factors by root finding: which s makes a positive, monotone quantity of s equal a target, elementwise.

In ln s and ln quantity moments of a recurrence are nearly straight pieces, so that inverse quadratic interpolation
takes about ten evaluations; halving guards it. Source of the guard: Chandrupatla 1997, Adv. Eng. Softw. 28:145.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Floats

RESIDUAL = 1e-9
"""A root counts as found where quantity / target is this close to 1. Ours: the bar for scale rules."""
_ROUNDS = 150
_WIDTH = 2e-16  # of the bracket in ln s, relative to the larger of 1 and |ln s|
_TINY = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """Solution of quantity(factor) = target."""

    factor: Floats
    """s; 1 where no root was found."""
    solved: npt.NDArray[np.bool_]
    """Where quantity(s) equals the target; elsewhere the target lies outside what the bracket reaches."""


def solve_factor(
    quantity: Callable[[Floats], Floats], target: npt.ArrayLike, start: npt.ArrayLike, stop: npt.ArrayLike
) -> Root:
    """Solve quantity(s) = target for s between start and stop, elementwise.

    Args:
        quantity: takes an array of factors and returns as many values >= 0, each monotone in its own factor, rising or
            falling. Where one is not monotone the root is one of several.
        target: values > 0.
        start: one end of the bracket, > 0; it is the answer where it fits as well as anything else.
        stop: the other end, above or below.

    Returns:
        The root; where the bracket holds none, what fits best if that is within ``RESIDUAL`` of the target.

    >>> round(float(solve_factor(lambda s: s**3, 8.0, 0.1, 100.0).factor), 12)
    2.0
    """
    goal, first, last = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (target, start, stop)))

    def miss(y: Floats) -> Floats:
        return np.asarray(np.log(np.maximum(quantity(np.exp(y)), _TINY)) - np.log(goal))

    a, b = np.log(first), np.log(last)
    fa, fb = miss(a), miss(b)
    best, least = a, np.abs(fa)
    best, least = np.where(np.abs(fb) < least, b, best), np.minimum(np.abs(fb), least)
    t = np.full(goal.shape, 0.5)
    for _ in range(_ROUNDS):
        x = a + t * (b - a)
        fx = miss(x)
        best, least = np.where(np.abs(fx) < least, x, best), np.minimum(np.abs(fx), least)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        width = np.abs(b - a)
        slack = _WIDTH * np.maximum(1.0, np.abs(a))
        if np.all((width <= 2 * slack) | (least == 0)):
            break
        t = _next(a, fa, b, fb, c, fc, slack / np.where(width == 0, 1.0, width))
    solved = least <= RESIDUAL
    return Root(np.where(solved, np.exp(best), 1.0), solved)


def _next(a: Floats, fa: Floats, b: Floats, fb: Floats, c: Floats, fc: Floats, least: Floats) -> Floats:
    """Place of the next try between a (0) and b (1): where a parabola through three points is safe, else the middle."""
    usable = (fa != fb) & (fc != fb) & (fa != fc) & (b != a) & (c != b)
    da, db, dc = (np.where(usable, v, one) for v, one in ((fb - fa, 1.0), (fc - fb, 1.0), (fa - fc, 1.0)))
    xi = np.where(usable, (a - b) / np.where(usable, c - b, 1.0), 0.0)
    phi = np.where(usable, -da / db, 0.5)
    safe = usable & (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    curve = fa / da * fc / -db + (c - a) / np.where(usable, b - a, 1.0) * fa / -dc * fb / db
    t = np.where(safe, curve, 0.5)
    return np.clip(t, np.minimum(least, 0.5), 1 - np.minimum(least, 0.5))
