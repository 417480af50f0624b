r"""Closed forms for one mode h_t = e^{-r} h_{t-1} + u_t that starts at zero.

``rate`` r = |A| dt per token is the argument everywhere, not the decay e^{-r}: a mode with a memory of 1e12 tokens has
a decay that float64 cannot tell from 1. With unit inputs u,

* noise (zero mean, white):  E h_T^2 = g_T(r) = (1 - e^{-2rT}) / (1 - e^{-2r}),
* coherent (constant):       h_T^2   = ((1 - e^{-rT}) / (1 - e^{-r}))^2.

Derivation: sums of the geometric series of e^{-2r} and e^{-r}; tests/simulate/test_modes.py runs the recurrence itself.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Inputs = Literal["noise", "coherent"]


def _ratio(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike) -> Floats:
    """(1 - e^{-rT}) / (1 - e^{-r}), which is T at r = 0."""
    r, steps = np.broadcast_arrays(np.asarray(rate, dtype=np.float64), np.asarray(horizon_steps, dtype=np.float64))
    still = r == 0
    safe = np.where(still, 1.0, r)
    return np.where(still, steps, np.expm1(-safe * steps) / np.expm1(-safe))


def energy_gain(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike) -> Floats:
    """Return E h_T^2 of a mode driven by unit white noise.

    Args:
        rate: r >= 0 per step.
        horizon_steps: number of steps T; ``inf`` for the stationary value.

    Returns:
        g_T(r), between 1 and T; broadcast over both arguments.

    >>> float(energy_gain(0.0, 10))
    10.0
    """
    return _ratio(2 * np.asarray(rate, dtype=np.float64), horizon_steps)


def mean_gain(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike) -> Floats:
    """Return h_T of a mode driven by the constant input 1.

    Args:
        rate: r >= 0 per step.
        horizon_steps: number of steps T.

    Returns:
        (1 - e^{-rT}) / (1 - e^{-r}), between 1 and T; its square is the coherent second moment.
    """
    return _ratio(rate, horizon_steps)


def overshoot(rate: npt.ArrayLike, train_steps: float, target_steps: float, inputs: Inputs = "coherent") -> Floats:
    """Return by what factor the second moment at the target length exceeds that at the training length.

    Args:
        rate: r >= 0 per step.
        train_steps: training length T.
        target_steps: target length L.
        inputs: ``noise`` gives at most L / T, ``coherent`` at most (L / T)^2.

    Returns:
        The factor, 1 for a mode that was saturated at T.
    """
    if inputs == "noise":
        return energy_gain(rate, target_steps) / energy_gain(rate, train_steps)
    return np.square(mean_gain(rate, target_steps) / mean_gain(rate, train_steps))


def soft_clip(rate: npt.ArrayLike, train_steps: float, inputs: Inputs = "coherent") -> Floats:
    r"""Return the factor s on the rate that keeps a mode's stationary size at its size after T steps.

    For small rates the second moment's sum becomes an integral, and s solves 1/(s r) = (1 - e^{-rT})/r (coherent) or
    1/(2 s r) = (1 - e^{-2rT})/(2r) (noise): s = 1 / (1 - e^{-rT}), with 2r for noise. The horizon tau = 1/r becomes
    tau (1 - e^{-T/tau}): short horizons stay, long ones end at T (coherent) or 2T (noise).

    Args:
        rate: r > 0 per step.
        train_steps: training length T.
        inputs: what drives the mode.

    Returns:
        s >= 1.

    >>> float(soft_clip(10.0, 256))
    1.0
    """
    theta = np.asarray(rate, dtype=np.float64) * train_steps * (2 if inputs == "noise" else 1)
    return np.asarray(-1 / np.expm1(-theta))
