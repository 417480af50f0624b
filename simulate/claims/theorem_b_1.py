"""Theorem B.1: the level of a diagonal state for any law of its decays.

Setting. h_t = Lambda h_{t-1} + B x_t from h_0 = 0, Lambda diagonal with lambda_i of density p on a closed part of
(0, 1), independent of B; x_t white with unit variance. b_i is row i of B and Q = E ||B x||^2 = sum E ||b_i||^2.

Proof. Given lambda and B, unrolling gives E h_{i,T}^2 = ||b_i||^2 (1 - lambda_i^{2T}) / (1 - lambda_i^2), which tends
to ||b_i||^2 / (1 - lambda_i^2); on a closed part of (0, 1) it is bounded, so limit and expectation may be exchanged.
The expectation over independent b_i and lambda_i is the product of the two expectations, and the sum over i is
E ||h||^2 = Q int p(x) / (1 - x^2) dx, as printed. Channels may depend on each other, since each enters by its own
square alone, and no law need be Gaussian, since second moments are all that is used.

Where it ends. If b_i depends on lambda_i the product stays inside: E ||h||^2 = sum E [||b_i||^2 / (1 - lambda_i^2)].
Writes that shrink with the memory, ||b_i||^2 ~ 1 - lambda_i^2, take the slow modes' weight away altogether. That case
is the control, and the general form is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.integrate
import sympy

from ..arrays import Floats
from ..laws import Beta, EigenvalueLaw, LogUniform, two_point, uniform
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..symbolic import Derivation, Step
from ..threefry import DECAYS, INPUTS, MIXING, Words, normals, uniforms
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Drawn, Samples, Trials

Density = Callable[[Any], Any]

SIZE = 8
"""d = m: channels, and inputs that B mixes."""
LOW, HIGH = 0.1, 0.9
"""Interval of the Beta(2, 2) law."""
SLOW, FAST = 0.05, 5.0
"""Smallest and largest rate of the log-uniform law."""
LAWS: Mapping[str, tuple[EigenvalueLaw, int]] = {
    "Beta(2, 2) on [0.1, 0.9]": (Beta(2, 2, LOW, 1 - HIGH), 72),
    "0.3 or 0.95": (two_point(0.3, 0.95), 144),
    "log-uniform rates on [0.05, 5]": (LogUniform(SLOW, FAST), 144),
}
"""Laws of the decay, and the steps after which it is within 1e-6 of its stationary level, relatively."""
LARGEST = 0.95
"""Largest decay of the case where B depends on the decays."""
STEPS = 64
"""Steps of that case."""
NODES, REPEATS = 240, 400
"""Nodes of the quadrature of the recursion, and its steps: 0.951^800 is 4e-18."""
_AT_ONCE = 512  # trials whose inputs are in memory


def densities() -> dict[str, tuple[Density, float, float]]:
    """Return the laws that have a density, as that of the decay, with the ends of its interval."""
    width, spread = HIGH - LOW, math.log(FAST / SLOW)
    return {
        "Beta(2, 2) on [0.1, 0.9]": (lambda x: 6 * (x - LOW) * (HIGH - x) / width**3, LOW, HIGH),
        "log-uniform rates on [0.05, 5]": (lambda x: -1 / (x * np.log(x) * spread), math.exp(-FAST), math.exp(-SLOW)),
    }


def level(law: str) -> float:
    """Return int p(x) / (1 - x^2) dx, as printed, by adaptive quadrature in the decay; for two points their mean."""
    if law not in densities():
        return (1 / (1 - 0.3**2) + 1 / (1 - 0.95**2)) / 2
    density, start, stop = densities()[law]
    found = scipy.integrate.quad(lambda x: density(x) / (1 - x * x), start, stop, epsabs=0, epsrel=1e-11)
    return float(found[0])


def recursion_level(law: str) -> float:
    """Return E h^2 by running v = x^2 v + 1 at the nodes of a Gauss-Legendre rule until it stands still."""
    density, start, stop = densities()[law]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    x = (start + stop) / 2 + (stop - start) / 2 * nodes
    v = np.zeros(NODES)
    for _ in range(REPEATS):
        v = x * x * v + 1
    return float((stop - start) / 2 * (weights * density(x) * v).sum())


def at_mean(law: EigenvalueLaw) -> float:
    """Return 1 / (1 - E lambda^2), which Jensen's inequality puts below the level: the rival."""
    return 1 / (1 - law.expect(lambda rate: np.exp(-2 * rate)))


