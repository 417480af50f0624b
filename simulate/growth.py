r"""How far a mode of length T still is from its stationary law, and how a longer text shows it.

All three read the closed forms of ``modes``: the steps a mode needs, the exponent at which its size grows with length,
and the Kullback-Leibler divergence of its Gaussian law at L from its law at T (what the layers behind it see change).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .modes import Inputs, mean_gain, second_moment


def horizon_steps_to(rate: npt.ArrayLike, excess: npt.ArrayLike, inputs: Inputs = "noise") -> Floats:
    r"""Return the length T after which the stationary second moment exceeds that at T by the share ``excess`` only.

    1 + excess = 1/(1 - e^{-2rT}) for noise, 1/(1 - e^{-rT})^2 for a constant; both hold at every rate, small or not.

    Args:
        rate: r > 0 per step.
        excess: share above 1, positive.
        inputs: what drives the mode.

    Returns:
        T as a real number; round it up.

    >>> round(float(1 / horizon_steps_to(1.0, 0.01)), 2), round(float(1 / horizon_steps_to(1.0, 0.01, "coherent")), 2)
    (0.43, 0.19)
    """
    r, e = np.asarray(rate, dtype=np.float64), np.asarray(excess, dtype=np.float64)
    if inputs == "noise":
        return np.asarray(np.log1p(1 / e) / (2 * r))
    return np.asarray(-np.log(-np.expm1(-np.log1p(e) / 2)) / r)


def growth_exponent(
    rate: npt.ArrayLike,
    from_steps: npt.ArrayLike,
    to_steps: npt.ArrayLike,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
    rho: npt.ArrayLike = 0.0,
) -> Floats:
    """Return d ln E h^2 / d ln t between two lengths: 0 saturated, 1 noise, 2 coherent.

    No stationary input, whatever its memory, exceeds 2 over a doubling of length (h_{2T} is a damped h_T plus a copy
    of it in law, so its root mean square at most doubles).

    Args:
        rate: r >= 0 per step.
        from_steps: the shorter length.
        to_steps: the longer length, finite.
        variance: of the inputs.
        mean: of the inputs.
        rho: correlation of neighbouring inputs.

    Returns:
        The exponent.
    """
    start = second_moment(rate, from_steps, variance=variance, mean=mean, rho=rho)
    end = second_moment(rate, to_steps, variance=variance, mean=mean, rho=rho)
    times = np.asarray(to_steps, dtype=np.float64) / np.asarray(from_steps, dtype=np.float64)
    return np.asarray(np.log(end / start) / np.log(times))


def divergence(
    rate: npt.ArrayLike,
    train_steps: npt.ArrayLike,
    target_steps: npt.ArrayLike,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
    rho: npt.ArrayLike = 0.0,
) -> Floats:
    """Return the Kullback-Leibler divergence, in nats, of the mode's Gaussian law at L from that at T.

    With y = v_L/v_T - 1: KL(N(m_L, v_L) || N(m_T, v_T)) = (y - ln(1 + y) + (m_L - m_T)^2 / v_T) / 2.

    Args:
        rate: r > 0 per step.
        train_steps: T, finite.
        target_steps: L, ``inf`` allowed.
        variance: of the inputs, positive.
        mean: of the inputs.
        rho: correlation of neighbouring inputs.

    Returns:
        The divergence, at least 0; absolute error about 1e-16 times sqrt of itself.
    """
    r = np.asarray(rate, dtype=np.float64)
    start, end = (np.asarray(v, dtype=np.float64) for v in (train_steps, target_steps))
    before = second_moment(r, start, variance=variance, rho=rho)
    y = second_moment(r, end, variance=variance, rho=rho) / before - 1
    small = np.abs(y) < 1e-3
    z = np.where(small, y, 0.0)
    series = z * z * (1 / 2 - z * (1 / 3 - z * (1 / 4 - z * (1 / 5 - z / 6))))
    spread = np.where(small, series, y - np.log1p(np.where(small, 0.0, y)))
    first = np.minimum(start, end)
    shift = np.asarray(mean) * np.exp(-r * first) * mean_gain(r, np.maximum(start, end) - first)
    return np.asarray((spread + np.square(shift) / before) / 2)
