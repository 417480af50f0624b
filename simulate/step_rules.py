r"""Scale rules where the step size is random: the same equations on the exact moments of such a mode.

All they need is one function ``moments(factor, steps)`` -> E h and E h^2 of the mode with A multiplied by ``factor``.
Scaling dt by s is scaling A by s and the state by s, h(s dt, a) = s h(dt, s a), path by path (Euler gain), so that one
function serves all:

* ``a``:     second(s, L) = second(1, T),
* ``dt``:    s^2 second(s, L) = second(1, T),
* ``joint``: mean^2 / variance (s, L) = the same (1, T), then gain = the ratio of the means. Random steps turn a mean
  into variance, so that unlike for constant steps the answer depends on the coherence of the inputs. Inputs without a
  mean get the factors of inputs with a vanishing one: their variance is kept, and so would be any small mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .markov_steps import markov_moments, stationary_law
from .random_steps import StepMoments, iid_moments, independent_inputs
from .roots import solve_factor
from .scale_rules import LEAST_DT, Factors, Kind
from .step_transforms import StepTransforms

Moments = Callable[[Floats, float], StepMoments]

_FASTEST = 1e6
"""Largest scaled rate a E dt that is tried: there a mode remembers nothing."""


def moment_rule(
    kind: Kind,
    moments: Moments,
    shape: tuple[int, ...],
    train_steps: float,
    target_steps: float,
    fastest: npt.ArrayLike,
) -> Factors:
    """Return the factors that keep a mode's moments at L at those at T.

    Args:
        kind: ``a``, ``dt`` or ``joint``.
        moments: of the modes with their A multiplied by an array of factors, at a number of steps.
        shape: of that array.
        train_steps: T >= 2.
        target_steps: L >= T.
        fastest: largest factor on A to try.

    Returns:
        The factors; ``solved`` False where no factor does it.

    Raises:
        ValueError: lengths out of order, or ``joint`` for a mode without a mean or without a variance.
    """
    if not 2 <= train_steps <= target_steps:
        raise ValueError(f"lengths: expected 2 <= T <= L, got T = {train_steps}, L = {target_steps}")
    one, most = np.ones(shape), np.asarray(fastest, dtype=np.float64)
    trained = moments(one, train_steps)
    if kind == "a":
        root = solve_factor(lambda s: moments(s, target_steps).second, trained.second, one, one * most)
        return Factors(root.factor, one, root.solved)
    if kind == "dt":
        root = solve_factor(
            lambda s: np.square(s) * moments(s, target_steps).second, trained.second, one, LEAST_DT * one
        )
        return Factors(root.factor, root.factor, root.solved)
    variance = trained.second - np.square(trained.mean)
    if not ((trained.mean != 0) & (variance > 1e-12 * trained.second)).all():
        raise ValueError("joint: expected inputs with a mean and a variance, else one factor is enough")

    def coherence(found: StepMoments) -> Floats:
        square = np.square(found.mean)
        return np.asarray(square / np.maximum(found.second - square, 1e-15 * square))

    root = solve_factor(lambda s: coherence(moments(s, target_steps)), coherence(trained), one, one * most)
    gain = trained.mean / moments(root.factor, target_steps).mean
    return Factors(root.factor, np.where(root.solved, gain, 1.0), root.solved)


def _with_faint_mean(noise: StepMoments, of_unit_mean: StepMoments) -> StepMoments:
    """Return moments whose variance is the noise's and whose mean grows as that of a vanishing input mean does."""
    return StepMoments(of_unit_mean.mean, noise.second + np.square(of_unit_mean.mean))


def iid_rule(
    kind: Kind,
    law: StepTransforms,
    a: npt.ArrayLike,
    train_steps: float,
    target_steps: float,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
) -> Factors:
    """Return a rule's factors for independent steps and inputs independent of them.

    Args:
        kind: ``a``, ``dt`` or ``joint``.
        law: of dt.
        a: |A| > 0.
        train_steps: T.
        target_steps: L, ``inf`` allowed.
        variance: of the inputs, one for each mode or for all.
        mean: of the inputs, likewise.

    Returns:
        The factors.

    Raises:
        ValueError: see ``moment_rule``.
    """
    rate, s2, mu = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (a, variance, mean)))

    def of(s: Floats, steps: float, s2: Floats, mu: npt.ArrayLike) -> StepMoments:
        return iid_moments(independent_inputs(law, s * rate, variance=s2, mean=mu), steps)

    def moments(s: Floats, steps: float) -> StepMoments:
        found = of(s, steps, s2, mu)
        return _with_faint_mean(found, of(s, steps, 0 * s2, 1.0)) if kind == "joint" and not mu.any() else found

    return moment_rule(kind, moments, rate.shape, train_steps, target_steps, 1 + _FASTEST / (rate * law.mean))


def markov_rule(
    kind: Kind,
    a: npt.ArrayLike,
    dt: npt.ArrayLike,
    transition: npt.ArrayLike,
    train_steps: float,
    target_steps: float,
    *,
    variance: npt.ArrayLike = 1.0,
    mean: npt.ArrayLike = 0.0,
) -> Factors:
    """Return a rule's factors for steps that follow a chain.

    Args:
        kind: ``a``, ``dt`` or ``joint``.
        a: |A| > 0, one for each mode.
        dt: (n,) step size in each state.
        transition: (n, n) probabilities from row to column.
        train_steps: T, whole.
        target_steps: L, whole or ``inf``.
        variance: of the inputs: a number, (n,) one for each state, or (..., 1) one for each mode.
        mean: of the inputs, likewise.

    Returns:
        The factors.

    Raises:
        ValueError: see ``moment_rule``.
    """
    rate, steps = np.asarray(a, dtype=np.float64), np.asarray(dt, dtype=np.float64)

    def moments(s: Floats, length: float) -> StepMoments:
        found = markov_moments(s * rate, steps, transition, length, variance=variance, mean=mean)
        if kind == "joint" and not np.any(mean):
            return _with_faint_mean(found, markov_moments(s * rate, steps, transition, length, variance=0.0, mean=1.0))
        return found

    average = stationary_law(transition) @ steps
    return moment_rule(kind, moments, rate.shape, train_steps, target_steps, 1 + _FASTEST / (rate * average))
