"""Table 1: whether eigenvalues near 1 make the state's norm diverge with length.

Setting. h_t = P_t h_{t-1} + w_t from h_0 = 0, the entries of P_t in [0, 1] (eigenvalues of any closeness to 1), and
(P_t, w_t) stationary: their joint law does not depend on where the text is entered. Any memory is allowed, any
dependence of steps and inputs, any mean. N is the Euclidean norm, or the largest norm over heads and channels that
Table 1 reports, or any other norm that does not grow when entries shrink. RMS_T = sqrt(E N(h_T)^2).

The doubling bound. After 2T tokens

    h_{2T} = P h_T + h'_T,    P = P_{2T} ... P_{T+1},

where h'_T is the state that the tokens T + 1 to 2T alone would make from 0. The entries of P lie in [0, 1], so that
N(P h_T) <= N(h_T), and text by text

    N(h_{2T}) <= N(h_T) + N(h'_T).

By stationarity h'_T has the law of h_T. E (X + Y)^2 = E X^2 + 2 E XY + E Y^2, and E XY <= sqrt(E X^2 E Y^2) because
0 <= E (X / |X| - Y / |Y|)^2 = 2 - 2 E XY / (|X| |Y|) with |X|^2 = E X^2 (Cauchy and Schwarz). With |X| = |Y| = RMS_T,

    RMS_{2T} <= 2 RMS_T.

It is sharp: constant inputs and a decay lambda give 1 + lambda^T, which tends to 2 for lambda -> 1. White inputs give
sqrt(1 + lambda^{2T}), at most sqrt(2).

Saturation. For lambda < 1 the norm tends to a finite level: growth goes on for a memory or so and then ends.

Where the printed form departs. The published maxima (mamba2-1.3b, one text a row, the layer whose vector norms lie
furthest apart) are read as a divergent trend that eigenvalues explain. It is judged here in two parts: whether growth
as of a first doubling goes on, and whether stationary inputs allow the published jumps. Those are 5.11-fold from 2K to
4K (ProofPile) and 5.27-fold from 4K to 8K (PG19), more than any eigenvalues can make of stationary inputs: text by
text, the second half alone must have written at least 4.1 times what the first half left, with the same eigenvalues in
both. So the inputs of that recurrence changed. And from 16K on the maxima do not grow: 1241, 1202, 1243 (PG19).

What the bound is not. It holds for the mean over texts (RMS, or mean, of N), and Table 1 has one text a row: a text
whose second half differs from its first can exceed it. Such a text is a change of inputs, not of eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import sympy

from ..exact import exact_second_moment
from ..laws import Listed, LogUniform, uniform
from ..montecarlo import Paths
from ..recurrence import Recurrence
from ..step_laws import Constant, InputLaw, Markov, SoftplusNormal
from ..step_transforms import Gamma
from ..symbolic import Derivation, Step
from ..verdict import Comparison, Sample, exactly
from .claim import PAPER, Claim, Curve, Drawn, Samples, Trials
from .text_processes import AT_ONCE, changing_inputs, random_texts

TABLE_1 = {
    "ProofPile": ("131.4489", "174.6176", "892.7114", "1330.5321", "1141.5253", "1130.6537", "1157.5122"),
    "PG19": ("158.7656", "160.8465", "166.3788", "876.0833", "1241.3979", "1201.5530", "1242.7589"),
}
"""Published largest state norms at 1K, 2K, 4K, ... 64K tokens."""
JUMPS = {name: max(float(later) / float(former) for former, later in pairwise(row)) for name, row in TABLE_1.items()}
"""Largest growth over a doubling of length: 5.11 and 5.27."""

TIMES = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Lengths of the curve."""
GROWING = Recurrence("diagonal", 2, uniform(0.9, 0.995), inputs=InputLaw(mean=0.3))
"""Memories of 10 to 200 tokens: the norm grows over the first lengths of the curve, as in Table 1."""

