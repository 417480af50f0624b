"""Figure 1: whether exp(-A) is the spectrum of a model's transitions.

Setting. The state of a mode follows h' = -a h between inputs, a = |A|; a token of step size Delta_t advances it by
Delta_t. Mamba starts with a ~ U[1, 16] (Mamba-2) and Delta log-uniform on [0.001, 0.1] for each head, and Delta_t
varies from token to token.

Proof of the corrected form. e^{-a s} solves h' = -a h, so that a token multiplies the state by e^{-a Delta_t} and T
tokens multiply it by the product e^{-a (Delta_1 + ... + Delta_T)}. That factor, one a head and a token, is the
transition's eigenvalue.

Where the printed form departs. exp(-a) is the factor of a token of step size 1, ten times the largest Delta that Mamba
starts with. It is the wrong size: exp(-a) never exceeds 0.37, while 94 % of the heads keep more than half of their
state over a token. And it is not a monotone function of the true factor, because a head's Delta is not tied to its a:
two heads change places as soon as a_1 < a_2 but a_1 Delta_1 > a_2 Delta_2. The rank correlation of both spectra is
0.41 at the start. So no axis of the figure can be relabelled to mend it.

Expected values. With Delta_t = Delta_h g_t and g_t standard exponential, E e^{-a Delta_h g} = 1 / (1 + a Delta_h). For
n heads the sample rank correlation has the mean (3 tau + (n - 2) rho) / (n + 1), tau and rho being Kendall's and
Spearman's coefficients of (a, a Delta) (Hoeffding 1948); they are integrals over a alone, since the difference of two
log-uniform variables has a triangular law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import scipy.special
import sympy

from ..arrays import Floats
from ..symbolic import Derivation, Step
from ..threefry import DECAYS, STEPS, Words, uniforms
from ..verdict import Comparison
from .claim import PAPER, Claim, Curve, Drawn, Samples, Trials
from .free_modes import free_decay

LOWEST_RATE, HIGHEST_RATE = 1.0, 16.0
"""Range of a at the start of training: mamba_ssm, A_init_range."""
LOWEST_STEP, HIGHEST_STEP = 0.001, 0.1
"""Range of Delta at the start of training: mamba_ssm, dt_min and dt_max."""
HEADS, TOKENS = 8, 16
"""Heads of a layer, and tokens over which they decay."""
CURVE_STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Step sizes of the curve."""
_AT_ONCE = 2048  # layers that are in memory


def printed_factor(dt: float) -> float:
    """Return the printed mean factor per token over a ~ U[1, 16], whatever the step size."""
    del dt
    return factor(1.0)


def factor(dt: float) -> float:
    """Return the corrected mean factor per token, E e^{-a dt} over a ~ U[1, 16], for one step size."""
    spread = HIGHEST_RATE - LOWEST_RATE
    return (math.exp(-LOWEST_RATE * dt) - math.exp(-HIGHEST_RATE * dt)) / (spread * dt)


