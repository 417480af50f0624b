"""Theorem 4.2: the level of a diagonal state whose decays are uniform.

Setting. h_t = Lambda h_{t-1} + B x_t from h_0 = 0, Lambda diagonal with independent lambda_i ~ U[lmin, lmax], x_t white
with unit variance, B independent of Lambda. Write q_i = E (B x)_i^2 and Q = sum q_i = E ||B x||^2.

Proof of the corrected form. Unrolled, h_{i,T} = sum_{k<T} lambda_i^k (B x_{T-k})_i. The x_t are uncorrelated, so the
square of the sum has the expectation q_i sum_{k<T} lambda_i^{2k} = q_i (1 - lambda_i^{2T}) / (1 - lambda_i^2), which
tends to q_i / (1 - lambda_i^2). Averaging over the uniform law integrates 1 / (1 - x^2), whose antiderivative is
artanh x. Hence E ||h||^2 = Q (artanh lmax - artanh lmin) / (lmax - lmin).

Where the printed form departs. Its antiderivative -log(1 - x^2) / 2 belongs to x / (1 - x^2): one factor x too many.
The paper's own Theorem B.1 has the right integrand, so the two contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy

from ..laws import Uniform, uniform
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import InputLaw
from ..symbolic import Derivation, Step
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials
from .stationary import stationary_steps

INTERVALS = ((0.0, 0.2), (0.0, 0.5), (0.0, 0.7), (0.0, 0.9), (0.0, 0.97), (0.0, 0.99), (0.2, 0.95), (0.5, 0.6))
"""Laws of the decay that are simulated."""
SIZE = 8
"""d = m: channels, and inputs that B mixes."""


def printed_level(low: float, high: float) -> float:
    """Return the printed E ||h||^2 / Q."""
    return math.log((1 - low**2) / (1 - high**2)) / (2 * (high - low))


def level(low: float, high: float) -> float:
    """Return the corrected E ||h||^2 / Q."""
    return (math.atanh(high) - math.atanh(low)) / (high - low)


def derive() -> Derivation:
    """Derive the corrected form and find where the printed one departs."""
    x, low, high = sympy.symbols("x lambda_min lambda_max", positive=True)
    k, T = sympy.symbols("k T", integer=True, positive=True)
    at = ({low: sympy.Rational(1, 5), high: sympy.Rational(19, 20)},)
    gain = (1 - x ** (2 * T)) / (1 - x**2)
    corrected = (sympy.atanh(high) - sympy.atanh(low)) / (high - low)
    printed = sympy.log((1 - low**2) / (1 - high**2)) / (2 * (high - low))
    return Derivation(
        (
            Step(
                "White inputs: the energy after T steps is a geometric sum of x^2, x the decay.",
                (1 - x**2) * sympy.Sum(x ** (2 * k), (k, 0, 2)),
                1 - x**6,
            ),
            Step("The closed form obeys the recursion g_{T+1} = x^2 g_T + 1.", gain.subs(T, T + 1), x**2 * gain + 1),
            Step("It starts at g_1 = 1.", sympy.Subs(gain, T, 1), sympy.Integer(1)),
            Step(
                "For a decay below 1 it tends to 1 / (1 - x^2); shown at x = 1/2.",
                sympy.Limit(gain.subs(x, sympy.Rational(1, 2)), T, sympy.oo),
                sympy.Rational(4, 3),
            ),
            Step("artanh is the antiderivative of 1 / (1 - x^2).", sympy.Derivative(sympy.atanh(x), x), 1 / (1 - x**2)),
            Step(
                "So the integral of 1 / (1 - x^2) from lmin to lmax is a difference of artanh: its derivative fits,",
                sympy.Derivative((high - low) * corrected, high),
                1 / (1 - high**2),
            ),
            Step("and it vanishes for lmax = lmin.", sympy.Subs((high - low) * corrected, high, low), sympy.Integer(0)),
            Step(
                "An independent quadrature over [1/5, 19/20] agrees.",
                sympy.Integral(1 / (1 - x**2), (x, *at[0].values())),
                ((high - low) * corrected).subs(at[0]),
            ),
            Step(
                "The printed numerator is the antiderivative of another function: x / (1 - x^2).",
                sympy.Derivative(-sympy.log(1 - x**2) / 2, x),
                x / (1 - x**2),
            ),
            Step("So the printed form differs from the corrected one.", printed, corrected, "!=", at),
        ),
        "E ||h||^2 = Q (artanh lmax - artanh lmin) / (lmax - lmin); as printed the theorem is wrong.",
        {x: "a decay", low: "smallest decay", high: "largest decay", T: "steps"},
    )


def _recurrence(low: float, high: float, rho: float = 0.0) -> Recurrence:
    return Recurrence("diagonal", SIZE, uniform(low, high), inputs=InputLaw(rho=rho), mixing=SIZE)


def _name(low: float, high: float) -> str:
    return f"U[{low:g}, {high:g}]"


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence itself, with decays, B and inputs drawn anew in each trial."""
    runs = {_name(*pair): Trials(Paths(_recurrence(*pair), (stationary_steps(pair[1]),)), trials) for pair in INTERVALS}
    return runs | {"control": Trials(Paths(_recurrence(0.0, 0.9, rho=0.5), (stationary_steps(0.9),)), trials)}


def _expected(low: float, high: float) -> float:
    """Corrected form at the horizon that is simulated, within 1e-6 of the stationary one."""
    law, steps = Uniform(low, 1 - high), stationary_steps(high)
    return law.expect(lambda rate: energy_gain(rate, steps))


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold E ||h||^2 / Q against both forms, and the stationary level by quadrature against both formulas."""
    simulated = [
        samples[_name(*pair)].against(
            f"E||h||^2/Q, lambda ~ {_name(*pair)}", _expected(*pair), printed_level(*pair), unit=SIZE * SIZE, x=_x(pair)
        )
        for pair in INTERVALS
    ]
    stationary = [
        exactly(
            f"stationary level by quadrature, lambda ~ {_name(*pair)}",
            Uniform(pair[0], 1 - pair[1]).expect(lambda rate: energy_gain(rate, math.inf)),
            level(*pair),
            printed_level(*pair),
            bound=1e-10,
        )
        for pair in INTERVALS
    ]
    return [*simulated, *stationary]


def _x(pair: tuple[float, float]) -> float | None:
    return pair[1] if pair[0] == 0 else None


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate whiteness: inputs with a correlation of 0.5 between neighbours."""
    return [samples["control"].against("correlated inputs, lambda ~ U[0, 0.9]", _expected(0.0, 0.9), unit=SIZE * SIZE)]


CLAIM = Claim(
    key="theorem-4.2",
    title="level of a diagonal state, uniform decays",
    source=f"{PAPER}, Theorem 4.2, Eq. (8)",
    printed="E||h||^2 = log((1 - lmin^2) / (1 - lmax^2)) / (2 (lmax - lmin)) * E||Bx||^2 for lambda_i ~ U[lmin, lmax]",
    assumptions=(
        "h_0 = 0 and lambda in (0, 1), constant in time",
        "x white, zero mean, unit variance",
        "lambda independent of B and x",
        "T large enough to be stationary",
    ),
    corrected="E||h||^2 = (artanh lmax - artanh lmin) / (lmax - lmin) * E||Bx||^2",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "largest decay lambda, of U[0, lambda]",
        "E||h||^2 / E||Bx||^2",
        tuple(0.02 + 0.01 * k for k in range(98)),
        lambda high: printed_level(0.0, high),
        lambda high: level(0.0, high),
    ),
)