HALF = 64
"""T of the doublings from T to 2T."""
_PLACES = ((0.98, 0.02), (0.04, 0.96))
PROCESSES: dict[str, Recurrence] = {
    "white inputs, lambda = 0.99999": Recurrence("diagonal", 4, Listed((1e-5,))),
    "inputs with a mean, lambda = 0.99999": Recurrence("diagonal", 4, Listed((1e-5,)), inputs=InputLaw(mean=1.0)),
    "inputs that stay for 50 tokens": Recurrence("diagonal", 4, Listed((1e-3,)), inputs=InputLaw(rho=0.98)),
    "inputs that alternate": Recurrence("diagonal", 4, Listed((1e-3,)), inputs=InputLaw(rho=-0.5)),
    "lambda ~ U[0, 0.999], a mean": Recurrence("diagonal", 4, uniform(0.0, 0.999), inputs=InputLaw(mean=0.2)),
    "Mamba's start": Recurrence("diagonal", 4, LogUniform(1.0, 16.0), SoftplusNormal(-4.5, 0.8), InputLaw(mean=0.3)),
    "gamma steps, a mean": Recurrence("diagonal", 4, LogUniform(0.01, 1.0), Gamma(0.5, 0.2), InputLaw(mean=0.3)),
    "steps that stay small or large": Recurrence(
        "diagonal", 4, LogUniform(0.01, 1.0), Markov((0.005, 0.5), _PLACES), InputLaw(mean=0.5)
    ),
    "one decay, zero-order hold": Recurrence(
        "scalar_identity", 4, LogUniform(0.01, 0.1), Constant(0.1), InputLaw(mean=0.2), "zoh"
    ),
}
"""Stationary processes whose norms at T and 2T are compared."""


