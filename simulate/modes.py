r"""Closed forms for one mode h_t = e^{-r} h_{t-1} + gain u_t that starts at zero.

``rate`` r = |A| dt per token is the argument everywhere, not the decay e^{-r}: a mode with a memory of 1e12 tokens has
a decay that float64 cannot tell from 1. The gain is 1 unless shown (``write_gain``). With unit inputs u,

* noise (zero mean, white):  E h_T^2 = g_T(r) = (1 - e^{-2rT}) / (1 - e^{-2r}),
* coherent (constant):       h_T^2   = ((1 - e^{-rT}) / (1 - e^{-r}))^2,
* both, kappa = (mean of u)^2 / (variance of u): the sum of the two, weighted 1 : kappa.

Derivation: sums of the geometric series of e^{-2r} and e^{-r}; tests/simulate/test_modes.py runs the recurrence itself.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .geometric import alternating_sum, geometric_sum, pair_sum

Inputs = Literal["noise", "coherent"]
Discretisation = Literal["euler", "zoh"]


def write_gain(a: npt.ArrayLike, dt: npt.ArrayLike, discretisation: Discretisation = "euler") -> Floats:
    """Return what an input is multiplied by on its way into the state.

    Args:
        a: |A| >= 0.
        dt: step size.
        discretisation: ``euler`` (what Mamba's code does: dt) or ``zoh`` (input constant over the step, the integral
            of e^{-as} over it: (1 - e^{-a dt}) / a).

    Returns:
        The gain; the two agree for a dt -> 0 and differ by a dt / (1 - e^{-a dt}).

    >>> round(float(write_gain(1.7, 0.3, "zoh")) * 0.8, 4)
    0.188
    """
    rate, step = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(dt, dtype=np.float64))
    if discretisation == "euler":
        return step.copy()
    r = rate * step
    safe = np.where(r == 0, 1.0, r)
    return step * np.where(r == 0, 1.0, -np.expm1(-safe) / safe)


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
    return geometric_sum(2 * np.asarray(rate, dtype=np.float64), horizon_steps)


def mean_gain(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike) -> Floats:
    """Return h_T of a mode driven by the constant input 1.

    Args:
        rate: r >= 0 per step.
        horizon_steps: number of steps T.

    Returns:
        (1 - e^{-rT}) / (1 - e^{-r}), between 1 and T; its square is the coherent second moment.
    """
    return geometric_sum(rate, horizon_steps)


def mixed_gain(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike, kappa: npt.ArrayLike) -> Floats:
    """Return E h_T^2 per E u^2 for white inputs with a mean: (g_T + kappa mean_gain_T^2) / (1 + kappa).

    Args:
        rate: r >= 0 per step.
        horizon_steps: number of steps T.
        kappa: coherence (mean of u)^2 / (variance of u); 0 is noise, ``inf`` is a constant.

    Returns:
        The gain, between 1 and T^2; falls with the rate, grows with T.
    """
    k = np.asarray(kappa, dtype=np.float64)
    constant = np.isinf(k)
    noise = 1 / (1 + k)
    coherent = np.where(constant, 1.0, np.where(constant, 0.0, k) * noise)  # not 1 - noise: kappa = 1e-17 counts
    mean_square = np.square(mean_gain(rate, horizon_steps))
    return np.asarray(noise * energy_gain(rate, horizon_steps) + coherent * mean_square)


def first_moment(rate: npt.ArrayLike, horizon_steps: npt.ArrayLike, *, mean: npt.ArrayLike = 0.0) -> Floats:
    """Return E h_T for inputs of the given mean, whatever their correlation: mean * mean_gain.

    Args:
        rate: r >= 0 per step.
        horizon_steps: number of steps T, ``inf`` allowed.
        mean: E u.

    Returns:
        E h_T.
    """
    return np.asarray(mean, dtype=np.float64) * mean_gain(rate, horizon_steps)


def second_moment(
    rate: npt.ArrayLike,
    horizon_steps: npt.ArrayLike,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
    rho: npt.ArrayLike = 0.0,
) -> Floats:
    r"""Return E h_T^2 for inputs with mean mu and autocovariance variance * rho^{|k|}.

    With x = e^{-r}, the double sum of x^{i+j} rho^{|i-j|} over i, j < T splits at the diagonal:

    * rho >= 0: g_T + 2 x rho * sum_{i+j<=T-2} x^{2i} (x rho)^j, a sum of positive terms (``pair_sum``);
    * rho < 0: there the terms alternate and can cancel to nothing, so the inputs are written out of their innovations:
      psi_T^2 + (1 - rho^2) sum_{0<n<T} psi_n^2 with psi_n = (x^n - rho^n) / (x - rho) (``alternating_sum``).

    Args:
        rate: r >= 0 per step.
        horizon_steps: whole number of steps T >= 1; ``inf`` for the stationary value.
        variance: of the inputs.
        mean: mu.
        rho: correlation of neighbouring inputs, -1 < rho < 1; 0 is white.

    Returns:
        E h_T^2, broadcast over all arguments.

    >>> round(float(second_moment(-np.log(0.97), np.inf, rho=0.8)), 3)
    134.155
    """
    r, steps, correlation = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (rate, horizon_steps, rho)),
    )
    white = correlation == 0
    size = np.where(white, 0.5, np.abs(correlation))
    fade = -np.log(size)  # rate of |rho|^k, to the last digit of rho near 1 too
    cross = np.where(white, 0.0, 2 * np.exp(-r) * size * pair_sum(2 * r, r + fade, steps))
    noise = np.where(correlation < 0, alternating_sum(r, size, steps), energy_gain(r, steps) + cross)
    return np.asarray(variance) * noise + np.square(first_moment(r, steps, mean=mean))


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


def overshoot_mixed(
    rate: npt.ArrayLike, train_steps: npt.ArrayLike, target_steps: npt.ArrayLike, kappa: npt.ArrayLike
) -> Floats:
    """Return ``overshoot`` for white inputs with a mean.

    Args:
        rate: r >= 0 per step.
        train_steps: training length T.
        target_steps: target length L.
        kappa: coherence, 0 (noise) to ``inf`` (coherent).

    Returns:
        The factor, between those of noise and of a constant.
    """
    return mixed_gain(rate, target_steps, kappa) / mixed_gain(rate, train_steps, kappa)


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
