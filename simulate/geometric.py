r"""The sums that every second moment of a linear recurrence is made of, in rates and without lost digits.

* ``geometric_sum(r, n)``: sum_{k<n} x^k with x = e^{-r}, the divided difference of x^n at (1, x);
* ``pair_sum(p, q, n)``: sum_{i+j<=n-2} x^i y^j with x = e^{-p}, y = e^{-q}, its divided difference at (1, x, y);
* ``alternating_sum``: the variance under inputs whose neighbours are negatively correlated, where the pair sum cancels.

The second one is what a mean, a correlation of the inputs, or a random step adds to the first. Written out it is
((1 - x^n)/(1 - x) - (x^n - y^n)/(x - y)) / (1 - y), three removable singularities on top of each other; 1 - x has no
digits where the rate is 1e-17. Source: the complete homogeneous polynomial h_{n-2}(1, x, y) as a divided difference.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Floats

_SERIES_UP_TO = 1.0
"""Where n times the loss stays below this, ``pair_sum`` is its binomial series, else the difference of two divided
differences, which then loses a factor 3 at most. Ours: 1 - e^{-1} against e^{-1}."""
_SERIES_TERMS = 24
"""Term n of the series is below (n - 1)/n!: 24 of them reach 1e-17 of the sum at the bound above."""


def geometric_sum(rate: npt.ArrayLike, steps: npt.ArrayLike) -> Floats:
    """Return sum_{k<n} e^{-rk} = (1 - e^{-rn}) / (1 - e^{-r}).

    Args:
        rate: r >= 0.
        steps: n >= 0, ``inf`` allowed.

    Returns:
        The sum, n at r = 0; broadcast over both arguments.
    """
    r, n = np.broadcast_arrays(np.asarray(rate, dtype=np.float64), np.asarray(steps, dtype=np.float64))
    still = r == 0
    safe = np.where(still, 1.0, r)
    return np.where(still, n, np.expm1(-safe * n) / np.expm1(-safe))


def _pair_series(x: Floats, y: Floats, n: Floats) -> Floats:
    """Sum_{k>=2} C(n, k) (-1)^k h_{k-2}(x, y) for losses x, y: the binomial series of (1 - loss)^n, term by term."""
    largest = np.maximum(x, y)
    safe = np.where(largest == 0, 1.0, largest)
    u, v = x / safe, y / safe
    homogeneous, power, term = np.ones_like(n), np.ones_like(n), n * (n - 1) / 2
    total = term * homogeneous
    for k in range(2, _SERIES_TERMS):
        power = power * v
        homogeneous = u * homogeneous + power
        term = term * (-(n - k) / (k + 1) * largest)
        total = total + term * homogeneous
    return total


def pair_sum(first_rate: npt.ArrayLike, second_rate: npt.ArrayLike, steps: npt.ArrayLike) -> Floats:
    """Return sum over i, j >= 0 with i + j <= n - 2 of e^{-pi} e^{-qj}.

    Args:
        first_rate: p >= 0.
        second_rate: q >= 0.
        steps: n >= 1, ``inf`` allowed where both rates are positive.

    Returns:
        The sum, symmetric in p and q, n(n - 1)/2 where both are 0, relative error about 1e-15.

    >>> float(pair_sum(0.0, 0.0, 4))
    6.0
    """
    p, q, n = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (first_rate, second_rate, steps)))
    slow, fast = np.minimum(p, q), np.maximum(p, q)
    loss_slow, loss_fast = -np.expm1(-slow), -np.expm1(-fast)
    endless = np.isinf(n)
    finite = np.where(endless, 1.0, n)
    short = ~endless & (finite * loss_fast <= _SERIES_UP_TO)
    between = np.exp(-(finite - 1) * slow) * geometric_sum(fast - slow, finite)  # (x^n - y^n) / (x - y)
    between = np.where(endless, 0.0, between)
    long = (geometric_sum(slow, n) - between) / np.where(short | (loss_fast == 0), 1.0, loss_fast)
    series = _pair_series(np.where(short, loss_slow, 0.0), np.where(short, loss_fast, 0.0), np.where(short, n, 1.0))
    return np.where(short, series, long)


def alternating_sum(rate: npt.ArrayLike, size: npt.ArrayLike, steps: npt.ArrayLike) -> Floats:
    r"""Return sum_{i,j<n} x^{i+j} (-y)^{|i-j|} for x = e^{-r} as a sum of positive terms.

    It is the variance of h_n = x h_{n-1} + u_n with u_n = -y u_{n-1} + sqrt(1 - y^2) e_n: the start u_1 reaches h_n
    with weight psi_n = (x^n - (-y)^n) / (x + y), every later e with a shorter psi, so that the variance is
    psi_n^2 + (1 - y^2) sum_{0<k<n} psi_k^2.

    Args:
        rate: r >= 0.
        size: y, 0 < y < 1.
        steps: whole n >= 1, ``inf`` allowed where r > 0.

    Returns:
        The sum.
    """
    r, y, n = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (rate, size, steps)))
    endless = np.isinf(n)
    last = np.where(endless, 1.0, n)
    x, fade = np.exp(-r), -np.log(y)
    apart = -np.exp(-last * np.minimum(r, fade)) * np.expm1(-last * np.abs(r - fade)) * np.where(r > fade, -1.0, 1.0)
    together = np.exp(-last * r) + np.exp(-last * fade)
    start = np.where(endless, 0.0, np.where(last % 2 == 0, apart, together))  # x^n - (-y)^n
    rest = np.where(endless, np.inf, n - 1)
    power = np.where(endless, 0.0, np.exp(-(last - 1) * (r + fade)) * np.where(last % 2 == 0, -1.0, 1.0))
    turned = x * y * (1 - power) / (1 + x * y)  # -sum_{0<k<n} (-xy)^k
    own = np.exp(-2 * r) * geometric_sum(2 * r, rest) + np.square(y) * geometric_sum(2 * fade, rest)
    return np.asarray((np.square(start) + (1 - y) * (1 + y) * (own + 2 * turned)) / np.square(x + y))