def derive() -> Derivation:
    """Derive the bound, its sharpness and saturation; hold the published numbers against it."""
    lam, x, y, P, norm = sympy.symbols("lambda x y P R", positive=True)
    c, X, Y, X2, Y2, p = sympy.symbols("c X Y X_2 Y_2 p", real=True)
    w1, w2, w3, w4, P2, P3, P4 = sympy.symbols("w_1 w_2 w_3 w_4 P_2 P_3 P_4")
    T = sympy.Symbol("T", integer=True, positive=True)
    first, second = P2 * w1 + w2, P4 * w3 + w4
    sharp = (1 - lam ** (2 * T)) / (1 - lam)
    energy = (1 - lam ** (2 * T)) / (1 - lam**2)
    half = sympy.Rational(1, 2)
    jumps = [
        sympy.Rational(later) / sympy.Rational(former)
        for former, later in (TABLE_1["ProofPile"][1:3], TABLE_1["PG19"][2:4])
    ]
    return Derivation(
        (
            Step(
                "The state after 2T tokens is a damped h_T plus what the second half writes; T = 2 shown.",
                P4 * (P3 * (P2 * w1 + w2) + w3) + w4,
                P4 * P3 * first + second,
            ),
            Step(
                "Damping takes from a squared entry x^2 what is never negative for 0 <= P <= 1.",
                x**2 - (P * x) ** 2,
                x**2 * (1 - P) * (1 + P),
            ),
            Step(
                "Cauchy and Schwarz: with x, y the RMS of X, Y and c = E XY the mean of this is 2 - 2 c / (x y),",
                (X / x - Y / y) ** 2,
                X**2 / x**2 + Y**2 / y**2 - 2 * X * Y / (x * y),
            ),
            Step(
                "which is not negative; with two outcomes of probability p and 1 - p, x^2 y^2 - c^2 is a square:",
                (p * X**2 + (1 - p) * X2**2) * (p * Y**2 + (1 - p) * Y2**2) - (p * X * Y + (1 - p) * X2 * Y2) ** 2,
                p * (1 - p) * (X * Y2 - X2 * Y) ** 2,
            ),
            Step(
                "So c <= x y, and E (X + Y)^2 lies below (x + y)^2 by 2 (x y - c).",
                (x + y) ** 2 - (x**2 + 2 * c + y**2),
                2 * (x * y - c),
            ),
            Step(
                "Stationary inputs: x = y = R, the RMS at T, bounds the RMS at 2T by 2 R.",
                sympy.Subs((x + y) ** 2, (x, y), (norm, norm)),
                (2 * norm) ** 2,
            ),
            Step(
                "Constant inputs grow by 1 + lambda^T over a doubling,",
                sharp,
                (1 + lam**T) * (1 - lam**T) / (1 - lam),
            ),
            Step(
                "which tends to 2 for lambda -> 1: the bound is sharp.",
                sympy.Limit(1 + lam**T, lam, 1),
                sympy.Integer(2),
            ),
            Step(
                "White inputs grow by the square root of 1 + lambda^{2T}, at most sqrt(2).",
                energy.subs(T, 2 * T),
                energy * (1 + lam ** (2 * T)),
            ),
            Step(
                "Below 1 the norm saturates; shown for white inputs at lambda = 1/2.",
                sympy.Limit(energy.subs(lam, half), T, sympy.oo),
                sympy.Rational(4, 3),
            ),
            Step("Published: ProofPile from 2K to 4K exceeds the bound,", sympy.Integer(2), jumps[0], "<=", ({},)),
            Step("and so does PG19 from 4K to 8K.", sympy.Integer(2), jumps[1], "<=", ({},)),
            Step(
                "PG19 grows by less than 1 % from 16K to 64K,",
                sympy.Rational(TABLE_1["PG19"][6]) / sympy.Rational(TABLE_1["PG19"][4]),
                sympy.Rational(101, 100),
                "<=",
                ({},),
            ),
            Step(
                "and ProofPile falls from 8K to 64K.",
                sympy.Rational(TABLE_1["ProofPile"][6]),
                sympy.Rational(TABLE_1["ProofPile"][3]),
                "<=",
                ({},),
            ),
        ),
        "RMS ||h_2T|| <= 2 RMS ||h_T|| for stationary inputs, and the norm saturates: the published jumps are not the "
        "work of eigenvalues.",
        {
            lam: "a decay",
            P: "a product of decays, in [0, 1]",
            x: "RMS of X (or an entry)",
            y: "RMS of Y",
            c: "E XY",
            p: "a probability",
            norm: "RMS norm at T",
        },
    )


