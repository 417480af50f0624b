"""Equation (3): the discretisation of h' = -A h + B x.

Setting. A is diagonal with entries a > 0, x is constant over a step of size dt. Printed, as read from an imperfect copy
of the text: A_bar = exp(-dt A), B_bar = dt (dt A)^{-1} (exp(dt A) - I) dt B; the sign of an outer product after its
first dt is read as a product, channel by channel.

Proof of the corrected form. h(t) = e^{-a t} h(0) + (1 - e^{-a t}) / a * b x solves h' = -a h + b x. After one step
(zero-order hold) A_bar = e^{-a dt} and B_bar = (1 - e^{-a dt}) / a * b = A^{-1} (I - exp(-dt A)) B. Mamba's code takes
this A_bar and the Euler B_bar = dt B; the two writes agree for small a dt.

Where the printed form departs. A_bar is right. B_bar = dt b (e^{a dt} - 1) / a is the right one times dt e^{a dt}: the
exponent has the sign of A < 0, and there is one dt too many. No choice of sign mends both: with A = -a the factor
(dt A)^{-1} (exp(dt A) - I) dt B is the zero-order hold, but then A_bar = exp(-dt A) = e^{a dt} grows, and the dt in
front is still too many. The two powers of dt make the printed write vanish against the true one as dt -> 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import scipy.integrate
import sympy

from ..arrays import Floats
from ..laws import Listed
from ..modes import Discretisation, energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant, InputLaw
from ..symbolic import Derivation, Step
from ..threefry import INPUTS, Words, normals
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Drawn, Samples, Trials

CASES = ((1.7, 0.3, 0.8), (0.2, 2.0, 1.0), (5.0, 0.1, 2.0))
"""Values a, dt, b at which one step is solved."""
SOLVER = 1e-9
"""Bound on the error of the solver, which is asked for 1e-12 in each of its few steps."""
STEPS = 16
"""Steps of the simulated recurrence: e^{-2 * 0.51 * 16} is 8e-8."""
PARTS = 16
"""Runge-Kutta steps within one step: their error is (0.51 / 16)^5 / 120 each, 5e-9 together."""
CHANNELS = 8
"""Channels of the recurrence, all alike."""


def printed_write(rate: float, step: float, b: float) -> float:
    """Return the printed B_bar for A = a."""
    return step / (step * rate) * math.expm1(step * rate) * step * b


def write(rate: float, step: float, b: float) -> float:
    """Return B_bar of the zero-order hold."""
    return -math.expm1(-rate * step) / rate * b


def solved(rate: float, step: float, b: float, start: float, x: float) -> float:
    """Return h(dt) of h' = -a h + b x from h(0) = start, by an adaptive solver."""
    found = scipy.integrate.solve_ivp(
        lambda _, h: -rate * h + b * x, (0.0, step), [start], method="DOP853", rtol=1e-12, atol=1e-14
    )
    return float(found.y[0, -1])


def derive() -> Derivation:
    """Solve one step and compare the printed coefficients under both signs of A."""
    a, dt, b, t, s = sympy.symbols("a dt b t s", positive=True)
    A = sympy.Symbol("A", real=True, nonzero=True)
    start, x = sympy.symbols("h_0 x", real=True)
    path = sympy.exp(-a * t) * start + (1 - sympy.exp(-a * t)) / a * b * x
    hold = (1 - sympy.exp(-a * dt)) / a * b
    printed = dt / (dt * A) * (sympy.exp(dt * A) - 1) * dt * b
    decay = sympy.exp(-dt * A)
    at = tuple({a: sympy.Rational(str(r)), dt: sympy.Rational(str(d)), b: sympy.Rational(str(w))} for r, d, w in CASES)
    return Derivation(
        (
            Step(
                "The path solves the equation: its derivative is -a h + b x,",
                sympy.Derivative(path, t),
                -a * path + b * x,
            ),
            Step("and it starts at h_0.", sympy.Subs(path, t, 0), start),
            Step(
                "One step on: h_0 is multiplied by A_bar = e^{-a dt}, as printed for A = a,",
                sympy.Derivative(path.subs(t, dt), start),
                decay.subs(A, a),
            ),
            Step("and x by B_bar = (1 - e^{-a dt}) / a * b.", sympy.Derivative(path.subs(t, dt), x), hold),
            Step(
                "The same as an integral over what is left of each moment's input.",
                sympy.Integral(sympy.exp(-a * (dt - s)) * b, (s, 0, dt)),
                hold,
            ),
            Step(
                "The printed B_bar for A = a is this times dt e^{a dt}.",
                printed.subs(A, a),
                dt * sympy.exp(a * dt) * hold,
            ),
            Step("It differs.", printed.subs(A, a), hold, "!=", at),
            Step("With A = -a it is the zero-order hold times dt,", printed.subs(A, -a), dt * hold),
            Step(
                "but then the printed A_bar is e^{a dt}, not e^{-a dt}: the state would grow.",
                decay.subs(A, -a),
                sympy.exp(-a * dt),
                "!=",
                at,
            ),
            Step("For small steps the true write is b dt,", sympy.Limit(hold / dt, dt, 0), b),
            Step(
                "as Mamba's Euler dt b is, to a second order a b / 2,",
                sympy.Limit((dt * b - hold) / dt**2, dt, 0),
                a * b / 2,
            ),
            Step(
                "while the printed one is smaller by a power of dt.", sympy.Limit(printed.subs(A, a) / dt**2, dt, 0), b
            ),
            Step(
                "Level under white inputs, zero-order hold.",
                hold**2 / (1 - sympy.exp(-2 * a * dt)),
                b**2 * sympy.tanh(a * dt / 2) / a**2,
            ),
        ),
        "A_bar = exp(-dt A) as printed; B_bar = A^{-1} (I - exp(-dt A)) B, or dt B in Mamba, not as printed.",
        {a: "entry of A", dt: "step", b: "entry of B", start: "state before", x: "input, constant over the step"},
    )


