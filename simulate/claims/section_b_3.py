"""Section B.3: the injected energy Q = E ||B x||^2 where a covariance is I / sqrt(d).

Setting. B is (m, d), m channels and d inputs, with independent standard normal entries; x has the covariance
I / sqrt(d), independent of B. (It does not matter which of the two carries the factor: Q depends on the product of the
variances.)

Proof. (B x)_i = sum_j b_ij x_j. Terms with different j have the expectation 0, since E b_ij b_ik = 0; each of the d
others gives E b_ij^2 E x_j^2 = 1 / sqrt(d). So E (B x)_i^2 = d / sqrt(d) = sqrt(d), and m channels give Q = m sqrt(d),
as printed.

How it is read. 1 / sqrt(d) is the variance. Were it the standard deviation, as in common initialisations, the variance
would be 1 / d and Q = m, without a factor of d: that reading is the rival that the data exclude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy

from ..laws import point
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import InputLaw
from ..symbolic import Derivation, Step
from ..verdict import Comparison
from .claim import PAPER, Claim, Samples, Trials

SHAPES = ((16, 16), (9, 25), (64, 4))
"""Pairs (d, m) that are simulated."""
DECAY = 0.8
"""Decay of every channel; the energy after one step is Q, whatever the decay."""
LATER = 8
"""A later step at which the energy is Q times the gain of a geometric sum."""
MEAN = 0.4
"""Mean of the inputs in the control."""


def printed_energy(inputs: int, channels: int) -> float:
    """Return the printed Q = m sqrt(d), which is right."""
    return channels * math.sqrt(inputs)


def _energy(inputs: int, channels: int, variance: float) -> float:
    """Return Q for any variance of x."""
    return inputs * channels * variance


def derive() -> Derivation:
    """Derive Q from Gaussian integrals, for either reading of 1 / sqrt(d)."""
    b, x, s, y, r = sympy.symbols("b x s y r", real=True)
    d, m, i, j = sympy.symbols("d m i j", integer=True, positive=True)
    v = sympy.Symbol("v", positive=True)
    normal = sympy.exp(-(b**2) / 2) / sympy.sqrt(2 * sympy.pi)
    input_law = sympy.exp(-(x**2) / (2 * v)) / sympy.sqrt(2 * sympy.pi * v)
    line = (b, -sympy.oo, sympy.oo)
    return Derivation(
        (
            Step("An entry of B has E b^2 = 1,", sympy.Integral(b**2 * normal, line), sympy.Integer(1)),
            Step(
                "and E b = 0, so that products of two different entries average to 0.",
                sympy.Integral(b * normal, line),
                sympy.Integer(0),
            ),
            Step(
                "A normal input of variance v has E x^2 = v.",
                sympy.Integral(x**2 * input_law, (x, -sympy.oo, sympy.oo)),
                v,
            ),
            Step(
                "Two inputs, the second entry r of B fixed: over b, the cross term 2 b x r y vanishes.",
                sympy.Integral((b * x + r * y) ** 2 * normal, line),
                x**2 + r**2 * y**2,
            ),
            Step("So a channel collects d equal terms.", sympy.Sum(v, (j, 1, d)), d * v),
            Step(
                "With the variance v = 1 / sqrt(d) a channel has sqrt(d), and m channels have m sqrt(d), as printed.",
                sympy.Sum(1 / sympy.sqrt(d), (j, 1, d), (i, 1, m)),
                m * sympy.sqrt(d),
            ),
            Step(
                "With the standard deviation s = 1 / sqrt(d) it would be m.",
                sympy.Sum(sympy.Subs(s**2, s, 1 / sympy.sqrt(d)), (j, 1, d), (i, 1, m)),
                m,
            ),
            Step("The readings differ.", m * sympy.sqrt(d), m, "!=", ({m: 25, d: 9}, {m: 4, d: 64})),
        ),
        "Q = m sqrt(d), as printed, if 1 / sqrt(d) is the variance.",
        {
            d: "inputs",
            m: "channels",
            v: "variance of an input",
            b: "an entry of B",
            r: "another",
            x: "an input",
            y: "another",
        },
    )


def _recurrence(inputs: int, channels: int, mean: float = 0.0) -> Recurrence:
    law = InputLaw(variance=1 / math.sqrt(inputs), mean=mean)
    return Recurrence("diagonal", channels, point(DECAY), inputs=law, mixing=inputs)


def _name(inputs: int, channels: int) -> str:
    return f"d = {inputs}, m = {channels}"


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence, B drawn anew in each trial: one step gives ||B x||^2 itself, more what becomes of it."""
    runs = {_name(*shape): Trials(Paths(_recurrence(*shape), (1, LATER)), trials) for shape in SHAPES}
    return runs | {"control": Trials(Paths(_recurrence(*SHAPES[0], mean=MEAN), (1,)), trials)}


def _gain() -> float:
    return float(energy_gain(-math.log(DECAY), LATER))


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold ||Bx||^2, and the energy some steps later, against m sqrt(d)."""
    found = []
    for inputs, channels in SHAPES:
        sample, value = samples[_name(inputs, channels)], printed_energy(inputs, channels)
        deviation = _energy(inputs, channels, 1 / inputs)
        name = f"{_name(inputs, channels)} (rival: standard deviation 1/sqrt(d))"
        found.append(sample.against(f"E||Bx||^2, {name}", value, value, rival=deviation, x=_x(inputs, channels)))
        found.append(
            sample.against(
                f"E||h||^2 after {LATER} steps, {name}",
                value * _gain(),
                value * _gain(),
                rival=deviation * _gain(),
                column=1,
            )
        )
    return found


def _x(inputs: int, channels: int) -> float | None:
    return float(inputs) if inputs == channels else None


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate the covariance: inputs with a mean, whose second moment is larger than I / sqrt(d)."""
    inputs, channels = SHAPES[0]
    return [samples["control"].against(f"E||Bx||^2, inputs with a mean of {MEAN}", printed_energy(inputs, channels))]


CLAIM = Claim(
    key="b.3",
    title="injected energy for covariance I / sqrt(d)",
    source=f"{PAPER}, Appendix B.3",
    printed="E||Bx||^2 = m sqrt(d) for a covariance I / sqrt(d)",
    assumptions=(
        "B (m, d) with independent entries of mean zero and variance one",
        "x independent of B, zero mean, covariance I / sqrt(d): 1 / sqrt(d) is a variance",
    ),
    corrected="as printed; were 1 / sqrt(d) a standard deviation, E||Bx||^2 = m",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
