"""Corollary 4.4: the level of a state with one decay, and what it is a rate of.

Setting. h_t = lambda h_{t-1} + Delta B x_t from h_0 = 0 with one decay lambda = e^{-a Delta} for all entries (a head of
Mamba-2), x_t white with unit variance, Q = E ||B x||^2.

Proof of the corrected form. Unrolled, h_T = Delta sum_{k<T} lambda^k B x_{T-k}. White inputs have no cross terms, so
E ||h_T||^2 = Delta^2 Q g_T with g_T = (1 - lambda^{2T}) / (1 - lambda^2). In the limit rho = Delta^2 / (1 - lambda^2).
In terms of the rate, rho = Delta / (2 a) + Delta^2 / 2 + O(Delta^3): small steps make the level small, not large.
More is true when x is Gaussian: sum_k lambda^k x_{T-k} is Gaussian with covariance g_T I, hence equal in law to
sqrt(g_T) x, and ||h_T||^2 is equal in law to Delta^2 g_T ||B x||^2, for any B.

Where the printed form departs. Delta lambda / (1 - lambda^2) is the limit lmin -> lmax of Theorem 4.2 as printed, times
Delta: the algebra is right, but it starts from the wrong integrand and has Delta to the first power. Both forms agree
only where lambda = Delta.

The name. The paper calls rho a growth rate, or convergence rate. It is a level: the energy it settles at, per energy
put in. What converges does so by the factor lambda^2 a step, E ||h_{T+1}||^2 - L = lambda^2 (E ||h_T||^2 - L) with
L = rho Q. Two trajectories can have equal rates and any levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.special
import scipy.stats
import sympy

from ..laws import Listed
from ..modes import energy_gain
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant, InputLaw
from ..symbolic import Derivation, Step
from ..verdict import Comparison, Sample, exactly
from .claim import PAPER, Claim, Curve, Samples, Trials
from .stationary import stationary_steps

CURVE_STEP = 0.5
"""Delta of the curve over lambda."""
ON_CURVE = (0.1, 0.3, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Decays on the curve."""
CASES = ((0.1, 0.1), (1.0, 0.01), (1.0, 0.1), (1.0, 2.0), (1.0, 6.0))
"""Other (a, Delta)."""
TRACK_DECAY, TRACK_STEP = 0.95, 0.5
"""The trajectory that is followed over time."""
TRACK_TIMES = (1, 4, 8, 16, 32, 160)
"""Steps at which it is read; after the last one it is stationary to 1e-7."""
POINTS = (0.3, 0.8, 1.3, 2.0)
"""Where the law of ||h||^2 is compared, in units of E ||h||^2."""
SIZE = 8
"""d = m: entries of the state, and inputs that B mixes."""


def printed_level(decay: float, dt: float) -> float:
    """Return the printed rho."""
    return dt * decay / (1 - decay**2)


def level(decay: float, dt: float) -> float:
    """Return the corrected rho."""
    return dt**2 / (1 - decay**2)