def derive() -> Derivation:
    """Derive the factor of a token, and where exp(-a) departs from it."""
    a, dt, s, g = sympy.symbols("a Delta s g", positive=True)
    one, two, three = sympy.symbols("Delta_1 Delta_2 Delta_3", positive=True)
    true, printed = sympy.exp(-a * dt), sympy.exp(-a)
    low, high = sympy.Integer(1), sympy.Integer(16)
    return Derivation(
        (
            Step(
                "Between inputs h' = -a h, solved by e^{-a s}.",
                sympy.Derivative(sympy.exp(-a * s), s),
                -a * sympy.exp(-a * s),
            ),
            Step("It starts at 1.", sympy.Subs(sympy.exp(-a * s), s, 0), sympy.Integer(1)),
            Step(
                "Factors of tokens multiply to that of their sum; three tokens shown.",
                sympy.exp(-a * one) * sympy.exp(-a * two) * sympy.exp(-a * three),
                sympy.exp(-a * (one + two + three)),
            ),
            Step("exp(-a) is the factor of a token with Delta = 1.", sympy.Subs(true, dt, 1), printed),
            Step(
                "No token of Mamba's range has it: at the largest Delta, 1/10, the factors differ for a = 1 and 16.",
                true,
                printed,
                "!=",
                ({a: low, dt: sympy.Rational(1, 10)}, {a: high, dt: sympy.Rational(1, 10)}),
            ),
            Step(
                "The largest exp(-a), at a = 1, lies below one half, as all of the printed spectrum does,",
                printed,
                sympy.Rational(1, 2),
                "<=",
                ({a: low}, {a: high}),
            ),
            Step(
                "while at Delta = 1/100 the largest and the smallest factor lie above.",
                sympy.Rational(1, 2),
                sympy.exp(-a / 100),
                "<=",
                ({a: low}, {a: high}),
            ),
            Step(
                "The order is not kept. By exp(-a) a head with a = 2 forgets faster than one with a = 1,",
                sympy.exp(-2),
                sympy.exp(-1),
                "<=",
                ({},),
            ),
            Step(
                "with Delta = 1/100 for the first and 1/10 for the second it forgets more slowly.",
                sympy.exp(-sympy.Rational(1, 10)),
                sympy.exp(-sympy.Rational(2, 100)),
                "<=",
                ({},),
            ),
            Step(
                "Mean factor over a ~ U[1, 16] at one Delta.",
                sympy.Integral(true / 15, (a, 1, 16)),
                (sympy.exp(-dt) - sympy.exp(-16 * dt)) / (15 * dt),
            ),
            Step(
                "Mean factor over tokens whose Delta is multiplied by a standard exponential g.",
                sympy.Integral(sympy.exp(-a * dt * g) * sympy.exp(-g), (g, 0, sympy.oo)),
                1 / (1 + a * dt),
            ),
        ),
        "a token's eigenvalue is exp(-a Delta_t); exp(-a) is that of Delta = 1, which differs in size and in order.",
        {a: "rate |A|", dt: "step size", s: "time", g: "a token's share of its head's Delta"},
    )


def _layer(unit_steps: bool, writes: float, key: Words, first: int, trials: int) -> Floats:
    """Draw layers as Mamba starts them, run their heads freely, and describe the measured spectrum.

    Args:
        unit_steps: whether every Delta is 1.
        writes: input at every token.
        key: the experiment's key.
        first: first trial.
        trials: how many layers.

    Returns:
        (trials, 4): mean factor per token, mean of what is left after TOKENS, share of heads that keep less than half
        per token, rank correlation with exp(-a).
    """
    drawn = uniforms(key, DECAYS, first, trials, 2 * HEADS)
    a = LOWEST_RATE + (HIGHEST_RATE - LOWEST_RATE) * drawn[:, :HEADS]
    of_head = LOWEST_STEP * (HIGHEST_STEP / LOWEST_STEP) ** drawn[:, HEADS:]
    of_token = -np.log(uniforms(key, STEPS, first, trials, TOKENS))
    dt = of_token.T[:, :, None] * of_head  # (tokens, trials, heads)
    if unit_steps:
        dt = np.ones_like(dt)
    left = free_decay(a.ravel(), dt.reshape(TOKENS, -1), writes=writes).reshape(trials, HEADS)
    per_token = left ** (1 / TOKENS)
    forgetful = (per_token < 0.5).mean(1)
    return np.stack([per_token.mean(1), left.mean(1), forgetful, _rank_correlation(per_token, np.exp(-a))], axis=1)


def _rank_correlation(one: Floats, other: Floats) -> Floats:
    """Return Spearman's coefficient of each row."""
    n = one.shape[1]
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1) for values in (one, other)]
    return np.asarray(1 - 6 * np.square(ranks[0] - ranks[1]).sum(1) / (n * (n**2 - 1)))


def _equal_steps(dt: float, key: Words, first: int, trials: int) -> Floats:
    """Return the measured factor per token of heads whose tokens all have one step size."""
    a = LOWEST_RATE + (HIGHEST_RATE - LOWEST_RATE) * uniforms(key, DECAYS, first, trials, 1)[:, 0]
    return np.asarray(free_decay(a, np.full((4, trials), dt)) ** (1 / 4))[:, None]


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run heads freely: a layer as Mamba starts it with random steps, and heads with one step size."""
    runs = {f"Delta = {dt:g}": Trials(Drawn(partial(_equal_steps, dt), 40), trials) for dt in CURVE_STEPS}
    cost = 10 * HEADS * TOKENS
    return runs | {
        "layer": Trials(Drawn(partial(_layer, False, 0.0), cost, _AT_ONCE), trials // 2),
        "control unit steps": Trials(Drawn(partial(_layer, True, 0.0), cost, _AT_ONCE), trials // 16),
        "control inputs": Trials(Drawn(partial(_layer, False, 1.0), cost, _AT_ONCE), trials // 16),
    }


def _over_start(of_product: Callable[[Floats], Floats]) -> float:
    """Return the mean of a function of a Delta over the starting laws, by Gauss-Legendre in a and ln Delta."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    a = LOWEST_RATE + (HIGHEST_RATE - LOWEST_RATE) * (1 + nodes) / 2
    dt = LOWEST_STEP * (HIGHEST_STEP / LOWEST_STEP) ** ((1 + nodes) / 2)
    return float(weights @ of_product(np.outer(a, dt)) @ weights / 4)


