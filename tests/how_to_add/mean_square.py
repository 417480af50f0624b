"""A claim to copy: the mean square of a uniform number, printed as the square of its mean.

Printed: E u^2 = (E u)^2 = 1/4 for u uniform on (0, 1). True: 1/3, since E u^2 is the mean's square plus the variance,
and the variance of a uniform number is 1/12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sympy

from ..arrays import Floats
from ..symbolic import Derivation, Step
from ..threefry import INPUTS, Words, uniforms
from ..verdict import Comparison
from .claim import Claim, Drawn, Samples, Trials

PRINTED, TRUE = 1 / 4, 1 / 3


def derive() -> Derivation:
    """Derive the mean square, and that the printed form leaves out the variance."""
    u = sympy.Symbol("u", positive=True)
    third, quarter = sympy.Rational(1, 3), sympy.Rational(1, 4)
    return Derivation(
        (
            Step("The mean square.", sympy.Integral(u**2, (u, 0, 1)), third),
            Step("The square of the mean.", sympy.Integral(u, (u, 0, 1)) ** 2, quarter),
            Step("They differ by the variance.", third, quarter, "!=", ({},)),
        ),
        "E u^2 = 1/3, not 1/4.",
        {u: "a uniform number"},
    )


def draw(key: Words, first: int, trials: int) -> Floats:
    """Return u^2 of every trial, and of a number that is uniform on (0, 1/2)."""
    u = uniforms(key, INPUTS, first, trials, 1)
    return np.hstack([u**2, (u / 2) ** 2])


def experiments(trials: int) -> Mapping[str, Trials]:
    """Draw numbers as the claim has them; the control's have another range."""
    return {"u": Trials(Drawn(draw), trials), "control": Trials(Drawn(draw), trials)}


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the mean square against both forms."""
    return [samples["u"].against("E u^2", TRUE, PRINTED)]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate the assumption: numbers on (0, 1/2), whose mean square is not 1/3."""
    return [samples["control"].against("E u^2 on (0, 1/2)", TRUE, column=1)]


CLAIM = Claim(
    key="mean-square",
    title="mean square of a uniform number",
    source="an example",
    printed="E u^2 = (E u)^2 = 1/4",
    assumptions=("u uniform on (0, 1)",),
    corrected="E u^2 = 1/3",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
