"""Section B.4, case 1: how the level grows as the largest decay approaches 1.

Setting. I(e) = int_0^{1-e} p(x) / (1 - x^2) dx, the level per injected energy of Theorem B.1, for a density p of decays
that is cut at lambda_max = 1 - e. Printed: I ~ -(p(1) / 2) log(1 - lambda_max).

Proof. 1 / (1 - x^2) = (1 / (1 - x) + 1 / (1 + x)) / 2. For p with a bounded slope near 1, (p(x) - p(1)) / (1 - x) is
bounded, so I(e) = (p(1) / 2) int_0^{1-e} dx / (1 - x) + O(1) = (p(1) / 2) log(1 / e) + O(1). With 0 < p(1) < infinity
the first term outgrows the rest: the printed form is right at leading order. (Scaling p to the mass 1 after the cut
changes p(1) by a factor 1 + O(e).)

How slow. The O(1) does not vanish: for the uniform law it is log(2) / 2, so the printed form is too small by 14 % at
e = 1e-2, 7 % at 1e-4 and still 2.4 % at 1e-12. What converges fast is the growth: I(e^2) - I(e) against
(p(1) / 2) log(1 / e).

Where it ends. p(1) = 0, as for Beta(2, 2): I stays finite, 6 (1 - log 2) = 1.84. p(1) infinite, as for
(1 - x)^{-1/2} / 2: a power law, 1 / (2 sqrt(e)). Rates spread log-uniformly from r to 1: a power law again,
1 / (2 r log(1 / r)). These are the control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import sympy

from ..laws import Beta, EigenvalueLaw, LogUniform, Uniform
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..symbolic import Derivation, Step
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials

CHANNELS = 8
"""Channels of the recurrence, each with a decay of its own."""
SIMULATED = ((0.1, 64), (0.01, 512))
"""Distances e of the largest decay from 1 that are simulated, and steps: 0.99^1024 is 3e-5."""
DISTANCES = (1e-8, 1e-10, 1e-12)
"""Distances at which the growth is read off; they step by equal factors."""
SLOW = (1e-2, 1e-4, 1e-12)
"""Distances at which the relative error of the printed form is given."""
NEGLECTED = 1e-6
"""Bound on what the growth differs from its limit by: e log(1 / e) = 2e-7 at the largest distance, and quadrature."""


def printed_level(eps: float, density: float = 1.0) -> float:
    """Return -(p(1) / 2) log(1 - lambda_max)."""
    return -density / 2 * math.log(eps)


def uniform_level(eps: float) -> float:
    """Return artanh(lambda_max) / lambda_max, what Theorem B.1 gives for lambda ~ U[0, lambda_max]."""
    return (math.log1p(1 - eps) - math.log(eps)) / (2 * (1 - eps))


def level(law: EigenvalueLaw) -> float:
    """Return int p(x) / (1 - x^2) dx by quadrature."""
    return law.expect(lambda rate: -1 / np.expm1(-2 * rate))


def rising(eps: float) -> Beta:
    """Return the density 2 x / lambda_max^2 on [0, lambda_max], for which p(1) = 2."""
    return Beta(2, 1, 0.0, eps)


def derive() -> Derivation:
    """Derive leading order and remainder, and the laws for which it is another one."""
    x, y, e, r, u = sympy.symbols("x y e r u", positive=True)
    c, k, q = sympy.symbols("c_0 c_1 c_2", real=True)
    p = c + k * x + q * x**2
    uniform = sympy.log((2 - e) / e) / 2
    square_root = 1 / (2 * sympy.sqrt(y)) - sympy.log(
        (sympy.sqrt(2) + sympy.sqrt(y)) / (sympy.sqrt(2) - sympy.sqrt(y))
    ) / (4 * sympy.sqrt(2))
    leading = -sympy.log(e) / 2
    tiny = sympy.Rational(1, 10**12)
    return Derivation(
        (
            Step("Partial fractions.", 1 / (1 - x**2), (1 / (1 - x) + 1 / (1 + x)) / 2),
            Step(
                "The first of them, with y = 1 - x: a logarithm of e = 1 - lambda_max.",
                sympy.Integral(1 / (2 * y), (y, e, 1)),
                leading,
            ),
            Step(
                "What p is not p(1) leaves no pole: here p is a quadratic, in general p has a bounded slope.",
                (p - p.subs(x, 1)) / (1 - x),
                -(k + q * (1 + x)),
            ),
            Step(
                "Uniform: I = log((2 - e) / e) / 2, for its derivative in e is minus the integrand at 1 - e.",
                sympy.Derivative(uniform, e),
                -1 / (1 - (1 - e) ** 2),
            ),
            Step("It vanishes for e = 1.", sympy.Subs(uniform, e, 1), sympy.Integer(0)),
            Step("Leading order, p(1) = 1: as printed.", sympy.Limit(uniform / leading, e, 0), sympy.Integer(1)),
            Step("But a constant remains.", sympy.Limit(uniform - leading, e, 0), sympy.log(2) / 2),
            Step(
                "So it is slow: at e = 1e-12 the printed form is too small by more than 2 %.",
                leading * sympy.Rational(51, 50),
                uniform,
                "<=",
                ({e: tiny},),
            ),
            Step(
                "p = 2 x: I = -log(e (2 - e)), twice the uniform leading order, as p(1) = 2 asks.",
                sympy.Limit(-sympy.log(e * (2 - e)) / (2 * leading), e, 0),
                sympy.Integer(1),
            ),
            Step(
                "That this is I: its derivative is minus the integrand at 1 - e.",
                sympy.Derivative(-sympy.log(e * (2 - e)), e),
                -2 * (1 - e) / (1 - (1 - e) ** 2),
            ),
            Step(
                "p(1) = 0, Beta(2, 2): I stays finite as e goes to 0.",
                sympy.Integral(6 * x * (1 - x) / ((1 - x) * (1 + x)), (x, 0, 1)),
                6 * (1 - sympy.log(2)),
            ),
            Step(
                "p(1) infinite, p = (1 - x)^{-1/2} / 2: minus an antiderivative in y = 1 - x,",
                sympy.Derivative(square_root, y),
                -1 / (2 * sympy.sqrt(y)) / (y * (2 - y)),
            ),
            Step(
                "grows like 1 / (2 sqrt(e)), a power law.",
                sympy.Limit(square_root * sympy.sqrt(y), y, 0),
                sympy.Rational(1, 2),
            ),
            Step(
                "Log-uniform rates on [r, 1]: the level of a slow mode, 1 / (2 u), averages to a power of r.",
                sympy.Integral(1 / (2 * u) / (u * sympy.log(1 / r)), (u, r, 1)),
                (1 / r - 1) / (2 * sympy.log(1 / r)),
            ),
        ),
        "I = (p(1) / 2) log(1 / (1 - lambda_max)) + O(1) if 0 < p(1) < infinity: as printed at leading order, slow.",
        {e: "1 - lambda_max", x: "a decay", y: "1 - x", r: "smallest rate", u: "a rate"},
    )


def _name(eps: float) -> str:
    return f"lambda ~ U[0, {1 - eps:g}]"


def _run(law: EigenvalueLaw, steps: int) -> Paths:
    return Paths(Recurrence("diagonal", CHANNELS, law), (steps,))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence where it still can be: beyond e N = 100 a sample no longer shows its own tail."""
    runs = {_name(eps): Trials(_run(Uniform(0.0, eps), steps), trials // 4) for eps, steps in SIMULATED}
    eps, steps = SIMULATED[-1]
    return runs | {
        "p = 2x": Trials(_run(rising(eps), steps), trials // 4),
        "control": Trials(_run(Beta(2, 2, 0.0, eps), steps), trials // 4),
    }


def _expected(law: EigenvalueLaw, steps: int) -> float:
    return law.expect(lambda rate: energy_gain(rate, steps))


def _growth(levels: Sequence[float]) -> float:
    """Return by how much I grows for a unit of log(1 / e), over the last factor."""
    return (levels[-1] - levels[-2]) / math.log(DISTANCES[-2] / DISTANCES[-1])


def _evenness(levels: Sequence[float]) -> float:
    """Return the last increment over the one before: 1 for a logarithm, 10 for a power -1/2."""
    return (levels[-1] - levels[-2]) / (levels[-2] - levels[-3])


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the growth against p(1) / 2, levels against their exact value, and give the printed form's error."""
    found = []
    for name, levels, density in (
        ("uniform", [level(Uniform(0.0, eps)) for eps in DISTANCES], 1.0),
        ("p = 2x", [level(rising(eps)) for eps in DISTANCES], 2.0),
    ):
        found += [
            exactly(
                f"growth of I per log(1/e), {name}, e = 1e-12 (rival: p(1), without the half)",
                _growth(levels),
                density / 2,
                density / 2,
                bound=NEGLECTED,
                rival=density,
            ),
            exactly(
                f"I over two more decades against the two before, {name} (rival: a power law)",
                _evenness(levels),
                1.0,
                1.0,
                bound=NEGLECTED,
                rival=10.0,
            ),
        ]
    found += [
        exactly(
            f"printed form over I, uniform, 1 - lambda_max = {eps:g} (rival: exact there)",
            printed_level(eps) / level(Uniform(0.0, eps)),
            printed_level(eps) / uniform_level(eps),
            bound=NEGLECTED,
            rival=1.0,
        )
        for eps in SLOW
    ]
    for eps, steps in SIMULATED:
        found.append(
            samples[_name(eps)].against(
                f"E||h||^2/Q, {_name(eps)} (rival: the printed form as an equality)",
                _expected(Uniform(0.0, eps), steps),
                rival=printed_level(eps),
                unit=CHANNELS,
                x=eps,
            )
        )
    eps, steps = SIMULATED[-1]
    found.append(
        samples["p = 2x"].against(
            "E||h||^2/Q, p = 2x on [0, 0.99] (rival: the uniform law's)",
            _expected(rising(eps), steps),
            rival=uniform_level(eps),
            unit=CHANNELS,
        )
    )
    return found


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate 0 < p(1) < infinity: a density that vanishes at 1, one that is infinite there, and log-uniform rates."""
    eps, steps = SIMULATED[-1]
    laws: dict[str, list[EigenvalueLaw]] = {
        "p(1) = 0, Beta(2, 2)": [Beta(2, 2, 0.0, eps) for eps in DISTANCES],
        "p(1) infinite, Beta(1, 1/2)": [Beta(1, 0.5, 0.0, eps) for eps in DISTANCES],
        "log-uniform rates": [LogUniform(eps, 1.0) for eps in DISTANCES],
    }
    return [
        *(
            exactly(
                f"I over two more decades against the two before, {name}",
                _evenness([level(law) for law in near]),
                1.0,
                bound=NEGLECTED,
            )
            for name, near in laws.items()
        ),
        samples["control"].against(
            "E||h||^2/Q, Beta(2, 2) on [0, 0.99], against the uniform law's",
            _expected(Uniform(0.0, eps), steps),
            unit=CHANNELS,
        ),
    ]


CLAIM = Claim(
    key="b.4-1",
    title="growth of the level as the largest decay approaches 1",
    source=f"{PAPER}, Appendix B.4, case 1",
    printed="int p(x) / (1 - x^2) dx ~ -(p(1) / 2) log(1 - lambda_max) as lambda_max -> 1",
    assumptions=("0 < p(1) < infinity, p with a bounded slope near 1", "the setting of Theorem B.1"),
    corrected="as printed at leading order, beside a constant: (p(1) / 2) log(1 / (1 - lambda_max)) + O(1), for U[0, "
    "lambda_max] + log(2) / 2. Finite for p(1) = 0, a power law for p(1) infinite or log-uniform rates",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "1 - lambda_max, of U[0, lambda_max]",
        "E||h||^2 / E||Bx||^2",
        tuple(10 ** (-0.1 * k) for k in range(3, 61)),
        printed_level,
        uniform_level,
    ),
)