def rank_correlation(heads: int) -> float:
    """Return the expected rank correlation of a and a Delta in a layer of some heads."""
    width = math.log(HIGHEST_STEP / LOWEST_STEP)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u, w = (1 + nodes) / 2, weights / 2
    a = LOWEST_RATE + (HIGHEST_RATE - LOWEST_RATE) * u  # u is the probability to lie below a
    below = LOWEST_RATE + (a[:, None] - LOWEST_RATE) * u  # nodes under each a
    above = a[:, None] + (HIGHEST_RATE - a[:, None]) * u
    low = 1 - (1 - np.log(a[:, None] / below) / width) ** 2 / 2  # P(Delta' b < Delta a) for a smaller b
    high = (1 - np.log(above / a[:, None]) / width) ** 2 / 2  # for a larger one
    kendall = float(4 * (w * u) @ low @ w - 1)
    under = u * (low @ w) + (1 - u) * (high @ w)  # P(Delta' b < Delta a) for any b
    spearman = float(12 * (w * u) @ under - 3)
    return (3 * kendall + (heads - 2) * spearman) / (heads + 1)


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the measured spectrum against exp(-a) and exp(-a Delta_t)."""
    layer = samples["layer"]
    spread = HIGHEST_RATE - LOWEST_RATE
    return [
        *(
            samples[f"Delta = {dt:g}"].against(
                f"mean factor per token, Delta = {dt:g}", factor(dt), printed_factor(dt), x=dt
            )
            for dt in CURVE_STEPS
        ),
        layer.against(
            "mean factor per token at Mamba's start",
            _over_start(lambda product: (1 + product / TOKENS) ** -TOKENS),
            printed_factor(1.0),
        ),
        layer.against(
            f"mean share of a state left after {TOKENS} tokens",
            _over_start(lambda product: (1 + product) ** -TOKENS),
            (math.exp(-TOKENS * LOWEST_RATE) - math.exp(-TOKENS * HIGHEST_RATE)) / (spread * TOKENS),
            column=1,
        ),
        layer.against(
            "share of heads that keep less than half of their state over a token",
            _over_start(lambda product: scipy.special.gammaincc(TOKENS, TOKENS * math.log(2) / product)),
            1.0,
            column=2,
        ),
        layer.against(f"rank correlation with exp(-a), {HEADS} heads", rank_correlation(HEADS), 1.0, column=3),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate Mamba's steps (Delta = 1: there the printed form is right) and freedom from inputs."""
    expected = _over_start(lambda product: (1 + product / TOKENS) ** -TOKENS)
    return [
        samples["control unit steps"].against("mean factor per token, Delta = 1 at every token", expected),
        samples["control inputs"].against("mean factor per token, inputs written", expected),
    ]


CLAIM = Claim(
    key="spectrum",
    title="what the transition spectrum is",
    source=f"{PAPER}, Figure 1 and Section 4.1",
    printed="exp(-A) is the transition spectrum",
    assumptions=(
        "diagonal A, a = |A| = exp(A_log) > 0, constant in time",
        "no input while the decay is measured",
        "Mamba's start: a ~ U[1, 16], Delta log-uniform on [0.001, 0.1] for each head, independent of a",
        "Delta_t = Delta_h g_t with g_t standard exponential, the same for all heads",
    ),
    corrected="the factor of a token is exp(-a Delta_t), one a head and a token",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "step size Delta of every token",
        "mean factor per token, a ~ U[1, 16]",
        tuple(0.001 * 10 ** (k / 20) for k in range(51)),
        printed_factor,
        factor,
    ),
)
