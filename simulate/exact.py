"""Exact values beside the simulation: a mode's closed form, integrated over the law of its eigenvalue.

Quadrature does what sampling cannot when decays come close to 1: its nodes crowd towards the largest decay, so that an
eigenvalue law that reaches within 1e-8 of 1 costs as little as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats.qmc

from .arrays import Floats
from .laws import EigenvalueLaw, OfRate
from .markov_steps import markov_moments
from .modes import second_moment, write_gain
from .random_steps import iid_moments, independent_inputs
from .recurrence import Recurrence
from .step_laws import Constant, Markov, transforms


def mode_energy(recurrence: Recurrence, horizon_steps: int) -> OfRate | None:
    """Return E h_T^2 of one channel as a function of its rate a.

    Args:
        recurrence: step sizes, inputs, discretisation and mixing are taken from it.
        horizon_steps: T.

    Returns:
        The function; None where no closed form is known: recorded steps, a zero-order hold or autocorrelated inputs
        under random steps.
    """
    law, steps = recurrence.inputs, recurrence.steps
    per_input = recurrence.mixing or 1  # B has unit variance, so each input adds one unit
    variance, mean = law.variance * per_input, law.mean * np.sqrt(per_input)
    if isinstance(steps, Constant):

        def constant(a: Floats) -> Floats:
            gain = write_gain(a, steps.dt, recurrence.discretisation)
            energy = second_moment(a * steps.dt, horizon_steps, variance=variance, mean=mean, rho=law.rho)
            return np.asarray(gain**2 * energy)

        return constant
    if recurrence.discretisation != "euler" or law.rho:
        return None
    if isinstance(steps, Markov):
        chain = (np.array(steps.values), np.array(steps.transition))
        return lambda a: markov_moments(a, *chain, horizon_steps, variance=variance, mean=mean).second
    law_of_steps = transforms(steps)
    if law_of_steps is None:
        return None
    return lambda a: (
        iid_moments(independent_inputs(law_of_steps, a, variance=variance, mean=mean), horizon_steps).second
    )


def exact_second_moment(recurrence: Recurrence, times_steps: Sequence[int]) -> Floats | None:
    """Return E ||h_T||^2 by quadrature.

    Args:
        recurrence: what to integrate.
        times_steps: times T.

    Returns:
        One value a time; None where no closed form is known, or rates and B are drawn once for all trials.
    """
    if not recurrence.redraw:
        return None
    values = []
    for time in times_steps:
        energy = mode_energy(recurrence, time)
        if energy is None:
            return None
        values.append(recurrence.channels * recurrence.eigenvalues.expect(energy))
    return np.array(values)


def skewness_of_mean(law: EigenvalueLaw, of_rate: OfRate, draws: int) -> float:
    """Return the skewness of a sample mean of a function of the rate, without its sign, by quadrature.

    Args:
        law: of the rates.
        of_rate: f, what is averaged.
        draws: independent rates in the sample.

    Returns:
        |E (f - E f)^3| / (E (f - E f)^2)^(3/2) / sqrt(draws); 0 where f is the same for all rates.
    """
    first, second, third = (law.expect(_power_of(of_rate, k)) for k in (1, 2, 3))
    variance = second - first**2
    if variance <= 1e-12 * second:  # one eigenvalue
        return 0.0
    return float(abs(third - 3 * first * second + 2 * first**3) / variance**1.5 / np.sqrt(draws))


def _power_of(function: OfRate, power: int) -> OfRate:
    return lambda a: function(a) ** power


def skewness_of_levels(recurrence: Recurrence, times_steps: Sequence[int], modes: int) -> Floats | None:
    """Return the skewness that a mean over independent modes has because their eigenvalues are random.

    Args:
        recurrence: what is sampled.
        times_steps: times T.
        modes: independent eigenvalues in the sample.

    Returns:
        One value a time, at least 0; None as for ``exact_second_moment``.
    """
    if not recurrence.redraw:
        return None
    skewness = []
    for time in times_steps:
        energy = mode_energy(recurrence, time)
        if energy is None:
            return None
        skewness.append(skewness_of_mean(recurrence.eigenvalues, energy, modes))
    return np.array(skewness)


def quasi_second_moment(
    recurrence: Recurrence, horizon_steps: int, points: int, seed: int = 0, scrambles: int = 8
) -> tuple[float, float]:
    """Return E ||h_T||^2 with eigenvalues from scrambled Sobol points in place of random ones.

    An option where quadrature is not wanted; never for a p-value, since points of one scramble are not independent.

    Args:
        recurrence: with a law of eigenvalues and a closed form for one mode.
        horizon_steps: T.
        points: points of a scramble, a power of two.
        seed: of the scrambles.
        scrambles: independent scrambles.

    Returns:
        The mean over scrambles, and its standard error over them. Near 1 it needs far more than 1 / eps points.

    Raises:
        ValueError: no closed form is known for this recurrence.
    """
    energy = mode_energy(recurrence, horizon_steps)
    if energy is None or not recurrence.redraw:
        raise ValueError("no closed form is known for this recurrence: use estimate")
    found = []
    for scramble in range(scrambles):
        sobol = scipy.stats.qmc.Sobol(1, rng=np.random.default_rng([seed, scramble]))
        u = np.clip(sobol.random(points)[:, 0], 2.0**-53, 1 - 2.0**-53)
        found.append(recurrence.channels * float(energy(recurrence.eigenvalues.rates(u)).mean()))
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(scrambles))