def derive() -> Derivation:
    """Derive the corrected form, where the printed one departs, and what converges at which rate."""
    decay, high, x, a, dt, q = sympy.symbols("lambda lambda_max x a Delta Q", positive=True)
    T = sympy.Symbol("T", integer=True, positive=True)
    gain = (1 - decay ** (2 * T)) / (1 - decay**2)
    energy = dt**2 * q * gain
    settled = dt**2 * q / (1 - decay**2)
    printed = dt * decay / (1 - decay**2)
    of_rate = dt**2 / (1 - sympy.exp(-2 * a * dt))
    antiderivative = -sympy.log(1 - x**2) / 2
    half = sympy.Rational(1, 2)
    at = ({decay: sympy.Rational(9, 10), dt: half}, {decay: sympy.Rational(1, 10), dt: half})
    return Derivation(
        (
            Step(
                "White inputs: E ||h_T||^2 = Delta^2 Q g_T obeys E ||h_{T+1}||^2 = lambda^2 E ||h_T||^2 + Delta^2 Q,",
                energy.subs(T, T + 1),
                decay**2 * energy + dt**2 * q,
            ),
            Step("and starts at Delta^2 Q.", sympy.Subs(energy, T, 1), dt**2 * q),
            Step(
                "It tends to Delta^2 Q / (1 - lambda^2); shown at lambda = 1/2.",
                sympy.Limit(energy.subs(decay, half), T, sympy.oo),
                settled.subs(decay, half),
            ),
            Step(
                "With lambda = e^{-a Delta} and a small Delta, rho is Delta / (2 a) at first order,",
                sympy.Limit(of_rate / dt, dt, 0),
                1 / (2 * a),
            ),
            Step(
                "and Delta^2 / 2 at second order.",
                sympy.Limit((of_rate - dt / (2 * a)) / dt**2, dt, 0),
                half,
            ),
            Step(
                "First departure: the limit lmin -> lmax of a mean over a uniform law is the integrand. That of the "
                "printed Theorem 4.2 is x / (1 - x^2),",
                sympy.Limit((antiderivative.subs(x, high) - antiderivative) / (high - x), x, high),
                high / (1 - high**2),
            ),
            Step(
                "that of the corrected one 1 / (1 - x^2).",
                sympy.Limit((sympy.atanh(high) - sympy.atanh(x)) / (high - x), x, high),
                1 / (1 - high**2),
            ),
            Step(
                "Second departure: Delta in place of Delta^2. Both forms agree only for lambda = Delta:",
                (settled / q - printed) * (1 - decay**2),
                dt * (dt - decay),
            ),
            Step("elsewhere they differ.", printed, settled / q, "!=", at),
            Step(
                "The rate: the distance from the level shrinks by the factor lambda^2 a step, whatever Delta and Q.",
                (energy.subs(T, T + 1) - settled) / (energy - settled),
                decay**2,
            ),
            Step(
                "So rho is no rate: it is not the factor by which anything grows or converges in a step.",
                settled / q,
                decay**2,
                "!=",
                at,
            ),
        ),
        "rho = Delta^2 / (1 - lambda^2), a level; as printed the corollary is wrong. The rate is lambda^2 a step.",
        {decay: "the decay", a: "rate", dt: "step size", q: "E ||B x||^2", T: "steps", high: "largest decay"},
    )


def _recurrence(rate: float, dt: float, inputs: InputLaw | None = None) -> Recurrence:
    return Recurrence(
        "scalar_identity",
        SIZE,
        Listed((rate,)),
        steps=Constant(dt),
        inputs=inputs or InputLaw(),
        mixing=SIZE,
    )


def _cases() -> list[tuple[str, float, float, float | None]]:
    """Return name, a, Delta and abscissa of the levels."""
    on_curve = [
        (f"lambda = {decay:g}, Delta = {CURVE_STEP:g}", -math.log(decay) / CURVE_STEP, CURVE_STEP, decay)
        for decay in ON_CURVE
    ]
    return [*on_curve, *((f"a = {rate:g}, Delta = {dt:g}", rate, dt, None) for rate, dt in CASES)]


def _track(inputs: InputLaw | None = None) -> Paths:
    return Paths(_recurrence(-math.log(TRACK_DECAY) / TRACK_STEP, TRACK_STEP, inputs), TRACK_TIMES)


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the recurrence itself, with B and inputs drawn anew in each trial."""
    levels = {
        name: Trials(Paths(_recurrence(rate, dt), (stationary_steps(math.exp(-rate * dt)),)), _fewer(trials, rate * dt))
        for name, rate, dt, _ in _cases()
    }
    return levels | {
        "trajectory": Trials(_track(), trials),
        "control correlated": Trials(_track(InputLaw(rho=0.5)), trials),
        "control with a mean": Trials(_track(InputLaw(mean=0.5)), trials),
    }


def _fewer(trials: int, r: float) -> int:
    """Return a quarter of the trials for modes that take hundreds of steps."""
    return trials // 4 if r < 0.02 else trials


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the levels, one trajectory over time, and the law of ||h||^2 against both forms."""
    unit = SIZE * SIZE
    levels = []
    for name, rate, dt, x in _cases():
        decay = math.exp(-rate * dt)
        exact = dt**2 * float(energy_gain(rate * dt, stationary_steps(decay)))
        levels.append(samples[name].against(f"rho, {name}", exact, printed_level(decay, dt), unit=unit, x=x))
    stationary = [
        exactly(
            f"stationary rho by the geometric sum, {name}",
            dt**2 * float(energy_gain(rate * dt, math.inf)),
            level(math.exp(-rate * dt), dt),
            printed_level(math.exp(-rate * dt), dt),
            bound=1e-10 * dt**2 / (rate * dt),
        )
        for name, rate, dt, _ in _cases()
    ]
    return [*levels, *stationary, *_over_time(samples["trajectory"]), *_in_law(samples["trajectory"])]


def _energy(steps: int) -> float:
    return TRACK_STEP**2 * float(energy_gain(-math.log(TRACK_DECAY), steps))


