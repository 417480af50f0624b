"""Equation (6): a product of decays is the decay of the summed steps.

Setting. A is diagonal with entries a > 0, dt_t is the step of token t. What token 1 wrote is multiplied by
exp(-A dt_2) ... exp(-A dt_T) until token T. Printed: this product is exp(-A sum dt_t).

Proof. Exponents of numbers add: e^{-a s} e^{-a r} = e^{-a (s + r)}, and so on token by token. A diagonal matrix is its
entries, also where each channel has steps of its own. As printed. (The abstract writes exp(-sum dt_t), without A.)

How far it reaches. With one step a token for all channels A need not be diagonal, since multiples of one matrix
commute. With steps of its own for each channel and an A that mixes channels the factors no longer commute and the
identity fails: that is the control. With random steps the mean of the product is not the exponential of the mean sum:
for independent exponential steps of mean m it is (1 + a m)^{-T}, above e^{-a m T}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import scipy.linalg
import sympy

from ..arrays import Floats
from ..symbolic import Derivation, Step
from ..threefry import MIXING, STEPS, Words, normals, uniforms
from ..verdict import Comparison, exactly
from .claim import PAPER, Claim, Drawn, Samples, Trials

RATES = (0.25, 1.0, 2.5)
"""Entries of A."""
MEAN = 0.1
"""Mean of a step."""
TOKENS = 24
"""Factors of the product."""
FEW = 3
"""Factors where A is not diagonal."""
ROUNDING = 1e-12
"""Bound on the relative rounding of 24 factors, each of some 1e-16."""
AMPLIFIED = 1e-9
"""The same for matrices: 1e-16 times at most e^{2 |A| sum dt_t}, some 1e7 for normal entries of deviation 1/2."""


def product(rate: Floats, steps: Floats) -> Floats:
    """Return what is left of 1 after running h = exp(-a dt_t) h over the steps (trials, tokens), for each rate."""
    h = np.ones((len(steps), len(rate)))
    for t in range(steps.shape[1]):
        h *= np.exp(-rate * steps[:, t, None])
    return h


def mean_product(rate: float) -> float:
    """Return E exp(-a sum dt_t) for independent exponential steps."""
    return float((1 + rate * MEAN) ** -TOKENS)


def derive() -> Derivation:
    """Derive the identity, and where it ends."""
    a, b, s, r, m, x = sympy.symbols("a b s r m x", positive=True)
    T = sympy.Symbol("T", integer=True, positive=True)
    steps = sympy.symbols("dt_2:6", positive=True)
    upper = sympy.Matrix([[a, b], [0, 2 * a]])
    first, second = (sympy.Matrix([[0, 1], [0, 0]]), sympy.Matrix([[0, 0], [1, 0]]))
    apart = first.exp() * second.exp()
    together = (first + second).exp()
    at = ({a: 2, s: sympy.Rational(1, 2)},)
    return Derivation(
        (
            Step("One more token: exponents add.", sympy.exp(-a * s) * sympy.exp(-a * r), sympy.exp(-a * (s + r))),
            Step(
                "Hence over any number of tokens, here four.",
                sympy.prod([sympy.exp(-a * d) for d in steps]),
                sympy.exp(-a * sum(steps)),
            ),
            Step(
                "One step a token, A = [[a, b], [0, 2a]] mixes channels: entry (1, 2) of exp(-A s) exp(-A r).",
                ((-upper * s).exp() * (-upper * r).exp())[0, 1],
                (-upper * (s + r)).exp()[0, 1],
            ),
            Step(
                "A step for each channel, A = [[0, 1], [1, 0]], diag(1, 0) A, then diag(0, 1) A: traces differ.",
                apart.trace(),
                together.trace(),
                "!=",
                ({},),
            ),
            Step(
                "Random steps, exponential of mean m: one factor averages to 1 / (1 + a m),",
                sympy.Integral(sympy.exp(-a * x) * sympy.exp(-x / m) / m, (x, 0, sympy.oo)),
                1 / (1 + a * m),
            ),
            Step(
                "and T independent ones, by the density of their sum, to its power; here T = 3.",
                sympy.Integral(sympy.exp(-a * x) * x**2 * sympy.exp(-x / m) / (2 * m**3), (x, 0, sympy.oo)),
                (1 + a * m) ** -3,
            ),
            Step(
                "which is not the exponential of the mean sum, but above it.",
                sympy.exp(-a * m * T),
                (1 + a * m) ** -T,
                "<=",
                tuple({a: rate, m: sympy.Rational(1, 10), T: TOKENS} for rate in (sympy.Rational(1, 4), 1, 10)),
            ),
            Step(
                "Without A, as in the abstract, it is another number unless a = 1.",
                sympy.exp(-s),
                sympy.exp(-a * s),
                "!=",
                at,
            ),
        ),
        "prod exp(-A dt_t) = exp(-A sum dt_t), as printed, for a diagonal A.",
        {a: "entry of A", s: "a step", r: "another", m: "mean of a step", T: "number of factors"},
    )


def _products(key: Words, first: int, trials: int) -> Floats:
    """Return the products of all rates, and how far they are from the exponential of the summed steps.

    Args:
        key: the experiment's key.
        first: number of the first trial.
        trials: how many.

    Returns:
        (trials, rates + 3): a product a rate, the largest difference from the printed form over the rates, for the
        last rate the difference from that without A, and the exponent per unit of summed steps.
    """
    steps = -MEAN * np.log(uniforms(key, STEPS, first, trials, TOKENS))
    rate, total = np.array(RATES), steps.sum(1)[:, None]
    h = product(rate, steps)
    wrong = np.abs(h / np.exp(-rate * total) - 1).max(1)
    dropped = np.abs(h[:, -1] / np.exp(-total[:, 0]) - 1)
    return np.column_stack([h, wrong, dropped, -np.log(h[:, -1]) / total[:, 0]])


def _full(key: Words, first: int, trials: int, own: bool = False) -> Floats:
    """Return the relative difference of product and exponential for a full matrix A.

    Args:
        key: the experiment's key.
        first: number of the first trial.
        trials: how many.
        own: whether each channel has steps of its own, dt_t a diagonal matrix.

    Returns:
        (trials, 1).
    """
    size = len(RATES)
    A = normals(key, MIXING, first, trials, size * size).reshape(trials, size, size) / 2
    steps = uniforms(key, STEPS, first, trials, FEW * size).reshape(trials, FEW, size)
    steps = steps if own else np.broadcast_to(steps[:, :, :1], steps.shape)
    found = np.broadcast_to(np.eye(size), A.shape)
    for t in range(FEW):
        found = scipy.linalg.expm(-steps[:, t, :, None] * A) @ found
    whole = scipy.linalg.expm(-steps.sum(1)[:, :, None] * A)
    return np.asarray((_size(found - whole) / np.maximum(_size(found), _size(whole)))[:, None])


def _size(matrices: Floats) -> Floats:
    return np.asarray(np.linalg.norm(matrices, axis=(1, 2)))


def experiments(trials: int) -> Mapping[str, Trials]:
    """Run the product with random steps, token by token."""
    few = max(16, trials // 256)
    return {
        "diagonal": Trials(Drawn(_products, 60 * TOKENS), trials),
        "full": Trials(Drawn(_full, 100_000), few),
        "control": Trials(Drawn(partial(_full, own=True), 100_000), few),
    }


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold products against the exponential of the sum, and their means against those of its law."""
    sample = samples["diagonal"]
    wrong, dropped, exponent = (sample.values[:, len(RATES) + k] for k in range(3))
    far = int(np.abs(exponent - RATES[-1]).argmax())
    means = [
        sample.against(
            f"E of the product, a = {rate:g} (rival: exponential of the mean sum)",
            mean_product(rate),
            mean_product(rate),
            rival=math.exp(-rate * MEAN * TOKENS),
            column=k,
        )
        for k, rate in enumerate(RATES)
    ]
    return [
        exactly(
            "largest relative difference of product and exponential of the sum (rival: without A)",
            float(wrong.max()),
            0.0,
            0.0,
            bound=ROUNDING,
            rival=float(dropped.mean()),
        ),
        exactly(
            "exponent per unit of summed steps, a = 2.5, worst trial (rival: 1, without A)",
            float(exponent[far]),
            RATES[-1],
            RATES[-1],
            bound=ROUNDING,
            rival=1.0,
        ),
        *means,
        exactly(
            "largest relative difference, full A, one step a token (rival: with a step for each channel)",
            float(samples["full"].values.max()),
            0.0,
            bound=AMPLIFIED,
            rival=float(np.median(samples["control"].values)),
        ),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate commuting: a full A with steps of its own for each channel."""
    values = samples["control"].values
    return [
        exactly(
            "median relative difference, full A, a step for each channel",
            float(np.median(values)),
            0.0,
            bound=AMPLIFIED,
        )
    ]


CLAIM = Claim(
    key="eq-6",
    title="product of decays",
    source=f"{PAPER}, Eq. (6)",
    printed="prod_t exp(-A dt_t) = exp(-A sum_t dt_t)",
    assumptions=("A diagonal (or one step a token for all channels)",),
    corrected="as printed; the abstract's exp(-sum dt_t) lacks A",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
