r"""The law of a state's squared norm ||h_T||^2 for fixed decays, fixed B and white Gaussian inputs.

h_T is Gaussian with covariance S_ij = (B B^T)_ij sum_{k<T} e^{-(r_i + r_j) k}, so that ||h_T||^2 = sum_i w_i z_i^2,
w the eigenvalues of S: mean sum w, variance 2 sum w^2. Derivation: h_T = sum_k diag(e^{-r k}) B x_{T-k}, E x x^T = I.
One decay for all entries (a head of Mamba-2) makes S = g_T B B^T: the law of ||B x||^2, stretched by g_T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

from .arrays import Floats
from .geometric import geometric_sum
from .quadratic_form import tail
from .roots import solve_factor


def state_covariance(rates: npt.ArrayLike, B: npt.ArrayLike, horizon_steps: float) -> Floats:
    """Return the covariance of h_T for white inputs of unit variance.

    Args:
        rates: (d,) rate r_i per step, or one for all entries.
        B: (d, m), gain included.
        horizon_steps: T, ``inf`` allowed where all rates are positive.

    Returns:
        (d, d).
    """
    rows = np.asarray(B, dtype=np.float64)
    r = np.broadcast_to(np.asarray(rates, dtype=np.float64), rows.shape[:1])
    return np.asarray((rows @ rows.T) * geometric_sum(r[:, None] + r, horizon_steps))


@dataclass(frozen=True, slots=True, eq=False)
class NormLaw:
    """Law of sum_i w_i z_i^2, z standard normal."""

    weights: Floats
    """(n,) w, positive."""

    @property
    def mean(self) -> float:
        """E ||h||^2."""
        return float(self.weights.sum())

    @property
    def variance(self) -> float:
        """Variance of ||h||^2."""
        return float(2 * np.square(self.weights).sum())

    def cdf(self, x: npt.ArrayLike) -> Floats:
        """Return P(||h||^2 <= x).

        Args:
            x: points.

        Returns:
            Probabilities; absolute error below 1e-12, relative error below 1e-9 in the lower tail too.
        """
        return self._tails(x, upper=False)

    def sf(self, x: npt.ArrayLike) -> Floats:
        """Return P(||h||^2 > x).

        Args:
            x: points.

        Returns:
            Probabilities; absolute error below 1e-12, relative error below 1e-9 in the upper tail too.
        """
        return self._tails(x, upper=True)

    def quantile(self, probability: npt.ArrayLike) -> Floats:
        """Return the point below which the given share of the law lies.

        Args:
            probability: in (0, 1).

        Returns:
            Quantiles, searched between those of one and of n entries that all have the largest weight.

        Raises:
            ValueError: a probability of 0, 1 or outside.
            ArithmeticError: a quantile was not found.
        """
        p = np.asarray(probability, dtype=np.float64)
        if not ((p > 0) & (p < 1)).all():
            raise ValueError("probabilities: expected 0 < p < 1")
        size = self.weights.size
        # between what all entries would give with the smallest weight, or one alone with the largest, and all with it
        low = 2 * np.maximum(
            self.weights.max() * scipy.special.gammaincinv(0.5, p),
            self.weights.min() * scipy.special.gammaincinv(size / 2, p),
        )
        high = 2 * self.weights.max() * scipy.special.gammaincinv(size / 2, p)
        low, high = low * (1 - 1e-6), high * (1 + 1e-6)
        lower = solve_factor(self.cdf, p, low, high)
        upper = solve_factor(self.sf, 1 - p, low, high)
        if not (np.where(p < 0.5, lower.solved, upper.solved)).all():
            raise ArithmeticError(f"a quantile of {size} weighted squares was not found at p = {p}")
        return np.where(p < 0.5, lower.factor, upper.factor)

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """Return independent draws, without stepping the recurrence.

        Args:
            size: how many.
            rng: source of randomness.

        Returns:
            (size,).
        """
        return np.asarray(np.square(rng.standard_normal((size, self.weights.size))) @ self.weights)

    def _tails(self, x: npt.ArrayLike, *, upper: bool) -> Floats:
        points = np.asarray(x, dtype=np.float64)
        flat = points.ravel()
        inside = (flat > 0) & np.isfinite(flat)
        result = np.where(flat > 0, 0.0, 1.0) if upper else np.where(flat > 0, 1.0, 0.0)
        scale = self.weights.max()
        weights, y = self.weights / scale, flat[inside] / scale
        above, tiny = y > weights.sum(), y < 1e-16 * weights.min()
        nearer = np.empty_like(y)
        for right in (False, True):
            chosen = (above == right) & ~tiny
            nearer[chosen] = tail(weights, y[chosen], upper=right)
        # next to 0 the density is that of independent normals at 0, over a ball
        half = weights.size / 2
        with np.errstate(under="ignore"):
            log_volume = half * np.log(y[tiny] / 2) - scipy.special.gammaln(half + 1) - np.log(weights).sum() / 2
            nearer[tiny] = np.exp(log_volume)
        result[inside] = np.where(above == upper, nearer, 1 - nearer)
        return np.asarray(result.reshape(points.shape))


def norm_law(rates: npt.ArrayLike, B: npt.ArrayLike, horizon_steps: float) -> NormLaw:
    """Return the law of ||h_T||^2 for white Gaussian inputs of unit variance.

    Args:
        rates: (d,) rate r_i per step, or one for all entries.
        B: (d, m), gain included.
        horizon_steps: T, ``inf`` allowed where all rates are positive.

    Returns:
        The law.

    Raises:
        ValueError: a B of zeros.
    """
    weights = np.linalg.eigvalsh(state_covariance(rates, B, horizon_steps))
    kept = weights[weights > 1e-14 * np.abs(weights).max()]
    if not kept.size:
        raise ValueError("B is 0: the state stays at 0 and its norm has no density")
    return NormLaw(kept)


def ensemble_mean(d: int, m: int, variance: npt.ArrayLike, gain: npt.ArrayLike) -> Floats:
    """Return E||h_T||^2 over iid decays and Gaussian B: d m s^2 E[g].

    Args:
        d: entries of the state.
        m: inputs.
        variance: s^2 of each entry of B, independent of the decays.
        gain: E g_T over the law of the decay.

    Returns:
        The mean.
    """
    return np.asarray(d * m * np.asarray(variance) * np.asarray(gain))


def ensemble_second_moment(
    d: int, m: int, variance: npt.ArrayLike, gain: npt.ArrayLike, gain_square: npt.ArrayLike, pair_square: npt.ArrayLike
) -> Floats:
    r"""Return E||h_T||^4 over iid decays and Gaussian B.

    Given both, E||h||^4 = (tr S)^2 + 2 tr S^2. Rows b_i of B have E|b|^4 = m(m+2) s^4 and E(b_i b_j)^2 = m s^4, so with
    g_ij = sum_{k<T} e^{-(r_i + r_j) k}:
    s^4 (3 m (m+2) d E g_11^2 + m^2 d (d-1) (E g_11)^2 + 2 m d (d-1) E g_12^2).

    Args:
        d: entries of the state.
        m: inputs.
        variance: s^2 of each entry of B, independent of the decays.
        gain: E g_11.
        gain_square: E g_11^2.
        pair_square: E g_12^2, two independent decays.

    Returns:
        The second moment of the squared norm.
    """
    own = 3 * m * (m + 2) * d * np.asarray(gain_square)
    pairs = d * (d - 1) * (m**2 * np.square(gain) + 2 * m * np.asarray(pair_square))
    return np.asarray(np.square(variance) * (own + pairs))
