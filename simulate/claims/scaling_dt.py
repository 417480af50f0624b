"""Whether scaling A reaches the eigenvalues and scaling Delta does not.

Setting. h_t = e^{-a Delta_t} h_{t-1} + Delta_t u_t from h_0 = 0, with any steps Delta_t and any inputs u_t. Scaling
Delta multiplies every Delta_t by s after the softplus, scaling A multiplies every rate a = |A| by s.

Proof of the corrected form. The eigenvalue of a token is e^{-a Delta_t}: a and Delta_t enter as a product, so that s
on either gives e^{-s a Delta_t}. Unrolled, with D_k = Delta_{k+1} + ... + Delta_T, h_T(s Delta, A) is the sum over k
of s Delta_k u_k e^{-s a D_k}, and the same with scaled A lacks only the factor s of the write. Hence

    h_T(s Delta, A) = s h_T(Delta, s A)

for every sequence of steps and inputs: not on average, but each entry of each state. Nothing was assumed of the steps
or inputs, so it holds for random and autocorrelated ones. It holds for the zero-order hold too, whose write gain
(1 - e^{-a Delta}) / a also is s times as large under s Delta as it is under s A: s changes the unit of time.

Where the printed form departs. It says that A reaches the eigenvalues, which is true, and that Delta does not, which is
false: they are the same. The two scales differ in the size of the state alone, a factor s on B (or C) undoes it.

What breaks the identity: a factor before the softplus, which is not a factor on Delta_t, and a state at the start that
is not scaled along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import sympy

from ..arrays import Floats
from ..laws import LogUniform
from ..recurrence import Recurrence
from ..replay import replay
from ..step_laws import Constant, InputLaw, Markov, SoftplusNormal, StepLaw
from ..step_transforms import Gamma
from ..symbolic import Derivation, Step
from ..threefry import DECAYS, INPUTS, MIXING, STEPS, Words, normals, uniforms
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Drawn, Samples, Trials
from .free_modes import free_decay

FACTORS = (0.3, 3.0)
"""Scales s that are tried; no powers of two, which would only change exponents."""
LAW = LogUniform(0.05, 5.0)
"""Law of a."""
CHANNELS, HORIZON = 4, 64
_PLACES = ((0.95, 0.05), (0.02, 0.98))
RUNS: dict[str, Recurrence] = {
    "constant steps": Recurrence("diagonal", CHANNELS, LAW, steps=Constant(0.2)),
    "gamma steps": Recurrence("diagonal", CHANNELS, LAW, steps=Gamma(0.5, 0.4)),
    "Markov steps": Recurrence("diagonal", CHANNELS, LAW, steps=Markov((0.01, 0.6), _PLACES)),
    "one decay, correlated inputs with a mean": Recurrence(
        "scalar_identity", CHANNELS, LAW, steps=Gamma(2.0, 0.1), inputs=InputLaw(mean=0.3, rho=0.7)
    ),
    "zero-order hold, gamma steps": Recurrence("diagonal", CHANNELS, LAW, Gamma(0.5, 0.4), discretisation="zoh"),
}
"""Recurrences on which the identity of the norms is tested."""
SHAPE, SCALE = 0.5, 0.4
"""Gamma law of the steps under which decays are measured."""
DECAY_TOKENS = 4
RATES = (0.1, 1.0)
"""a of the modes whose decay is measured."""
ROUNDING = 1e-9
"""Bound on the relative rounding error of a squared norm: HORIZON steps of 2^-53 on the largest term of each entry's
sum, with five digits left for sums that cancel."""
_D_STATE = 3


def left_after(a: float, s: float) -> float:
    """Return E e^{-s a (Delta_1 + ... + Delta_n)} for gamma steps and n = DECAY_TOKENS."""
    return float((1 + s * a * SCALE) ** (-SHAPE * DECAY_TOKENS))


def _unrolled(of_dt: sympy.Expr, of_a: sympy.Expr) -> sympy.Expr:
    """Run three tokens symbolically with a factor on Delta and one on A."""
    h, a = sympy.Integer(0), sympy.Symbol("a", positive=True)
    for token in range(1, 4):
        dt, u = sympy.Symbol(f"Delta_{token}", positive=True), sympy.Symbol(f"u_{token}", real=True)
        h = sympy.exp(-of_a * a * of_dt * dt) * h + of_dt * dt * u
    return h


def derive() -> Derivation:
    """Derive the identity, for one step and by induction for all."""
    a, dt, s, x = sympy.symbols("a Delta s x", positive=True)
    u, h = sympy.symbols("u h", real=True)
    later = sympy.exp(-s * a * dt)
    hold = (1 - sympy.exp(-a * dt)) / a
    shape, scale = sympy.symbols("k theta", positive=True)
    of_decay = sympy.exp(-a * dt)
    density = x ** (shape - 1) * sympy.exp(-x / scale) / (sympy.gamma(shape) * scale**shape)
    before = sympy.log(1 + sympy.exp(x))
    return Derivation(
        (
            Step(
                "Scaling Delta or A gives one and the same eigenvalue.",
                sympy.Subs(of_decay, dt, s * dt),
                sympy.Subs(of_decay, a, s * a),
            ),
            Step(
                "So scaling Delta does move it: at s = 1/2 it is another one than before.",
                of_decay.subs(dt, s * dt),
                of_decay,
                "!=",
                ({s: sympy.Rational(1, 2), a: sympy.Integer(1), dt: sympy.Rational(1, 10)},),
            ),
            Step(
                "Induction over tokens: let h be the state with scaled A, s h that with scaled Delta. The next token "
                "leaves the second s times the first.",
                later * (s * h) + (s * dt) * u,
                s * (later * h + dt * u),
            ),
            Step("At the start, with h = 0, it is so.", sympy.Subs(s * h, h, 0), sympy.Subs(h, h, 0)),
            Step("Run over three tokens from 0, with any steps and inputs:", _unrolled(s, 1), s * _unrolled(1, s)),
            Step(
                "The write gain of a zero-order hold scales likewise, so the identity holds there too.",
                sympy.Subs(hold, dt, s * dt),
                s * sympy.Subs(hold, a, s * a),
            ),
            Step(
                "Mean decay under gamma steps of shape k and scale theta.",
                sympy.Integral(sympy.expand(sympy.exp(-a * x) * density), (x, 0, sympy.oo)),
                (1 + a * scale) ** (-shape),
            ),
            Step(
                "A factor before the softplus is none on Delta: at x = -4 half of x gives ln(1 + e^{-2}).",
                before.subs(x, x / 2),
                before / 2,
                "!=",
                ({x: sympy.Integer(-4)},),
            ),
            Step(
                "A start state that is not scaled along breaks the induction: h and h in place of h and s h.",
                later * h + (s * dt) * u,
                s * (later * h + dt * u),
                "!=",
                (
                    {
                        s: sympy.Rational(1, 2),
                        a: sympy.Integer(1),
                        dt: sympy.Rational(1, 10),
                        h: sympy.Integer(1),
                        u: sympy.Integer(1),
                    },
                ),
            ),
        ),
        "h(s Delta, A) = s h(Delta, s A): scaling Delta moves the eigenvalues exactly as scaling A does.",
        {a: "rate |A|", dt: "step size", s: "scale", u: "input", h: "state"},
    )


def _scaled_steps(law: StepLaw, s: float) -> StepLaw:
    if isinstance(law, Constant):
        return Constant(s * law.dt)
    if isinstance(law, Gamma):
        return Gamma(law.shape, s * law.scale)
    assert isinstance(law, Markov)
    return replace(law, values=tuple(s * value for value in law.values))


def _norm_ratio(recurrence: Recurrence, s: float, key: Words, first: int, trials: int) -> Floats:
    """Return ||h(s Delta, A)||^2 / ||h(Delta, s A)||^2 of each trial, the same noise in both."""
    times = np.array([HORIZON])
    by_dt = replace(recurrence, steps=_scaled_steps(recurrence.steps, s))
    by_a = replace(recurrence, eigenvalues=LogUniform(s * LAW.low, s * LAW.high))
    return by_dt.squared_norms(key, times, first, trials) / by_a.squared_norms(key, times, first, trials)


def _states(s: float, start: float, key: Words, first: int, trials: int) -> tuple[Floats, Floats]:
    """Return the states of heads (headdim 1) with scaled Delta and with scaled A, both (trials, d_state)."""
    tokens = 16
    a = LAW.rates(uniforms(key, DECAYS, first, trials, 1))[:, 0]
    dt = -0.2 * np.log(uniforms(key, STEPS, first, trials, tokens)).T[None]
    x, B = normals(key, INPUTS, first, trials, tokens), normals(key, MIXING, 0, 1, tokens * _D_STATE)
    by_dt, by_a = (
        replay(
            -rates,
            steps,
            steps,
            B.reshape(1, tokens, 1, _D_STATE),
            x.T[None, :, :, None],
            state=np.full((trials, _D_STATE), start),
        ).state.reshape(trials, _D_STATE)
        for rates, steps in ((a, s * dt), (s * a, dt))
    )
    return by_dt, by_a


def _state_gap(s: float, key: Words, first: int, trials: int) -> Floats:
    """Return the largest difference between h(s Delta, A) and s h(Delta, s A), relative to the largest entry."""
    by_dt, by_a = _states(s, 0.0, key, first, trials)
    return np.asarray(np.abs(by_dt - s * by_a).max(1) / np.abs(by_dt).max(1))[:, None]


def _decays(s: float, key: Words, first: int, trials: int) -> Floats:
    """Return what is left of a state of 1 for each of RATES: unscaled, with scaled Delta, with scaled A."""
    total = uniforms(key, STEPS, first, trials, 2 * DECAY_TOKENS).reshape(trials, DECAY_TOKENS, 2)
    # gamma of shape 1/2: a squared normal by Box and Muller, halved
    dt = (-SCALE * np.log(total[..., 0]) * np.square(np.cos(2 * np.pi * total[..., 1]))).T
    runs = [(a, steps) for rate in RATES for a, steps in ((rate, dt), (rate, s * dt), (s * rate, dt))]
    return np.stack([free_decay(np.full(trials, a), steps) for a, steps in runs], axis=1)


def _before_softplus(s: float, key: Words, first: int, trials: int) -> Floats:
    """Return ln of the norm ratio with the factor on the softplus' argument in place of its value."""
    law = SoftplusNormal(-2.0, 1.0)
    recurrence = Recurrence("diagonal", CHANNELS, LAW, steps=law)
    inside = replace(recurrence, steps=SoftplusNormal(s * law.mu, s * law.sigma))
    by_a = replace(recurrence, eigenvalues=LogUniform(s * LAW.low, s * LAW.high))
    times = np.array([HORIZON])
    return np.log(inside.squared_norms(key, times, first, trials) / by_a.squared_norms(key, times, first, trials))