def _over_time(track: Sample) -> list[Comparison]:
    """A level is approached: the energies on the way, and the factor lambda^(2k) between two differences of them."""
    last = len(TRACK_TIMES) - 1
    found = [
        track.against(
            f"E||h_T||^2/Q after T = {steps} steps, lambda = {TRACK_DECAY:g}, Delta = {TRACK_STEP:g}",
            _energy(steps),
            printed_level(TRACK_DECAY, TRACK_STEP) if k == last else None,
            rival=None if k == last else level(TRACK_DECAY, TRACK_STEP),
            column=k,
            unit=SIZE * SIZE,
        )
        for k, steps in enumerate(TRACK_TIMES)
    ]
    one, two, four = (track.values[:, TRACK_TIMES.index(steps)] for steps in (8, 16, 32))
    later = Sample(np.stack([two - one, four - two], axis=1))
    # E||h_16||^2 - E||h_8||^2 = lambda^16 E||h_8||^2, and the next sixteen steps add lambda^32 E||h_16||^2
    for column, (start, stop) in enumerate(((8, 16), (16, 32))):
        found.append(
            later.against(
                f"(E||h_{stop}||^2 - E||h_{start}||^2)/Q: growth slows down by lambda^2 a step",
                TRACK_DECAY ** (2 * start) * _energy(start),
                rival=(stop - start) * _energy(start) / start,  # growth at the mean rate so far
                column=column,
                unit=SIZE * SIZE,
            )
        )
    return found


def _in_law(track: Sample) -> list[Comparison]:
    """||h_T||^2 has the law of Delta^2 g_T ||B x||^2: the share of trials below some points."""
    steps = TRACK_TIMES[-2]
    values = track.values[:, len(TRACK_TIMES) - 2] / _energy(steps)
    below = Sample(np.stack([values <= point * SIZE * SIZE for point in POINTS], axis=1).astype(np.float64))
    return [
        below.against(
            f"share of ||h_T||^2 below {point:g} of its mean, T = {steps}",
            _share_below(point * SIZE * SIZE),
            rival=float(scipy.stats.chi2.cdf(point * SIZE, SIZE)),  # a white Gaussian state of the same energy
            column=k,
        )
        for k, point in enumerate(POINTS)
    ]


def _share_below(point: float) -> float:
    """Return P(||B x||^2 <= point) for an even number of entries.

    ||B x||^2 is y z with y, z independent chi-squares of SIZE = 2 n degrees. P(y z > c | y) is e^{-c/2y} times a sum of
    (c/2y)^j / j! over j < n, and the integral of y^{v-1} e^{-y/2 - c/2y} is 2 c^{v/2} K_v(sqrt c).
    """
    n = SIZE // 2
    above = sum(
        (point / 2) ** j / math.factorial(j) * 2 * point ** ((n - j) / 2) * scipy.special.kv(n - j, math.sqrt(point))
        for j in range(n)
    )
    return float(1 - above / (2**n * math.gamma(n)))


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate whiteness: inputs with correlated neighbours, and inputs with a mean."""
    last, expected = len(TRACK_TIMES) - 1, _energy(TRACK_TIMES[-1])
    return [
        samples[name].against(
            f"{name.removeprefix('control ')}, lambda = {TRACK_DECAY:g}", expected, column=last, unit=SIZE * SIZE
        )
        for name in ("control correlated", "control with a mean")
    ]


CLAIM = Claim(
    key="corollary-4.4",
    title="level of a state with one decay, and its rate",
    source=f"{PAPER}, Corollary 4.4",
    printed="rho ~ Delta lambda / (1 - lambda^2) for one decay lambda; rho is called a growth (or convergence) rate",
    assumptions=(
        "h_0 = 0, Delta and lambda in (0, 1) constant, one lambda for all entries",
        "Euler discretisation: inputs are multiplied by Delta",
        "x white, zero mean, unit variance; Gaussian where the law of ||h||^2 is compared",
        "B independent of x",
        "T large enough to be stationary, but for E||h_T||^2",
    ),
    corrected="rho = Delta^2 / (1 - lambda^2) = Delta / (2 a) + Delta^2 / 2 + ..., a level; the rate is lambda^2",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        f"decay lambda at Delta = {CURVE_STEP:g}",
        "rho = E||h||^2 / E||Bx||^2",
        tuple(0.02 + 0.01 * k for k in range(97)),
        lambda decay: printed_level(decay, CURVE_STEP),
        lambda decay: level(decay, CURVE_STEP),
    ),
)