def _constant() -> Recurrence:
    return Recurrence("diagonal", 1, Listed((1e-9,)), inputs=InputLaw(variance=0.0, mean=1.0))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Follow a process over many lengths, many over one doubling, random ones text by text, and non-stationary ones."""
    few = max(512, trials // 8)
    runs = {name: Trials(Paths(recurrence, (HALF, 2 * HALF)), trials // 2) for name, recurrence in PROCESSES.items()}
    return runs | {
        "lengths": Trials(Paths(GROWING, TIMES), trials),
        "constant": Trials(Paths(_constant(), (HALF, 2 * HALF)), 2),
        "texts": Trials(Drawn(random_texts, 10_000, AT_ONCE), few),
        "control spread": Trials(Drawn(partial(changing_inputs, "spread"), 500), trials // 2),
        "control mean": Trials(Drawn(partial(changing_inputs, "mean"), 500), trials // 2),
    }


def _exact(recurrence: Recurrence, times: Sequence[int]) -> list[float]:
    values = exact_second_moment(recurrence, times)
    assert values is not None
    return [float(value) for value in values]


def printed_growth(length: float) -> float:
    """Return E||h_T||^2 over that at TIMES[0] if the growth of the first doubling went on: a divergent trend."""
    return float(growth(TIMES[1]) ** math.log2(length / TIMES[0]))


def growth(length: float) -> float:
    """Return the same of ``GROWING`` by the closed form."""
    start, end = _exact(GROWING, (TIMES[0], round(length)))
    return end / start


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold growth with length against a trend that goes on, and Table 1's jumps against the bound."""
    start = _exact(GROWING, TIMES[:1])[0]
    found = [
        samples["lengths"].against(
            f"E||h_T||^2 / E||h_{TIMES[0]}||^2, T = {length}",
            growth(length),
            printed_growth(length) if k > 1 else None,  # the first doubling is what the trend is read from
            rival=None if k > 1 else 0.9 * growth(length),
            column=k,
            unit=start,
            x=float(length),
        )
        for k, length in enumerate(TIMES)
    ]
    least = min(JUMPS.values())
    for name, recurrence in PROCESSES.items():
        before, after = _exact(recurrence, (HALF, 2 * HALF))
        label = f"E||h_2T||^2 / E||h_T||^2, {name} (rival: Table 1's smaller jump)"
        found.append(samples[name].against(label, after / before, rival=least**2, column=1, unit=before))
    constant = samples["constant"].values[0]
    found += [
        exactly(
            f"||h_2T|| / ||h_T||, constant inputs (rival: {name}'s jump)",
            math.sqrt(constant[1] / constant[0]),
            2.0,
            rival=jump,
            bound=1e-7,  # 1 + lambda^T is 2 - 6.4e-8 at the rate 1e-9
        )
        for name, jump in JUMPS.items()
    ]
    found.append(
        exactly(
            "share of Table 1's largest jumps (of one text each) that stationary inputs allow",
            sum(jump <= 2 for jump in JUMPS.values()) / len(JUMPS),
            0.0,
            1.0,
            bound=0.0,
        )
    )
    return [*found, *_text_by_text(samples["texts"])]


def _text_by_text(texts: Sample) -> list[Comparison]:
    least = min(JUMPS.values())
    return [
        texts.against(
            "mean of ln ||h'_T||^2 / ||h_T||^2: both halves write alike",
            0.0,
            rival=2 * math.log(least - 1),  # what the second half must write beyond the first for the published jump
        ),
        *(
            exactly(
                f"excess of N(h_2T) over N(h_T) + N(h'_T), {norm}, worst of {len(texts.values)} processes",
                max(0.0, float(texts.values[:, column].max()) - 1),
                0.0,
                rival=least / 2 - 1,
                bound=1e-12,
            )
            for column, norm in ((1, "Euclidean norm"), (2, "largest norm of a head"))
        ),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate stationarity: inputs whose spread or mean grows exceed the bound, 4 for squared norms."""
    found = []
    for kind in ("spread", "mean"):
        values = samples[f"control {kind}"].values
        ratio = Sample(values[:, 1:] / values[:, 0].mean())
        found.append(ratio.against(f"E||h_2T||^2 / E||h_T||^2, inputs whose {kind} grows, against the bound", 4.0))
    return found


CLAIM = Claim(
    key="divergence",
    title="divergent trend of the state norm",
    source=f"{PAPER}, Table 1 and Section 4.1",
    printed="Table 1 shows a divergent trend: because of eigenvalues near 1 the state norm goes on growing with length",
    assumptions=(
        "h_0 = 0, all decays in [0, 1]",
        "steps and inputs stationary, with any memory and any dependence on each other",
        "norms averaged over texts",
        "for saturation: decays below 1",
    ),
    corrected="RMS||h_2T|| <= 2 RMS||h_T||, and the norm saturates; jumps of 5.11 and 5.27 (of one text each) need "
    "inputs that change",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
    curve=Curve(
        "length T in tokens, lambda ~ U[0.9, 0.995]",
        f"E||h_T||^2 / E||h_{TIMES[0]}||^2",
        tuple(float(round(16 * 2 ** (k / 4))) for k in range(29)),
        printed_growth,
        growth,
    ),
)
