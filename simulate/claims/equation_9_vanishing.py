"""Equation (9), second limit: whether the state vanishes as the decay approaches 0.

Setting. h_t = lambda h_{t-1} + gain u_t from h_0 = 0 with one decay lambda = e^{-a dt}, white u_t, and the level
rho = E ||h||^2 / E ||u||^2. The gain is dt (Euler, what Mamba uses) or (1 - e^{-a dt}) / a (zero-order hold). Printed:
lambda -> 0 implies rho = 0, from rho ~ dt lambda / (1 - lambda^2).

Proof of the corrected form. rho = gain^2 / (1 - lambda^2) >= gain^2: a state holds at least what the last token wrote.
As lambda -> 0 the level tends to this injected energy. With a -> infinity at a fixed step it is dt^2 (Euler); with
dt -> infinity at a fixed rate it is dt^2, without bound (Euler), or 1 / a^2 (zero-order hold). So the statement is
right where lambda -> 0 takes the gain along: zero-order hold with a -> infinity at a fixed step has the gain 1 / a, and
rho goes to 0 like 1 / a^2 (rho / gain^2 tends to 1). Mamba's own gain is dt, which does not fall with lambda.

Where the printed form departs. The factor lambda in its numerator, one too many (see Theorem 4.2), makes it vanish.
What vanishes with lambda is the memory: the share lambda^{2k} of the energy older than k tokens. Such a mode is
stationary almost from its first token on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import sympy

from ..laws import Listed
from ..modes import Discretisation, energy_gain, write_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant
from ..step_transforms import Gamma
from ..symbolic import Derivation, Step
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials

CHANNELS = 8
"""Channels, all with the same decay and inputs of their own."""
STEPS = 12
"""Steps that are run; the largest decay is e^{-2}, and e^{-48} is 1e-21."""
CASES: tuple[tuple[Discretisation, float, float], ...] = (
    ("euler", 20.0, 0.1),
    ("euler", 50.0, 0.1),
    ("euler", 100.0, 0.1),
    ("euler", 1.0, 2.0),
    ("euler", 1.0, 6.0),
    ("zoh", 1.0, 2.0),
    ("zoh", 1.0, 6.0),
    ("zoh", 3.0, 2.0),
    ("zoh", 2.0, 0.5),
    ("zoh", 8.0, 0.5),
    ("zoh", 32.0, 0.5),
)
"""Gain, a and dt that are simulated."""
ZOH_RATES, EULER_STEPS = (2.0, 8.0, 32.0), (2.0, 6.0)
"""Two ways to lambda -> 0: a to infinity at a fixed step, the step to infinity at a fixed a."""
FAR = 40.0
"""a dt at which limits are read off: e^{-80} is 2e-35."""
ROUNDING = 1e-12
"""Bound on the rounding of a few operations."""


def printed_level(rate: float, step: float) -> float:
    """Return the printed dt lambda / (1 - lambda^2), which tends to 0 with lambda."""
    return step * math.exp(-rate * step) / -math.expm1(-2 * rate * step)


def level(gain: Discretisation, rate: float, step: float) -> float:
    """Return gain^2 / (1 - lambda^2) after the steps that are run."""
    return float(write_gain(rate, step, gain)) ** 2 * float(energy_gain(rate * step, STEPS))


def recursion_level(gain: Discretisation, rate: float, step: float) -> float:
    """Return E h^2 by running v = lambda^2 v + gain^2 until it stands still."""
    decay = math.exp(-rate * step)
    write = step if gain == "euler" else (1 - decay) / rate
    energy, before = write**2, 0.0
    while energy != before:
        before, energy = energy, decay**2 * energy + write**2
    return energy


def derive() -> Derivation:
    """Derive the lower bound and the three limits, beside the printed one."""
    a, dt, q = sympy.symbols("a dt q", positive=True)
    x = sympy.Symbol("lambda", positive=True)
    decay = sympy.exp(-a * dt)
    euler = dt**2 / (1 - decay**2)
    hold = ((1 - decay) / a) ** 2 / (1 - decay**2)
    printed = x / (1 - x**2)
    return Derivation(
        (
            Step(
                "The stationary energy v = q / (1 - lambda^2) obeys v = lambda^2 v + q, q the injected energy.",
                x**2 * q / (1 - x**2) + q,
                q / (1 - x**2),
            ),
            Step("It exceeds q by a term that is not negative.", q / (1 - x**2) - q, q * x**2 / (1 - x**2)),
            Step("It tends to q as lambda -> 0,", sympy.Limit(q / (1 - x**2), x, 0), q),
            Step("while the printed lambda / (1 - lambda^2) tends to 0,", sympy.Limit(printed, x, 0), sympy.Integer(0)),
            Step(
                "for it lacks just that injected energy's share: what is right less what is printed tends to 1.",
                sympy.Limit(1 / (1 - x**2) - printed, x, 0),
                sympy.Integer(1),
            ),
            Step("a -> infinity at a fixed step, Euler: dt^2.", sympy.Limit(euler, a, sympy.oo), dt**2),
            Step(
                "dt -> infinity at a fixed rate, Euler: rho / dt^2 tends to 1, so rho has no bound.",
                sympy.Limit(euler / dt**2, dt, sympy.oo),
                sympy.Integer(1),
            ),
            Step("Zero-order hold: rho = tanh(a dt / 2) / a^2.", hold, sympy.tanh(a * dt / 2) / a**2),
            Step(
                "dt -> infinity at a fixed rate, zero-order hold: 1 / a^2.",
                sympy.Limit(sympy.tanh(a * dt / 2) / a**2, dt, sympy.oo),
                1 / a**2,
            ),
            Step(
                "At a = 1, dt = 6 the printed expression is not the level.",
                dt * decay / (1 - decay**2),
                euler,
                "!=",
                ({a: 1, dt: 6}, {a: 100, dt: sympy.Rational(1, 10)}),
            ),
        ),
        "rho tends to the injected energy, not to 0: dt^2 (Euler) or 1 / a^2 (zero-order hold, dt -> infinity).",
        {x: "decay", a: "rate", dt: "step", q: "injected energy, gain^2 E u^2"},
    )


def _name(gain: str, rate: float, step: float) -> str:
    return f"{gain}, a = {rate:g}, dt = {step:g}"


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence at small decays."""
    runs = {
        _name(*case): Trials(
            Paths(
                Recurrence("diagonal", CHANNELS, Listed((case[1],)), Constant(case[2]), discretisation=case[0]),
                (STEPS,),
            ),
            trials,
        )
        for case in CASES
    }
    random = Recurrence("diagonal", CHANNELS, Listed((1.0,)), Gamma(2.0, 3.0))
    return runs | {"control": Trials(Paths(random, (STEPS,)), trials // 4)}


def level_of(samples: Samples, gain: Discretisation, rate: float, step: float) -> float:
    """Return a simulated level."""
    return samples[_name(gain, rate, step)].mean() / CHANNELS


def _share_down(levels: Sequence[float]) -> float:
    return sum(later < before for before, later in pairwise(levels)) / (len(levels) - 1)


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the level against both forms, and the limits by recursion."""
    found = [
        samples[_name(*case)].against(
            f"E||h||^2/Q, {_name(*case)}",
            level(*case),
            printed_level(*case[1:]) if case[0] == "euler" else None,  # its gain is dt
            rival=printed_level(*case[1:]),
            unit=CHANNELS,
            x=_x(*case),
        )
        for case in CASES
    ]
    along_a = [level_of(samples, "zoh", a, 0.5) for a in ZOH_RATES]
    along_dt = [level_of(samples, "euler", 1.0, dt) for dt in EULER_STEPS]
    return [
        *found,
        exactly(
            f"share of steps down of the simulated level, zero-order hold, dt = 0.5, a = {ZOH_RATES}",
            _share_down(along_a),
            1.0,
            1.0,
            rival=0.0,
            bound=1e-9,  # a count of signs; neighbours differ by hundreds of standard errors
        ),
        exactly(
            f"share of steps down of the simulated level, Euler, a = 1, dt = {EULER_STEPS}",
            _share_down(along_dt),
            0.0,
            1.0,
            bound=1e-9,
        ),
        exactly(
            "limit of rho / dt^2, Euler, a -> infinity, dt = 0.1",
            recursion_level("euler", FAR / 0.1, 0.1) / 0.01,
            1.0,
            0.0,
            bound=ROUNDING,
        ),
        exactly(
            "limit of rho / dt^2, Euler, dt -> infinity, a = 2",
            recursion_level("euler", 2.0, FAR / 2) / (FAR / 2) ** 2,
            1.0,
            0.0,
            bound=ROUNDING,
        ),
        exactly(
            "limit of rho a^2, zero-order hold, dt -> infinity, a = 2",
            recursion_level("zoh", 2.0, FAR / 2) * 4,
            1.0,
            0.0,
            bound=ROUNDING,
        ),
    ]


def _x(gain: str, rate: float, step: float) -> float | None:
    return step if gain == "euler" and rate == 1 else None


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate the constant step: gamma distributed steps of the same mean."""
    return [
        samples["control"].against(
            "E||h||^2/Q, Euler, a = 1, random steps of mean 6", level("euler", 1.0, 6.0), unit=CHANNELS
        )
    ]


CLAIM = Claim(
    key="eq-9-vanishing",
    title="level as the decay approaches 0",
    source=f"{PAPER}, Eq. (9), second limit",
    printed="lambda -> 0 implies rho = 0",
    assumptions=("one decay lambda = e^{-a dt} in (0, 1) and one step, constant in time", "x white, zero mean"),
    corrected="rho -> the injected energy of one token: dt^2 (Euler; infinite for dt -> infinity), 1 / a^2 (zero-order "
    "hold; 0 only for a -> infinity)",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "step dt at the rate a = 1, Euler",
        "E||h||^2 / E||Bx||^2",
        tuple(1.0 + 0.1 * k for k in range(61)),
        lambda step: printed_level(1.0, step),
        lambda step: level("euler", 1.0, step),
    ),
)
