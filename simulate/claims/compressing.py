"""Section 4.2: whether a scale compresses large eigenvalues and inflates small ones.

Setting. A mode's eigenvalue is lambda = e^{-a Delta}, a = |A|. Three scales are in use: ``a`` (a becomes s a), ``dt``
(Delta becomes s Delta) and ``a_power`` (A_log becomes s A_log, so that a = exp(A_log) becomes a^s; this is what the
authors' code does in most of its experiments). Large eigenvalues have a < 1, small ones a > 1.

Proof of the corrected form. Under ``a`` and ``dt`` lambda becomes e^{-s a Delta} = lambda^s, whose derivative in s is
lambda^s ln lambda < 0 for every lambda. So all eigenvalues move the same way: up for s < 1, down for s > 1. None is
compressed while another is inflated. (With s < 1 their range does become narrower, because small ones rise more:
0.05 and 0.95 go to 0.22 and 0.97 for s = 1/2.)

Under ``a_power``, ln a becomes s ln a: every rate moves towards 1 for 0 < s < 1 and away from it for s > 1. The
derivative of e^{-Delta a^s} in s is -Delta a^s ln a e^{-Delta a^s}, positive for a < 1, negative for a > 1, and 0 for
a = 1. So s < 1 compresses the eigenvalues above e^{-Delta} and inflates those below it: 0.05 and 0.95 go to 0.18 and
0.80 for s = 1/2 and Delta = 1. And s > 1 does the opposite of both.

Where the printed form departs. It holds for ``a_power`` with s < 1 alone, and there only if rates lie on both sides of
1. Mamba starts with a in [1, 16]: then s < 1 inflates its largest eigenvalues too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import sympy

from ..arrays import Floats
from ..laws import LogUniform
from ..replay import Change, ChangeKind
from ..symbolic import Derivation, Step
from ..threefry import DECAYS, STEPS, Words, uniforms
from ..verdict import Comparison, Sample, exactly
from .claim import PAPER, Claim, Drawn, Samples, Trials
from .free_modes import free_decay

KINDS: tuple[ChangeKind, ...] = ("a", "dt", "a_power")
FACTORS = (0.5, 2.0)
"""Scales s that are tried, one on each side of 1."""
LARGE, SMALL = LogUniform(0.02, 0.5), LogUniform(2.0, 8.0)
"""Rates of large and of small eigenvalues."""
START = LogUniform(1.05, 2.0)
"""Rates of the largest eigenvalues where all lie above 1, as they do when Mamba starts."""
TOKENS = 2
"""Tokens over which modes decay, each with a standard exponential step."""
PAIR = (0.05, 0.95)
"""Two eigenvalues at Delta = 1 that are followed one by one."""


def scaled_rate(kind: ChangeKind, s: float, a: Floats) -> Floats:
    """Return the rate per unit of step size under a scale."""
    return a**s if kind == "a_power" else s * a


def compresses_large(kind: ChangeKind, s: float) -> bool:
    """Return whether a scale lowers the eigenvalues of rates below 1."""
    return s < 1 if kind == "a_power" else s > 1


def inflates_small(kind: ChangeKind, s: float) -> bool:
    """Return whether a scale raises the eigenvalues of rates above 1: for each kind, if s < 1."""
    del kind
    return s < 1


def derive() -> Derivation:
    """Derive the sign of each change."""
    a, dt, s = sympy.symbols("a Delta s", positive=True)
    decay = sympy.exp(-a * dt)
    by_a, by_power = sympy.exp(-s * a * dt), sympy.exp(-dt * a**s)
    half, two, one = sympy.Rational(1, 2), sympy.Integer(2), sympy.Integer(1)
    large, small = sympy.Rational(1, 20), sympy.Integer(3)

    def at(scale: sympy.Expr, *rates: sympy.Expr) -> tuple[dict[sympy.Symbol, sympy.Expr], ...]:
        return tuple({s: scale, a: rate, dt: step} for rate in rates for step in (one, sympy.Rational(1, 10)))

    return Derivation(
        (
            Step(
                "Kind a: every eigenvalue becomes its power s,",
                sympy.Subs(decay, a, s * a),
                sympy.Pow(decay, s, evaluate=False),
            ),
            Step("and so it does under dt.", sympy.Subs(decay, dt, s * dt), sympy.Pow(decay, s, evaluate=False)),
            Step(
                "Its derivative in s is lambda^s ln lambda, negative for every eigenvalue:",
                sympy.Derivative(by_a, s),
                by_a * sympy.log(decay, evaluate=False),
            ),
            Step("s < 1 inflates small and large ones alike,", decay, by_a, "<=", at(half, large, small)),
            Step("s > 1 compresses both.", by_a, decay, "<=", at(two, large, small)),
            Step("Kind a_power: the logarithm of the rate is scaled.", sympy.log(a**s), s * sympy.log(a)),
            Step(
                "The derivative in s has the sign of -ln a: it differs between rates below and above 1.",
                sympy.Derivative(by_power, s),
                -dt * a**s * sympy.log(a) * by_power,
            ),
            Step("A rate of 1 stays.", sympy.Subs(by_power, a, 1), sympy.exp(-dt)),
            Step("s < 1 compresses large eigenvalues (a = 1/20),", by_power, decay, "<=", at(half, large)),
            Step("and inflates small ones (a = 3): as printed.", decay, by_power, "<=", at(half, small)),
            Step("s > 1 inflates large ones", decay, by_power, "<=", at(two, large)),
            Step("and compresses small ones: the opposite.", by_power, decay, "<=", at(two, small)),
            Step(
                "If all rates lie above 1, s < 1 inflates the largest eigenvalue too (a = 6/5).",
                decay,
                by_power,
                "<=",
                at(half, sympy.Rational(6, 5)),
            ),
        ),
        "only A_log times s < 1 compresses large eigenvalues and inflates small ones, and only across a = 1.",
        {a: "rate |A|", dt: "step size", s: "scale"},
    )


def _change(kind: ChangeKind, s: float, large: LogUniform, key: Words, first: int, trials: int) -> Floats:
    """Return by how much what is left after TOKENS changes, for a large and for a small eigenvalue, (trials, 2)."""
    drawn = uniforms(key, DECAYS, first, trials, 2)
    a = np.concatenate([large.rates(drawn[:, 0]), SMALL.rates(drawn[:, 1])])
    dt = np.tile(-np.log(uniforms(key, STEPS, first, trials, TOKENS)).T, (1, 2))
    return (_left(kind, s, a, dt) - free_decay(a, dt)).reshape(2, trials).T


def _left(kind: ChangeKind, s: float, a: Floats, dt: Floats) -> Floats:
    """Return what is left of a state of 1 under a scale; ``dt`` scales the steps themselves."""
    return free_decay(a, s * dt) if kind == "dt" else free_decay(a, dt, (Change(kind, s),))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Let modes decay freely with and without each scale, under the same random steps."""
    runs = {
        f"{kind}, s = {s:g}": Trials(Drawn(partial(_change, kind, s, LARGE), 200), trials)
        for kind in KINDS
        for s in FACTORS
    }
    return runs | {"control": Trials(Drawn(partial(_change, "a_power", 0.5, START), 200), trials // 4)}


def expected_change(kind: ChangeKind, s: float, law: LogUniform) -> float:
    """Return the mean change of what is left: an exponential step leaves E e^{-a Delta} = 1 / (1 + a)."""
    return law.expect(lambda a: (1 + scaled_rate(kind, s, a)) ** -TOKENS - (1 + a) ** -TOKENS)


def _share(sample: Sample, column: int, *, up: bool) -> float:
    change = sample.values[:, column]
    return float(((change > 0) if up else (change < 0)).mean())


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the signs of all changes, and their mean sizes, against both forms."""
    found: list[Comparison] = []
    for kind in KINDS:
        for s in FACTORS:
            sample = samples[f"{kind}, s = {s:g}"]
            for column, law, word, moved in (
                (0, LARGE, "large eigenvalues that go down", compresses_large(kind, s)),
                (1, SMALL, "small eigenvalues that go up", inflates_small(kind, s)),
            ):
                found.append(
                    exactly(
                        f"share of {word}, {kind}, s = {s:g}",
                        _share(sample, column, up=column == 1),
                        float(moved),
                        None if kind == "dt" else 1.0,  # the statement is about A
                        rival=float(not moved),
                        bound=1e-9,  # a count of signs: exp is monotone in float64 too, and no step is near 0
                    )
                )
                found.append(
                    sample.against(
                        f"mean change of the {word.split(' that')[0]}' decay over {TOKENS} tokens, {kind}, s = {s:g}",
                        expected_change(kind, s, law),
                        rival=0.0,
                        column=column,
                    )
                )
    return [*found, *_pair()]


def _pair() -> list[Comparison]:
    """Follow single eigenvalues through a token of Delta = 1."""
    found = []
    for kind in KINDS:
        for before in PAIR:
            rate = -math.log(before)
            found.append(
                exactly(
                    f"{before:g} under {kind}, s = 0.5, Delta = 1",
                    float(_left(kind, 0.5, np.array([rate]), np.ones((1, 1)))[0]),
                    math.exp(-math.sqrt(rate)) if kind == "a_power" else math.sqrt(before),
                    rival=before,
                    bound=1e-14,
                )
            )
    return found


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate "rates on both sides of 1": the largest eigenvalues then are not compressed."""
    sample = samples["control"]
    return [
        exactly(
            "share of the largest eigenvalues that go down, all rates above 1, a_power, s = 0.5",
            _share(sample, 0, up=False),
            1.0,
            bound=1e-9,
        ),
        sample.against(
            "mean change of the largest eigenvalues, all rates above 1", expected_change("a_power", 0.5, LARGE)
        ),
    ]


CLAIM = Claim(
    key="compressing",
    title="compressing large eigenvalues, inflating small ones",
    source=f"{PAPER}, Section 4.2",
    printed="scaling A compresses large eigenvalues and inflates small ones",
    assumptions=(
        "lambda = exp(-a Delta), one positive s for all modes",
        "large eigenvalues have a < 1, small ones a > 1, and both exist",
        "steps are the same with and without the scale",
    ),
    corrected="true for A_log times s < 1 (a becomes a^s); A or Delta times s moves all eigenvalues the same way",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
