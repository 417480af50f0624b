"""Corollary 4.3: the level of a diagonal state whose decays reach down to 0, with the step size written out.

Setting. h_t = Lambda h_{t-1} + Delta B x_t from h_0 = 0: the Euler step that Mamba takes, whose write gain is Delta.
Lambda is diagonal with independent lambda_i ~ U[0, lambda], x_t white with unit variance, B independent of Lambda. The
ratio rho = E ||h||^2 / E ||B x||^2 is asked for.

Proof of the corrected form. The inputs of the recurrence are w_t = Delta B x_t. They are white and E ||w||^2 =
Delta^2 E ||B x||^2: a factor on a vector enters its squared norm squared. By the corrected Theorem 4.2 with lmin = 0,
E ||h||^2 = E ||w||^2 artanh(lambda) / lambda. Hence rho = Delta^2 artanh(lambda) / lambda.

Where the printed form departs. Twice. It inherits the integrand x / (1 - x^2) of Theorem 4.2, and has Delta to the
first power. Each error shows alone: the first at Delta = 1, the second in the ratio of two step sizes with the same
decays and inputs, where rho must grow by the square of the ratio. The two errors cancel for one lambda at each Delta
below 1 and nowhere else: at Delta = 1/2 where (1 - lambda)(1 + lambda)^3 = 1, lambda = 0.839.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import sympy

from ..arrays import Floats
from ..laws import uniform
from ..modes import Discretisation, energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant, InputLaw
from ..symbolic import Derivation, Step
from ..threefry import Words
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Drawn, Samples, Trials
from .stationary import stationary_steps

CURVE_STEP = 0.5
"""Delta of the curve over lambda."""
ON_CURVE = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
"""Largest decays on the curve."""
CASES = ((0.05, 0.1), (0.5, 0.1), (0.9, 0.1), (0.5, 1.0), (0.9, 1.0), (0.9, 2.0))
"""Other (lambda, Delta)."""
STRETCH = 3.0
"""Ratio of the two step sizes of the test that isolates the power of Delta."""
SIZE = 4
"""d = m: channels, and inputs that B mixes."""


def printed_level(largest: float, dt: float) -> float:
    """Return the printed rho."""
    return dt * math.log(1 / (1 - largest**2)) / (2 * largest)


def level(largest: float, dt: float) -> float:
    """Return the corrected rho."""
    return dt**2 * math.atanh(largest) / largest


def derive() -> Derivation:
    """Derive the corrected form and find the two places where the printed one departs."""
    x, largest, dt, c = sympy.symbols("x lambda Delta c", positive=True)
    w1, w2 = sympy.symbols("w_1 w_2", real=True)
    half = sympy.Rational(1, 2)
    corrected = dt**2 * sympy.atanh(largest) / largest
    printed = dt * sympy.log(1 / (1 - largest**2)) / (2 * largest)
    return Derivation(
        (
            Step(
                "The gain Delta enters a squared norm squared; two entries shown.",
                (dt * w1) ** 2 + (dt * w2) ** 2,
                dt**2 * (w1**2 + w2**2),
            ),
            Step(
                "One mode of decay x with the gain Delta has the stationary energy v = x^2 v + Delta^2.",
                x**2 * (dt**2 / (1 - x**2)) + dt**2,
                dt**2 / (1 - x**2),
            ),
            Step(
                "Over the uniform law: the integral from 0 to lambda has the derivative Delta^2 / (1 - lambda^2),",
                sympy.Derivative(largest * corrected, largest),
                dt**2 / (1 - largest**2),
            ),
            Step("and starts at 0.", sympy.Subs(largest * corrected, largest, 0), sympy.Integer(0)),
            Step(
                "An independent quadrature for lambda = 9/10, Delta = 1/10 agrees.",
                sympy.Integral(
                    sympy.Rational(1, 100) / (1 - x**2) / sympy.Rational(9, 10), (x, 0, sympy.Rational(9, 10))
                ),
                corrected.subs({largest: sympy.Rational(9, 10), dt: sympy.Rational(1, 10)}),
            ),
            Step(
                "First departure: the printed integral is that of x / (1 - x^2).",
                sympy.Derivative(largest * printed, largest),
                dt * largest / (1 - largest**2),
            ),
            Step(
                "It alone is wrong already at Delta = 1.",
                printed.subs(dt, 1),
                corrected.subs(dt, 1),
                "!=",
                ({largest: half}, {largest: sympy.Rational(9, 10)}),
            ),
            Step(
                "Second departure: c times the gain must give c^2 times the level; the printed form gives c times.",
                printed.subs(dt, c * dt),
                c * printed,
            ),
            Step("The corrected form gives c^2 times.", corrected.subs(dt, c * dt), c**2 * corrected),
            Step(
                "For small lambda the level is that of the last input, Delta^2,",
                sympy.Limit(corrected, largest, 0),
                dt**2,
            ),
            Step("while the printed form vanishes.", sympy.Limit(printed, largest, 0), sympy.Integer(0)),
        ),
        "rho = Delta^2 artanh(lambda) / lambda; as printed the corollary is wrong in its integral and in its Delta.",
        {x: "a decay", largest: "largest decay", dt: "step size", c: "a factor on the step size"},
    )


def _recurrence(largest: float, dt: float, rho: float = 0.0, discretisation: Discretisation = "euler") -> Recurrence:
    return Recurrence(
        "diagonal",
        SIZE,
        uniform(0.0, largest, step=dt),
        steps=Constant(dt),
        inputs=InputLaw(rho=rho),
        discretisation=discretisation,
        mixing=SIZE,
    )


def _stretched(key: Words, first: int, trials: int) -> Floats:
    """Return ||h||^2 at a step size STRETCH times as large over that at the smaller one, decays and inputs the same."""
    short = _recurrence(0.9, 0.1)
    long = replace(short, steps=Constant(STRETCH * 0.1), eigenvalues=uniform(0.0, 0.9, step=STRETCH * 0.1))
    times = np.array([stationary_steps(0.9)])
    return long.squared_norms(key, times, first, trials) / short.squared_norms(key, times, first, trials)


def _name(largest: float, dt: float) -> str:
    return f"lambda ~ U[0, {largest:g}], Delta = {dt:g}"


def _pairs() -> tuple[tuple[float, float], ...]:
    return (*((largest, CURVE_STEP) for largest in ON_CURVE), *CASES)


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence itself, with decays, B and inputs drawn anew in each trial."""
    runs = {_name(*pair): Trials(Paths(_recurrence(*pair), (stationary_steps(pair[0]),)), trials) for pair in _pairs()}
    return runs | {
        "two step sizes": Trials(Drawn(_stretched, 2 * SIZE * stationary_steps(0.9)), max(64, trials // 64)),
        "control correlated": Trials(Paths(_recurrence(0.9, 0.5, rho=0.5), (stationary_steps(0.9),)), trials),
        "control zero-order hold": Trials(
            Paths(_recurrence(0.9, 2.0, discretisation="zoh"), (stationary_steps(0.9),)), trials
        ),
    }


def _expected(largest: float, dt: float) -> float:
    """Corrected form at the horizon that is simulated, within 1e-6 of the stationary one."""
    steps = stationary_steps(largest)
    return dt**2 * uniform(0.0, largest, step=dt).expect(lambda a: energy_gain(a * dt, steps))


def _stationary(largest: float, dt: float) -> float:
    law = uniform(0.0, largest, step=dt)
    return dt**2 * law.expect(lambda a: energy_gain(a * dt, math.inf))


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold E ||h||^2 / E ||B x||^2 against both forms."""
    levels = [
        samples[_name(*pair)].against(
            f"rho, {_name(*pair)}",
            _expected(*pair),
            printed_level(*pair),
            unit=SIZE * SIZE,
            x=pair[0] if pair[1] == CURVE_STEP else None,
        )
        for pair in _pairs()
    ]
    ratio = exactly(
        f"level at {STRETCH:g} Delta over level at Delta, worst of all trials",
        samples["two step sizes"].furthest(STRETCH**2),
        STRETCH**2,
        STRETCH,
        bound=1e-9,  # the decays differ in their last bit: 1e-14 of the largest term, more of a sum that cancels
    )
    stationary = [
        exactly(
            f"stationary rho by quadrature, {_name(*pair)}",
            _stationary(*pair),
            level(*pair),
            printed_level(*pair),
            bound=1e-10 * level(*pair),
        )
        for pair in _pairs()
    ]
    return [*levels, ratio, *stationary]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate whiteness, and the Euler gain: a zero-order hold writes less than Delta."""
    unit = SIZE * SIZE
    return [
        samples["control correlated"].against("correlated inputs, U[0, 0.9]", _expected(0.9, 0.5), unit=unit),
        samples["control zero-order hold"].against("zero-order hold, U[0, 0.9]", _expected(0.9, 2.0), unit=unit),
    ]


CLAIM = Claim(
    key="corollary-4.3",
    title="level of a diagonal state with a step size",
    source=f"{PAPER}, Corollary 4.3",
    printed="rho ~ Delta / (2 lambda) * log(1 / (1 - lambda^2)) for lambda_i ~ U[0, lambda]",
    assumptions=(
        "h_0 = 0, Delta constant, lambda in (0, 1)",
        "Euler discretisation: inputs are multiplied by Delta",
        "x white, zero mean, unit variance",
        "lambda independent of B and x",
        "T large enough to be stationary",
    ),
    corrected="rho = Delta^2 artanh(lambda) / lambda",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        f"largest decay lambda, of U[0, lambda], at Delta = {CURVE_STEP:g}",
        "rho = E||h||^2 / E||Bx||^2",
        tuple(0.02 + 0.01 * k for k in range(97)),
        lambda largest: printed_level(largest, CURVE_STEP),
        lambda largest: level(largest, CURVE_STEP),
    ),
)