def _started(s: float, key: Words, first: int, trials: int) -> Floats:
    """Return ln of the norm ratio of states that both start at 1."""
    by_dt, by_a = _states(s, 1.0, key, first, trials)
    return np.asarray(np.log(np.square(by_dt).sum(1) / np.square(by_a).sum(1)))[:, None]


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run both scales on the same noise; measure decays; break the identity."""
    few = max(256, trials // 16)
    runs: dict[str, Trials] = {}
    for s in FACTORS:
        for name, recurrence in RUNS.items():
            runs[f"{name}, s = {s:g}"] = Trials(
                Drawn(partial(_norm_ratio, recurrence, s), 2 * CHANNELS * HORIZON * 6), few
            )
        runs[f"states, s = {s:g}"] = Trials(Drawn(partial(_state_gap, s), 500), few)
        runs[f"decays, s = {s:g}"] = Trials(Drawn(partial(_decays, s), 200), trials)
        runs[f"control softplus, s = {s:g}"] = Trials(
            Drawn(partial(_before_softplus, s), 2 * CHANNELS * HORIZON * 6), few
        )
    return runs | {"control start": Trials(Drawn(partial(_started, FACTORS[0]), 500), few)}


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold measured decays against "moved" and "not moved", and norms and states of both scales against each other."""
    found: list[Comparison] = []
    for s in FACTORS:
        decays = samples[f"decays, s = {s:g}"]
        for k, a in enumerate(RATES):
            moved, still = left_after(a, s), left_after(a, 1.0)
            label = f"left after {DECAY_TOKENS} tokens, a = {a:g}"
            found += [
                decays.against(f"{label}, Delta times {s:g}", moved, still, column=3 * k + 1),
                decays.against(f"{label}, A times {s:g}", moved, moved, rival=still, column=3 * k + 2),
            ]
        for name in RUNS:
            found.append(
                exactly(
                    f"||h(s Delta, A)||^2 / ||h(Delta, s A)||^2, {name}, s = {s:g}, worst trial",
                    samples[f"{name}, s = {s:g}"].furthest(s**2),
                    s**2,
                    rival=1.0,
                    bound=ROUNDING * s**2,
                )
            )
        found.append(
            exactly(
                f"entries of h(s Delta, A) - s h(Delta, s A), s = {s:g}, worst relative difference",
                samples[f"states, s = {s:g}"].furthest(0.0),
                0.0,
                rival=abs(1 - 1 / s),  # no factor s at all
                bound=ROUNDING,
            )
        )
    return found


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate "after the softplus", and h_0 = 0: ln of the norm ratio is then not 2 ln s."""
    return [
        *(
            samples[f"control softplus, s = {s:g}"].against(
                f"ln of the norm ratio, {s:g} before the softplus", 2 * float(np.log(s))
            )
            for s in FACTORS
        ),
        samples["control start"].against(
            f"ln of the norm ratio, states that start at 1, s = {FACTORS[0]:g}", 2 * float(np.log(FACTORS[0]))
        ),
    ]


CLAIM = Claim(
    key="scaling-dt",
    title="scaling Delta against scaling A",
    source=f"{PAPER}, Section 4.2",
    printed="scaling Delta does not address the eigenvalues, scaling A does",
    assumptions=(
        "h_0 = 0",
        "s multiplies Delta_t after the softplus, or A itself (not A_log)",
        "Delta_t sets the decay and the write, by Euler or a zero-order hold",
        "steps and inputs are the same under both scales; otherwise any",
    ),
    corrected="h(s Delta, A) = s h(Delta, s A): both move every eigenvalue to its power s",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