def _level(gain: float, rate: float, step: float) -> float:
    """Return E h^2 after the steps that are run, for a write gain."""
    return gain**2 * float(energy_gain(rate * step, STEPS))


def _integrated(key: Words, first: int, trials: int, hold: bool = True) -> Floats:
    """Integrate h' = -a h + b x with Runge and Kutta's method of order 4, x white from step to step.

    Args:
        key: the experiment's key.
        first: number of the first trial.
        trials: how many.
        hold: whether x is constant over a step; else it is drawn anew in the middle.

    Returns:
        (trials, 1), h^2 after ``STEPS``.
    """
    rate, step, b = CASES[0]
    x = normals(key, INPUTS, first, trials, 2 * STEPS)
    h, part = np.zeros(trials), step / PARTS
    for k in range(STEPS):
        for m in range(PARTS):
            inputs = b * x[:, 2 * k if hold or m < PARTS // 2 else 2 * k + 1]
            h = _runge_kutta(lambda state, u=inputs: u - rate * state, h, part)  # type: ignore[misc]
    return np.asarray(np.square(h)[:, None])


def _runge_kutta(slope: Callable[[Floats], Floats], h: Floats, part: float) -> Floats:
    one = slope(h)
    two = slope(h + part / 2 * one)
    three = slope(h + part / 2 * two)
    four = slope(h + part * three)
    return np.asarray(h + part / 6 * (one + 2 * two + 2 * three + four))


def _run(gain: Discretisation) -> Paths:
    rate, step, b = CASES[0]
    law = InputLaw(variance=b * b)
    return Paths(
        Recurrence("diagonal", CHANNELS, Listed((rate,)), Constant(step), law, discretisation=gain),
        (STEPS,),
    )


def experiments(trials: int) -> Mapping[str, Trials]:
    """Integrate the differential equation itself, and run the recurrence with either gain."""
    cost = 40 * STEPS * PARTS
    return {
        "equation": Trials(Drawn(_integrated, cost), trials // 4),
        "zoh": Trials(_run("zoh"), trials // 2),
        "euler": Trials(_run("euler"), trials // 2),
        "control": Trials(Drawn(partial(_integrated, hold=False), cost), trials // 4),
    }


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold one step against a solver, and stationary levels against both forms."""
    found = []
    for rate, step, b in CASES:
        name, decay = f"a = {rate:g}, dt = {step:g}, b = {b:g}", math.exp(-rate * step)
        found += [
            exactly(
                f"A_bar by a solver, {name} (rival: Euler, 1 - a dt)",
                solved(rate, step, b, 1.0, 0.0),
                decay,
                decay,
                bound=SOLVER,
                rival=1 - rate * step,
            ),
            exactly(
                f"B_bar by a solver, {name}",
                solved(rate, step, b, 0.0, 1.0),
                write(rate, step, b),
                printed_write(rate, step, b),
                bound=SOLVER,
            ),
        ]
    rate, step, b = CASES[0]
    printed = _level(printed_write(*CASES[0]), rate, step)
    hold, euler = _level(write(*CASES[0]), rate, step), _level(step * b, rate, step)
    return [
        *found,
        samples["equation"].against("E h^2, differential equation with held inputs", hold, printed),
        samples["zoh"].against("E h^2, recurrence, zero-order hold", hold, printed, unit=CHANNELS),
        samples["euler"].against("E h^2, recurrence, Euler as in Mamba", euler, printed, unit=CHANNELS),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate the hold: the input changes in the middle of each step."""
    rate, step, b = CASES[0]
    hold = _level(write(rate, step, b), rate, step)
    return [samples["control"].against("E h^2, differential equation, inputs that change within a step", hold)]


CLAIM = Claim(
    key="eq-3",
    title="discretisation of the state equation",
    source=f"{PAPER}, Eq. (3)",
    printed="A_bar = exp(-dt A), B_bar = dt (dt A)^{-1} (exp(dt A) - I) dt B, for A > 0 (as read from a text copy)",
    assumptions=("A diagonal, entries above 0", "x constant over a step"),
    corrected="A_bar as printed; B_bar = A^{-1} (I - exp(-dt A)) B (zero-order hold) or dt B (Euler, Mamba's code)",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "step dt at a = b = 1",
        "B_bar",
        tuple(0.02 * k for k in range(1, 101)),
        lambda step: printed_write(1.0, step, 1.0),
        lambda step: write(1.0, step, 1.0),
    ),
)
