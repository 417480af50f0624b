"""Equation (9), first limit: whether the level grows without bound as the decay approaches 1.

Setting. h_t = lambda h_{t-1} + dt u_t from h_0 = 0 with one decay lambda = e^{-a dt}, white u_t, and the level
rho = E ||h||^2 / E ||u||^2 that Corollary 4.4 is about. Printed: lambda -> 1 implies rho = infinity.

Proof of the corrected form. rho = dt^2 / (1 - e^{-2 a dt}), which is dt / (2 a) + dt^2 / 2 + ... for small a dt.
There are two ways to lambda = 1. With a -> 0 at a fixed step rho grows like dt / (2 a) without bound, as printed. With
dt -> 0 at a fixed rate the decay approaches 1 just the same, and rho shrinks like dt / (2 a) to 0: more steps fit into
the memory 1 / a, but each writes the energy dt^2.

Where the printed form departs. It takes rho for a function of lambda alone, proportional to 1 / (1 - lambda) near 1,
and forgets that the step is part of both. Not even the printed expression dt lambda / (1 - lambda^2) diverges on the
second way: it tends to 1 / (2 a). What is held against the data is the growth from one decay to another nearer 1, as
printed (1 - lambda^2) / (1 - lambda'^2) whichever way; the factor lambda in the printed numerator, 1 in this limit, is
left to Corollary 4.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy

from ..laws import Listed
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant, InputLaw
from ..symbolic import Derivation, Step
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials

CHANNELS = 8
"""Channels, all with the same decay and inputs of their own."""
RATE, STEP = 1.0, 0.1
"""Where both ways start: a and dt."""
NEARER = 10.0
"""By how much a, or dt, is divided."""
STEPS = 512
"""Steps that are run: e^{-2 * 0.01 * 512} is 4e-5."""
CLOSE = (1e-6, 1e-8)
"""a dt at which the exponents of the limit are read off; they differ from the limit by 1e-6 or less."""


def level(rate: float, step: float) -> float:
    """Return dt^2 / (1 - e^{-2 a dt})."""
    return -(step**2) / math.expm1(-2 * rate * step)


def printed_growth(before: float, after: float) -> float:
    """Return by what factor the level grows from one a dt to a smaller one, as printed: a function of lambda alone."""
    return math.expm1(-2 * before) / math.expm1(-2 * after)


def doubled_level(rate: float, step: float) -> float:
    """Return the level by doubling the steps until it stands still: V_{2T} = (1 + lambda^{2T}) V_T from V_1 = dt^2."""
    energy, steps = step**2, 1
    while (fresh := energy * (1 + math.exp(-2 * rate * step * steps))) != energy:
        energy, steps = fresh, 2 * steps
    return energy


def exponent(rates: Sequence[float], steps: Sequence[float]) -> float:
    """Return d log rho / d log(1 / (1 - lambda)) between two points."""
    (first, second), (one, other) = rates, steps
    gain = math.log(doubled_level(second, other) / doubled_level(first, one))
    return gain / math.log(math.expm1(-first * one) / math.expm1(-second * other))


def derive() -> Derivation:
    """Derive both limits, and that of the printed expression."""
    a, dt, x, y = sympy.symbols("a dt x y", positive=True)
    T = sympy.Symbol("T", integer=True, positive=True)
    energy = (1 - x ** (2 * T)) / (1 - x**2)
    rho = dt**2 / (1 - sympy.exp(-2 * a * dt))
    decay = sympy.exp(-a * dt)
    printed = dt * decay / (1 - decay**2)
    return Derivation(
        (
            Step(
                "The energy after T steps obeys g_{T+1} = x^2 g_T + 1, x the decay,",
                energy.subs(T, T + 1),
                x**2 * energy + 1,
            ),
            Step("starts at g_1 = 1,", sympy.Subs(energy, T, 1), sympy.Integer(1)),
            Step(
                "and doubling the steps multiplies it by 1 + x^{2T}.",
                energy.subs(T, 2 * T),
                (1 + x ** (2 * T)) * energy,
            ),
            Step(
                "It tends to 1 / (1 - x^2), so rho = dt^2 / (1 - e^{-2 a dt}); shown at x = 9/10.",
                sympy.Limit(energy.subs(x, sympy.Rational(9, 10)), T, sympy.oo),
                1 / (1 - sympy.Rational(81, 100)),
            ),
            Step("First way, a -> 0 at fixed dt: the decay tends to 1,", sympy.Limit(decay, a, 0), sympy.Integer(1)),
            Step("and a rho tends to dt / 2, so rho has no bound, as printed.", sympy.Limit(a * rho, a, 0), dt / 2),
            Step(
                "Second way, dt -> 0 at fixed a: the decay tends to 1 too,", sympy.Limit(decay, dt, 0), sympy.Integer(1)
            ),
            Step("rho / dt tends to 1 / (2 a),", sympy.Limit(rho / dt, dt, 0), 1 / (2 * a)),
            Step("so rho tends to 0, not to infinity.", sympy.Limit(rho, dt, 0), sympy.Integer(0)),
            Step(
                "The printed expression itself tends to a finite value there.", sympy.Limit(printed, dt, 0), 1 / (2 * a)
            ),
            Step(
                "Along a dt = y the two ways part: rho is y^2 / (a^2 (1 - e^{-2y})).",
                rho.subs(dt, y / a),
                y**2 / (a**2 * (1 - sympy.exp(-2 * y))),
            ),
        ),
        "rho -> infinity for a -> 0 at a fixed step, rho -> 0 for dt -> 0 at a fixed rate: as printed only the first.",
        {a: "rate", dt: "step", x: "a decay", y: "a dt", T: "steps"},
    )


def _run(rate: float, step: float, rho: float = 0.0) -> Paths:
    return Paths(Recurrence("diagonal", CHANNELS, Listed((rate,)), Constant(step), InputLaw(rho=rho)), (STEPS,))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence from the same start along both ways."""
    return {
        "start": Trials(_run(RATE, STEP), trials // 2),
        "rate": Trials(_run(RATE / NEARER, STEP), trials // 2),
        "step": Trials(_run(RATE, STEP / NEARER), trials // 2),
        "control": Trials(_run(RATE / NEARER, STEP, rho=0.5), trials // 2),
    }


def _expected(rate: float, step: float) -> float:
    """Corrected form after the steps that are run, within 4e-5 of the stationary one."""
    return step**2 * float(energy_gain(rate * step, STEPS))


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the growth of the level along both ways against both forms."""
    start = level(RATE, STEP)
    printed = printed_growth(RATE * STEP, RATE * STEP / NEARER)
    unit = CHANNELS * start
    along_rate, along_step = _expected(RATE / NEARER, STEP) / start, _expected(RATE, STEP / NEARER) / start
    rates, steps = [y / STEP for y in CLOSE], [y / RATE for y in CLOSE]
    return [
        samples["start"].against(
            "level at a = 1, dt = 0.1 (rival: with dt, not dt^2)",
            _expected(RATE, STEP),
            rival=start / STEP,
            unit=CHANNELS,
        ),
        samples["rate"].against(
            "level at a = 0.1, dt = 0.1 over that at a = 1, dt = 0.1 (rival: no growth)",
            along_rate,
            printed,
            rival=1.0,
            unit=unit,
        ),
        samples["step"].against(
            "level at a = 1, dt = 0.01 over that at a = 1, dt = 0.1", along_step, printed, unit=unit
        ),
        exactly(
            "exponent of the level in 1 / (1 - lambda), a -> 0 at fixed dt (rival: bounded)",
            exponent(rates, [STEP, STEP]),
            1.0,
            1.0,
            bound=2 * CLOSE[0],
            rival=0.0,
        ),
        exactly(
            "exponent of the level in 1 / (1 - lambda), dt -> 0 at fixed a",
            exponent([RATE, RATE], steps),
            -1.0,
            1.0,
            bound=2 * CLOSE[0],
        ),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate whiteness: inputs with a correlation of 0.5 between neighbours."""
    rate = RATE / NEARER
    return [
        samples["control"].against(
            "level at a = 0.1, dt = 0.1, correlated inputs", _expected(rate, STEP), unit=CHANNELS
        )
    ]


CLAIM = Claim(
    key="eq-9-growth",
    title="growth of the level as the decay approaches 1",
    source=f"{PAPER}, Eq. (9), first limit",
    printed="lambda -> 1 implies rho = infinity",
    assumptions=(
        "one decay lambda = e^{-a dt} in (0, 1), constant in time",
        "x white, zero mean",
        "T large enough to be stationary",
    ),
    corrected="rho = dt^2 / (1 - e^{-2 a dt}) ~ dt / (2 a): infinite for a -> 0 at fixed dt, 0 for dt -> 0 at fixed a",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "step dt at the rate a = 1",
        "E||h||^2 / E||Bx||^2",
        tuple(10 ** (-0.1 * k) for k in range(31)),
        lambda step: level(RATE, STEP) * printed_growth(RATE * STEP, RATE * step),
        lambda step: level(RATE, step),
    ),
)
