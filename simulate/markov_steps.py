r"""Moments of one mode whose step size follows a Markov chain: dt_j in state j, transition matrix P, stationary law pi.

Real step sizes remember: a large one follows a large one. With h_0 = 0, the chain stationary, u_t white with mean mu_j
and variance s2_j given the state, and x_j = e^{-a dt_j}, the rows v_j = E[h^2; state j] and m_j = E[h; state j] follow

    v' = v P X^2 + 2 m P X G mu + pi G^2 (s2 + mu^2),    m' = m P X + pi G mu,      E h^2 = sum_j v_j

(diagonal X, G = dt: Euler). That is one linear map on (v, m, pi); its T-th power costs log2 T products. Derivation:
square the recurrence, take means on each state.

Digits: rows of P X^2 sum to 1 - loss, and a loss of 1e-12 is gone in such a sum. Losses are therefore carried beside
the matrices (product of K, K' has losses l + K l', a sum of positive terms) and every product's rows are set back to
1 - loss, so that the error does not grow with T.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .random_steps import StepMoments

_DOUBLINGS = 1100  # of the horizon: beyond every rate that float64 holds


@dataclass(frozen=True, slots=True, eq=False)
class _Power:
    """The map's blocks after some steps; all (..., n, n) but the losses (..., n)."""

    square: Floats
    square_loss: Floats
    mean: Floats
    mean_loss: Floats
    chain: Floats
    mean_to_square: Floats
    chain_to_mean: Floats
    chain_to_square: Floats

    def then(self, other: _Power) -> _Power:
        """Return the map of these steps followed by the other's; one matrix product for each pair of blocks."""
        square_loss = self.square_loss + _apply(self.square, other.square_loss)
        mean_loss = self.mean_loss + _apply(self.mean, other.mean_loss)
        return _Power(
            _with_loss(self.square @ other.square, square_loss),
            square_loss,
            _with_loss(self.mean @ other.mean, mean_loss),
            mean_loss,
            _with_loss(self.chain @ other.chain, np.zeros(self.chain.shape[:-1])),
            self.mean_to_square @ other.square + self.mean @ other.mean_to_square,
            self.chain_to_mean @ other.mean + self.chain @ other.chain_to_mean,
            self.chain_to_square @ other.square
            + self.chain_to_mean @ other.mean_to_square
            + self.chain @ other.chain_to_square,
        )


def _apply(matrix: Floats, column: Floats) -> Floats:
    return np.asarray((matrix @ column[..., None])[..., 0])


def _with_loss(matrix: Floats, loss: Floats) -> Floats:
    """Scale rows so that they sum to 1 - loss."""
    total = matrix.sum(-1)
    return np.asarray(matrix * (np.maximum(1 - loss, 0.0) / np.where(total > 0, total, 1.0))[..., None])


def stationary_law(transition: npt.ArrayLike) -> Floats:
    """Return the stationary probabilities of a chain, by elimination without subtraction (Grassmann, Taksar, Heyman).

    Args:
        transition: (n, n), rows sum to 1.

    Returns:
        (n,), each entry to full relative accuracy.

    Raises:
        ValueError: not a transition matrix, or one with states that the last cannot reach.
    """
    P = np.array(transition, dtype=np.float64)
    n = len(P)
    if P.shape != (n, n) or (P < 0).any() or np.abs(P.sum(-1) - 1).max() > 1e-12:
        raise ValueError(f"transition matrix of shape {P.shape}: expected (n, n), entries >= 0 and rows with sum 1")
    for k in range(n - 1, 0, -1):
        out = P[k, :k].sum()
        if out <= 0:
            raise ValueError(f"the chain never leaves its states from number {k} on: expected an irreducible chain")
        P[:k, k] /= out
        P[:k, :k] += np.outer(P[:k, k], P[k, :k])
    pi = np.ones(n)
    for k in range(1, n):
        pi[k] = pi[:k] @ P[:k, k]
    return np.asarray(pi / pi.sum())


def _one_step(a: Floats, dt: Floats, P: Floats, variance: Floats, mean: Floats) -> _Power:
    r = a[..., None] * dt  # (..., n)
    P = np.broadcast_to(P, (*r.shape, len(dt)))
    loss = -np.expm1(-r)
    return _Power(
        P * np.exp(-2 * r)[..., None, :],
        _apply(P, -np.expm1(-2 * r)),
        P * np.exp(-r)[..., None, :],
        _apply(P, loss),
        P,
        P * (2 * (1 - loss) * dt * mean)[..., None, :],
        P * (dt * mean * np.ones_like(r))[..., None, :],
        P * (dt**2 * (variance + mean**2) * np.ones_like(r))[..., None, :],
    )


def markov_moments(
    a: npt.ArrayLike,
    dt: npt.ArrayLike,
    transition: npt.ArrayLike,
    horizon_steps: float,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
) -> StepMoments:
    """Return E h_T and E h_T^2 for steps that follow a chain.

    Args:
        a: |A| > 0, any shape.
        dt: (n,) step size in each state, at least 0 and not all 0.
        transition: (n, n) probabilities from row to column; irreducible.
        horizon_steps: whole T >= 1, ``inf`` for the stationary values.
        variance: of the inputs: a number, (n,) one for each state, or (..., 1) one for each mode.
        mean: of the inputs, likewise.

    Returns:
        The moments, in the shape of ``a``.

    Raises:
        ValueError: no decay, or a horizon that is not a whole number of steps.

    >>> sticky = markov_moments(1.0, [0.01, 0.5], [[0.99, 0.01], [0.02, 0.98]], float("inf"))
    >>> round(float(sticky.second), 6)
    0.219714
    """
    rate, steps = np.asarray(a, dtype=np.float64), np.asarray(dt, dtype=np.float64)
    if not (rate > 0).all() or (steps < 0).any() or not steps.any():
        raise ValueError("expected a > 0, dt >= 0 and at least one dt > 0")
    if horizon_steps != np.inf and not (horizon_steps >= 1 and float(horizon_steps).is_integer()):
        raise ValueError(f"horizon of {horizon_steps} steps: expected a whole number of at least 1, or inf")
    pi = stationary_law(transition)
    s2, mu = (np.asarray(v, dtype=np.float64) for v in (variance, mean))
    power = _one_step(rate, steps, np.array(transition, dtype=np.float64), s2, mu)
    total = _forever(power) if horizon_steps == np.inf else _repeat(power, int(horizon_steps))
    return StepMoments(np.asarray((pi @ total.chain_to_mean).sum(-1)), np.asarray((pi @ total.chain_to_square).sum(-1)))


def _repeat(power: _Power, steps: int) -> _Power:
    total: _Power | None = None
    while True:
        if steps & 1:
            total = power if total is None else total.then(power)
        steps >>= 1
        if not steps:
            assert total is not None
            return total
        power = power.then(power)


def _forever(power: _Power) -> _Power:
    """Double the steps until nothing of the start is left."""
    for _ in range(_DOUBLINGS):
        if min(power.square_loss.min(), power.mean_loss.min()) >= 1:
            return power
        power = power.then(power)
        power = replace(power, square_loss=_whole(power.square_loss), mean_loss=_whole(power.mean_loss))
    raise ArithmeticError("the mode does not forget: its rate is below what float64 can hold")


def _whole(loss: Floats) -> Floats:
    return np.where(loss > 1 - 1e-14, 1.0, loss)