def derive() -> Derivation:
    """Derive the level, check it on two laws, and show what dependence does."""
    x, low, high, u = sympy.symbols("x a b u", positive=True)
    first, second, p, one, other, r = sympy.symbols("lambda_1 lambda_2 p q_1 q_2 r", positive=True)
    T = sympy.Symbol("T", integer=True, positive=True)
    gain = (1 - x ** (2 * T)) / (1 - x**2)
    weight = 6 * (x - low) * (high - x) / (high - low) ** 3
    primitive = (
        6
        / (high - low) ** 3
        * (x + (1 - low) * (1 - high) / 2 * sympy.log(1 - x) - (1 + low) * (1 + high) / 2 * sympy.log(1 + x))
    )
    ends = {low: sympy.Rational(1, 10), high: sympy.Rational(9, 10)}
    decays, probabilities = (first, second), (p, 1 - p)
    mean_level = sum(w / (1 - d**2) for w, d in zip(probabilities, decays, strict=True))
    mean_write = r * one + (1 - r) * other
    joint = sum(
        w * v * q / (1 - d**2)
        for w, d in zip(probabilities, decays, strict=True)
        for v, q in ((r, one), (1 - r, other))
    )
    bound = sum(w * (1 - d**2) / (1 - d**2) for w, d in zip(probabilities, decays, strict=True))
    split = sum(w * (1 - d**2) for w, d in zip(probabilities, decays, strict=True)) * mean_level
    at = ({first: sympy.Rational(3, 10), second: sympy.Rational(19, 20), p: sympy.Rational(1, 2)},)
    return Derivation(
        (
            Step(
                "The energy after T steps obeys g_{T+1} = x^2 g_T + 1, x the decay,",
                gain.subs(T, T + 1),
                x**2 * gain + 1,
            ),
            Step("starts at g_1 = 1,", sympy.Subs(gain, T, 1), sympy.Integer(1)),
            Step(
                "and tends to 1 / (1 - x^2); shown at x = 9/10.",
                sympy.Limit(gain.subs(x, sympy.Rational(9, 10)), T, sympy.oo),
                1 / (1 - sympy.Rational(81, 100)),
            ),
            Step(
                "Independent write q and decay, two values each: the expectation over both is a product.",
                joint,
                mean_write * mean_level,
            ),
            Step(
                "Uniform density: the integral is that of the corrected Theorem 4.2, by the derivative of artanh.",
                sympy.Derivative(sympy.atanh(x), x),
                1 / (1 - x**2),
            ),
            Step(
                "Beta(2, 2) density on [a, b], 6 (x - a) (b - x) / (b - a)^3: an antiderivative of p(x) / (1 - x^2),",
                sympy.Derivative(primitive, x),
                weight / (1 - x**2),
            ),
            Step(
                "which agrees with a quadrature on [1/10, 9/10].",
                sympy.Integral((weight / (1 - x**2)).subs(ends), (x, ends[low], ends[high])),
                (primitive.subs(x, high) - primitive.subs(x, low)).subs(ends),
            ),
            Step(
                "Log-uniform rate a: the density of x = e^{-a} is -1 / (x log x), up to a constant.",
                sympy.Integral(
                    -1 / (x * sympy.log(x)) / (1 - x**2), (x, sympy.exp(-5), sympy.exp(-sympy.Rational(1, 20)))
                ),
                sympy.Integral(1 / (u * (1 - sympy.exp(-2 * u))), (u, sympy.Rational(1, 20), 5)),
            ),
            Step("Where ||b||^2 = 1 - lambda^2 the mean of ||b||^2 / (1 - lambda^2) is 1,", bound, sympy.Integer(1)),
            Step("while the product of the means is not: independence is needed.", bound, split, "!=", at),
        ),
        "E ||h||^2 = Q int p(x) / (1 - x^2) dx, as printed, for decays independent of B.",
        {
            x: "a decay",
            low: "smallest decay",
            high: "largest decay",
            p: "probability of lambda_1",
            r: "probability of q_1",
            T: "steps",
        },
    )


