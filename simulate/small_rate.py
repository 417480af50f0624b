r"""Scale rules in closed form for slow modes, r << 1, where the sums of a recurrence are integrals.

With theta = rT and c = 1 - e^{-q theta}, q = 2 for noise and 1 for a constant, the rule on A is
(1 - e^{-q s r L})/s = c, Lambert's equation. Errors are O(s r), relative; ``scale_rules`` solves the discrete equations
themselves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.special

from .arrays import Floats
from .modes import Inputs, soft_clip
from .scale_rules import Factors

_FLAT = 700.0  # e^{-700} is the end of float64


def small_rate_a(rate: npt.ArrayLike, train_steps: float, target_steps: float, inputs: Inputs = "coherent") -> Floats:
    r"""Return the factor s on A for L steps.

    With k = q r L and z = k/c > 1: 1 - e^{-sk} = s c, so w = k s - z obeys w e^w = -z e^{-z}. One solution is w = -z,
    s = 0; the other, on the principal branch, is the factor: s = (1 + W0(-z e^{-z}) / z) / c.

    Args:
        rate: r > 0.
        train_steps: T.
        target_steps: L > T; ``inf`` gives ``soft_clip``.
        inputs: what drives the mode.

    Returns:
        s.

    >>> [round(float(small_rate_a(1 / (tau * 256), 256, 4096, "noise")), 5) for tau in (0.5, 2, 20)]
    [1.01866, 1.58198, 10.50833]
    """
    end = soft_clip(rate, train_steps, inputs)
    if target_steps == np.inf:
        return end
    z = np.asarray(rate, dtype=np.float64) * target_steps * (2 if inputs == "noise" else 1) * end
    reach = np.minimum(z, _FLAT)
    return np.asarray(end * (1 + scipy.special.lambertw(-reach * np.exp(-reach)).real / z))


def small_rate_dt(rate: npt.ArrayLike, train_steps: float, target_steps: float, inputs: Inputs = "coherent") -> Floats:
    """Return the factor s on dt where it has a closed form.

    A constant sees time itself rescaled: s = T / L for every rate. Noise at L = inf: s = 1 - e^{-2 theta}.

    Args:
        rate: r > 0.
        train_steps: T.
        target_steps: L.
        inputs: what drives the mode.

    Returns:
        s; 0 for a constant at L = inf.

    Raises:
        ValueError: noise at a finite L: s (1 - e^{-2 s r L}) = c has no closed solution, use ``dt_rule``.
    """
    if inputs == "coherent":
        return np.full(np.shape(rate), train_steps / target_steps)
    if target_steps != np.inf:
        raise ValueError("noise at a finite length has no closed form for dt; use dt_rule")
    return 1 / soft_clip(rate, train_steps, "noise")


def small_rate_joint(rate: npt.ArrayLike, train_steps: float) -> Factors:
    """Return the factors coth(theta/2) on the rate and 1 + e^{-theta} on the gain, for L = inf.

    They come from tanh(s theta/2 * inf) = 1 and squared gain = s (1 - e^{-2 theta}); tau' = tau tanh(theta/2) <= T/2.

    Args:
        rate: r > 0.
        train_steps: T.

    Returns:
        The factors.
    """
    theta = np.asarray(rate, dtype=np.float64) * train_steps
    return Factors(np.asarray(1 / np.tanh(theta / 2)), np.asarray(1 + np.exp(-theta)), np.ones(theta.shape, dtype=bool))
