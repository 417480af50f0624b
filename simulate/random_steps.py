r"""Moments of one mode whose step size dt_t is drawn anew at every token.

h_t = e^{-a dt_t} h_{t-1} + w_t with (dt_t, w_t) independent over t, any dependence between the two: w = gain u. With
the losses l1 = 1 - E e^{-a dt}, l2 = 1 - E e^{-2 a dt}, c2 = E w^2, c11 = E[e^{-a dt} w], e1 = E w,

    E h_T   = e1 (1 - (1 - l1)^T) / l1,
    E h_T^2 = c2 (1 - (1 - l2)^T) / l2 + 2 c11 e1 sum_{i+j<=T-2} (1 - l2)^i (1 - l1)^j.

Derivation: square the recurrence, take means; the cross term 2 c11 E h_{t-1} is a geometric sum inside another. For a
state that is a matrix (Mamba-2) w is x B^T dt, c2 = E||w||^2, and c11 e1 is the inner product of the two matrices.
Steps that remember (a large dt follows a large one) need ``markov_steps`` or a recorded roll-out: this formula is then
wrong by a factor, not by a little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .geometric import geometric_sum, pair_sum
from .step_transforms import StepTransforms

_NO_MEMORY = 1 - 2.0**-53  # a loss of 1 has an infinite rate; this one is its neighbour


def effective_rate(loss_second: npt.ArrayLike) -> Floats:
    """Return r2 = -ln(E e^{-2 a dt}) / 2, the rate per token at which E h^2 forgets; at most a E dt (Jensen).

    Args:
        loss_second: 1 - E e^{-2 a dt}.

    Returns:
        r2.

    >>> from mambascope.simulate.step_transforms import Gamma
    >>> round(float(effective_rate(Gamma(0.5, 0.1).laplace_loss(2.0))), 7)
    0.0455804
    """
    return np.asarray(-np.log1p(-np.minimum(loss_second, _NO_MEMORY)) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class StepMoments:
    """E h_T and E h_T^2."""

    mean: Floats
    """E h_T; for a state with several entries, all of them."""
    second: Floats
    """E h_T^2, or E||h_T||^2."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMoments:
    """What one token contributes."""

    loss_first: Floats
    """1 - E e^{-a dt}."""
    loss_second: Floats
    """1 - E e^{-2 a dt}."""
    write_square: Floats
    """c2 = E w^2, or E||w||^2."""
    write_cross: Floats
    """c11 = E[e^{-a dt} w]."""
    write_mean: Floats
    """e1 = E w."""
    entry_axes: int = 0
    """How many trailing axes of the last two run over the entries of a vector state."""


def independent_inputs(
    law: StepTransforms,
    a: npt.ArrayLike,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
    step_factor: float = 1.0,
) -> TokenMoments:
    """Return a token's moments for inputs independent of the step and gain dt (Euler).

    Args:
        law: of dt.
        a: |A| > 0.
        variance: of u.
        mean: of u.
        step_factor: multiplies every dt.

    Returns:
        The moments.
    """
    rate, mu = step_factor * np.asarray(a, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    return TokenMoments(
        law.laplace_loss(rate),
        law.laplace_loss(2 * rate),
        step_factor**2 * law.mean_square * (np.asarray(variance) + mu**2),
        step_factor * law.discounted(rate) * mu,
        np.asarray(step_factor * law.mean * mu),
    )


def iid_moments(token: TokenMoments, horizon_steps: npt.ArrayLike) -> StepMoments:
    """Return E h_T and E h_T^2 for independent steps.

    Args:
        token: what one token contributes; losses positive where the horizon is ``inf``.
        horizon_steps: T >= 1, ``inf`` for the stationary values.

    Returns:
        The moments.

    >>> from mambascope.simulate.step_transforms import Gamma
    >>> token = independent_inputs(Gamma(0.5, 0.1), 1.0)
    >>> round(float(iid_moments(token, float("inf")).second), 7)
    0.0860792
    """
    first, second = 2 * effective_rate(token.loss_first), 2 * effective_rate(token.loss_second)
    axes = tuple(range(-token.entry_axes, 0))
    sums = geometric_sum(first, horizon_steps)
    cross = np.sum(token.write_cross * token.write_mean, axis=axes) if axes else token.write_cross * token.write_mean
    energy = token.write_square * geometric_sum(second, horizon_steps)
    return StepMoments(
        token.write_mean * sums.reshape(sums.shape + (1,) * token.entry_axes),
        np.asarray(energy + 2 * cross * pair_sum(second, first, horizon_steps)),
    )
