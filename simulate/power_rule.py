"""The scaling ``a_power``, |A| -> |A|^s': a factor on |A| as an exponent, one for each mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Floats

POWERLESS = 0.1
"""Where |ln a| is smaller, ``a_power`` is refused: the exponent would change a by less than it changes itself by ten
times. Default: ours, from |A|^s = |A| at |A| = 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Exponents:
    """The rule of kind ``a_power``: |A| -> |A|^exponent, that is A_log -> exponent * A_log."""

    exponent: Floats
    """s'; 1 where refused. Below 0 for some a < 1: there the power turns a slow mode into one faster than a = 1."""
    solved: npt.NDArray[np.bool_]
    """Where |A|^exponent is the asked-for rate; False near |A| = 1, which no power moves."""


def a_power(a: npt.ArrayLike, factor: npt.ArrayLike) -> Exponents:
    """Turn a factor on |A| into an exponent: s' = 1 + ln(factor) / ln(a), so that a^{s'} = factor * a.

    Args:
        a: |A| > 0.
        factor: on |A|.

    Returns:
        The exponents, with those near a = 1 refused.

    >>> a_power([0.01, 1.0, 16.0], 10.0).exponent.round(2).tolist()
    [0.5, 1.0, 1.83]
    """
    log_a, log_s = np.broadcast_arrays(np.log(np.asarray(a, np.float64)), np.log(np.asarray(factor, np.float64)))
    idle = log_s == 0
    solved = (np.abs(log_a) >= POWERLESS) | idle
    return Exponents(np.where(solved & ~idle, 1 + log_s / np.where(solved & ~idle, log_a, 1.0), 1.0), solved)
