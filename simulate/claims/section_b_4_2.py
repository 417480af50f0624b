"""Section B.4, case 2: what becomes of the level as the largest decay approaches 0.

Setting. I = int_0^l p(x) / (1 - x^2) dx, the level per injected energy of Theorem B.1, for decays on [0, l], l =
lambda_max. Printed: I -> p(0) lambda_max -> 0.

Proof of the corrected form. p is a density, so int p = 1 and I = E[1 / (1 - lambda^2)] = 1 + E[lambda^2 / (1 -
lambda^2)], between 1 and 1 / (1 - l^2). Both ends tend to 1: I -> 1, for every law. A state without memory still holds
its last write. For the uniform law I = artanh(l) / l = 1 + l^2 / 3 + ...

Where the printed form departs. It keeps p(0) fixed while the interval shrinks. A density cannot: on [0, l] it has mean
height 1 / l, so that p(0) lambda_max is 1 for the uniform law. The printed limit holds for the integral of a fixed p
cut at l, whose mass tends to 0 as well, and which is not the p of Theorem B.1. As printed the value is read here with
that fixed p: the uniform density on [0, 1], p(0) = 1, or Beta(2, 2), p(0) = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import sympy

from ..laws import Beta, EigenvalueLaw, Uniform, uniform
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import InputLaw
from ..symbolic import Derivation, Step
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials

CHANNELS = 8
"""Channels of the recurrence, each with a decay of its own."""
STEPS = 16
"""Steps that are run: 0.5^32 is 2e-10."""
LARGEST = (0.5, 0.1, 0.01)
"""Largest decays of the uniform laws."""
TINY = 1e-6
"""Largest decay at which the limit is read off."""


def printed_level(largest: float) -> float:
    """Return p(0) lambda_max with p(0) = 1."""
    return largest


def level(largest: float) -> float:
    """Return artanh(l) / l, the level for lambda ~ U[0, l]."""
    return math.atanh(largest) / largest


def derive() -> Derivation:
    """Derive that the level tends to 1, and for what the printed limit holds."""
    x, top = sympy.symbols("x lambda_max", positive=True)
    at = ({top: sympy.Rational(1, 10)}, {top: sympy.Rational(1, 2)})
    inside = tuple({x: sympy.Rational(k, 10), top: sympy.Rational(1, 2)} for k in range(1, 6))
    return Derivation(
        (
            Step(
                "One half: 1 / (1 - x^2) exceeds 1 by a term that is not negative.",
                1 / (1 - x**2) - 1,
                x**2 / (1 - x**2),
            ),
            Step(
                "Other half: below lambda_max it is at most 1 / (1 - lambda_max^2); the gap is",
                1 / (1 - top**2) - 1 / (1 - x**2),
                (top - x) * (top + x) / ((1 - top**2) * (1 - x**2)),
            ),
            Step("not negative for x <= lambda_max.", sympy.Integer(0), (top - x) * (top + x), "<=", inside),
            Step(
                "A mean of values between 1 and 1 / (1 - lambda_max^2) tends to 1 with the upper end.",
                sympy.Limit(1 / (1 - top**2), top, 0),
                sympy.Integer(1),
            ),
            Step(
                "The uniform density 1 / lambda_max on [0, lambda_max] has mass 1, so p(0) lambda_max = 1.",
                sympy.Integral(1 / top, (x, 0, top)),
                sympy.Integer(1),
            ),
            Step(
                "Its level is artanh(lambda_max) / lambda_max: the derivative fits, and both vanish at 0.",
                sympy.Derivative(sympy.atanh(top), top),
                1 / (1 - top**2),
            ),
            Step("It tends to 1,", sympy.Limit(sympy.atanh(top) / top, top, 0), sympy.Integer(1)),
            Step(
                "with lambda_max^2 / 3 as the first correction.",
                sympy.Limit((sympy.atanh(top) / top - 1) / top**2, top, 0),
                sympy.Rational(1, 3),
            ),
            Step(
                "The printed limit belongs to a fixed p = 1 cut at lambda_max: its integral vanishes,",
                sympy.Limit(sympy.atanh(top), top, 0),
                sympy.Integer(0),
            ),
            Step("but its mass is lambda_max, not 1.", sympy.Integral(1, (x, 0, top)), top),
            Step("So the printed value is not the level.", top, sympy.atanh(top) / top, "!=", at),
        ),
        "I -> 1 as lambda_max -> 0, whatever the density; as printed the limit 0 is wrong.",
        {x: "a decay", top: "largest decay"},
    )


def _laws() -> dict[str, tuple[EigenvalueLaw, float]]:
    """Return the simulated laws with the printed value p(0) lambda_max of each."""
    laws: dict[str, tuple[EigenvalueLaw, float]] = {
        f"U[0, {top:g}]": (uniform(0.0, top), printed_level(top)) for top in LARGEST
    }
    # Beta(2, 2) has p(0) = 0 before and after the cut
    return laws | {"Beta(2, 2) on [0, 0.1]": (Beta(2, 2, 0.0, 0.9), 0.0)}


def _run(law: EigenvalueLaw, rho: float = 0.0) -> Paths:
    return Paths(Recurrence("diagonal", CHANNELS, law, inputs=InputLaw(rho=rho)), (STEPS,))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence itself, with decays and inputs drawn anew in each trial."""
    runs = {name: Trials(_run(law), trials) for name, (law, _) in _laws().items()}
    return runs | {"control": Trials(_run(uniform(0.0, LARGEST[0]), rho=0.6), trials)}


def _expected(law: EigenvalueLaw) -> float:
    return law.expect(lambda rate: energy_gain(rate, STEPS))


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold E ||h||^2 / Q against both forms, and the limit by quadrature."""
    found = [
        samples[name].against(f"E||h||^2/Q, lambda ~ {name}", _expected(law), printed, unit=CHANNELS, x=_x(name))
        for name, (law, printed) in _laws().items()
    ]
    limit = Uniform(0.0, 1 - TINY).expect(lambda rate: -1 / np.expm1(-2 * rate))
    return [
        *found,
        exactly(f"limit: I by quadrature at lambda_max = {TINY:g}", limit, 1.0, 0.0, bound=2 * TINY),
    ]


def _x(name: str) -> float | None:
    return next((top for top in LARGEST if name == f"U[0, {top:g}]"), None)


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate whiteness: inputs with a correlation of 0.6 between neighbours."""
    law = uniform(0.0, LARGEST[0])
    return [samples["control"].against("correlated inputs, lambda ~ U[0, 0.5]", _expected(law), unit=CHANNELS)]


CLAIM = Claim(
    key="b.4-2",
    title="level as the largest decay approaches 0",
    source=f"{PAPER}, Appendix B.4, case 2",
    printed="int p(x) / (1 - x^2) dx -> p(0) lambda_max -> 0 as lambda_max -> 0",
    assumptions=("p is a density of decays on [0, lambda_max]", "the setting of Theorem B.1"),
    corrected="int p(x) / (1 - x^2) dx -> 1 as lambda_max -> 0; artanh(lambda_max) / lambda_max for U[0, lambda_max]",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "largest decay lambda, of U[0, lambda]",
        "E||h||^2 / E||Bx||^2",
        tuple(0.01 * k for k in range(1, 61)),
        printed_level,
        level,
    ),
)