def _dependent(key: Words, first: int, trials: int) -> Floats:
    """Run the recurrence with normal rows b_i scaled so that E ||b_i||^2 = SIZE (1 - lambda_i^2).

    Args:
        key: the experiment's key.
        first: number of the first trial.
        trials: how many.

    Returns:
        (trials, 1), ||h_T||^2 after ``STEPS``.
    """
    decays = LARGEST * uniforms(key, DECAYS, first, trials, SIZE)
    B = normals(key, MIXING, first, trials, SIZE * SIZE).reshape(trials, SIZE, SIZE)
    x = normals(key, INPUTS, first, trials, STEPS * SIZE).reshape(trials, STEPS, SIZE)
    rows = B * np.sqrt(1 - decays**2)[:, :, None]
    h = np.zeros((trials, SIZE))
    for inputs in x.transpose(1, 0, 2):
        h = decays * h + np.einsum("tij,tj->ti", rows, inputs)
    return np.asarray(np.square(h).sum(1)[:, None])


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence itself, with decays, B and inputs drawn anew in each trial."""
    runs = {
        name: Trials(Paths(Recurrence("diagonal", SIZE, law, mixing=SIZE), (steps,)), trials)
        for name, (law, steps) in LAWS.items()
    }
    return runs | {"control": Trials(Drawn(_dependent, 4 * STEPS * SIZE, _AT_ONCE), trials // 8)}


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold E ||h||^2 / Q against the integral, and the dependent case against the general form."""
    found = [
        samples[name].against(
            f"E||h||^2/Q, lambda ~ {name} (rival: at the mean of lambda^2)",
            level(name),
            level(name),
            rival=at_mean(law),
            unit=SIZE * SIZE,
        )
        for name, (law, _) in LAWS.items()
    ]
    found += [
        exactly(
            f"E h^2 / E u^2 by recursion, lambda ~ {name} (rival: at the mean of lambda^2)",
            recursion_level(name),
            level(name),
            level(name),
            bound=1e-9,
            rival=at_mean(LAWS[name][0]),
        )
        for name in densities()
    ]
    general = uniform(0.0, LARGEST).expect(lambda rate: -np.expm1(-2 * STEPS * rate))
    return [
        *found,
        samples["control"].against(
            "E||h||^2/d^2, ||b_i||^2 ~ 1 - lambda^2: E[||b||^2 g_T] (rival: the factorised form)",
            general,
            rival=_factorised(),
            unit=SIZE * SIZE,
        ),
    ]


def _factorised() -> float:
    """Return E ||b||^2 E g_T / d where ||b||^2 / d averages to 1 - lambda^2."""
    law = uniform(0.0, LARGEST)
    return law.expect(lambda rate: -np.expm1(-2 * rate)) * law.expect(lambda rate: energy_gain(rate, STEPS))


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate independence: writes that shrink with the memory."""
    return [samples["control"].against("E||h||^2/d^2, ||b_i||^2 ~ 1 - lambda^2", _factorised(), unit=SIZE * SIZE)]


CLAIM = Claim(
    key="theorem-b.1",
    title="level of a diagonal state, any law of decays",
    source=f"{PAPER}, Theorem B.1",
    printed="E||h||^2 = E||Bx||^2 * int p(x) / (1 - x^2) dx for decays of density p",
    assumptions=(
        "h_0 = 0, lambda constant in time, in a closed part of (0, 1)",
        "x white, zero mean, unit variance",
        "lambda independent of B and x",
        "T large enough to be stationary",
    ),
    corrected="as printed; without independence E||h||^2 = sum_i E[||b_i||^2 / (1 - lambda_i^2)]",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
