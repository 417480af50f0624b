"""Lemma 4.1: how large one write B x can be.

Setting. B is a (d, d) matrix with singular values s_1 >= ... >= s_d >= 0, s_B = s_1, and x has entries |x_i| <= s_x.

Proof. Write B = U S V^T and y = V^T x. Rotations keep lengths, so ||B x||^2 = sum s_i^2 y_i^2 and ||y|| = ||x||. Then
s_B^2 ||x||^2 - ||B x||^2 = sum (s_B^2 - s_i^2) y_i^2 and d s_x^2 - ||x||^2 = sum (s_x - x_i) (s_x + x_i), sums of terms
that are not negative. Hence ||B x|| <= s_B ||x|| <= s_B s_x sqrt(d), as printed. Equality needs both sums to vanish:
every |x_i| = s_x, and x along the first right singular vector, so that vector has the entries +-1/sqrt(d).

What it says on average. For independent entries of mean zero and variance s^2, E ||B x||^2 = s^2 ||B||_F^2. Uniform
entries on [-s_x, s_x] have s^2 = s_x^2 / 3, so the bound read as an equality is at least three times too large.

What is checked. The sums of squares hold for every d; that rotations keep lengths is checked for d = 2, where every B
is a product of two rotations and a diagonal matrix. That every B has such a decomposition is the singular value
decomposition, taken as known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import sympy

from ..arrays import Floats
from ..symbolic import Derivation, Step
from ..threefry import DECAYS, INPUTS, MIXING, Words, normals, uniforms
from ..verdict import Comparison, Sample, exactly
from .claim import PAPER, Claim, Drawn, Samples, Trials

SIZE = 6
"""d of the random cases."""
ROUNDING = 1e-12
"""Bound on the rounding of a singular value and a norm: 6 x 6 numbers of order 1 to 1e3 with relative error 2e-16."""


def printed_bound(largest: float, entry: float, size: int) -> float:
    """Return the printed bound on ||B x||."""
    return largest * entry * math.sqrt(size)


def mean_square(frobenius: float, entry: float) -> float:
    """Return E ||B x||^2 for entries uniform on [-entry, entry]."""
    return frobenius**2 * entry**2 / 3


def derive() -> Derivation:
    """Derive the bound from two sums of squares, and the expected version from the moments of x."""
    p, q, x_1, x_2, y_1, y_2, s_1, s_2 = sympy.symbols("phi psi x_1 x_2 y_1 y_2 s_1 s_2", real=True)
    top, largest = sympy.symbols("s_x s_B", positive=True)
    d = sympy.Symbol("d", integer=True, positive=True)
    i, j = sympy.symbols("i j", integer=True)
    s, x, y = (sympy.IndexedBase(name, real=True) for name in "sxy")
    pair, rows = sympy.Matrix([y_1, y_2]), (i, 1, d)
    entries = sympy.symbols("b_11 b_12 b_21 b_22", real=True)
    free = _squares(sympy.Matrix(2, 2, entries) * sympy.Matrix([x_1, x_2]))
    B = _turn(p) * sympy.diag(s_1, s_2) * _turn(q).T
    write = sympy.Sum(s[i] ** 2 * y[i] ** 2, rows)
    length_x, length_y = sympy.Sum(x[i] ** 2, rows), sympy.Sum(y[i] ** 2, rows)
    directions = sympy.Sum((largest**2 - s[i] ** 2) * y[i] ** 2, rows)
    room = sympy.Sum((top - x[i]) * (top + x[i]), rows)
    return Derivation(
        (
            Step(
                "x = V y: a rotation keeps the length, ||x||^2 = ||y||^2 (here d = 2).",
                _squares(_turn(q) * pair),
                _squares(pair),
            ),
            Step(
                "B x = U S y: the rotation U keeps the length of S y, so ||Bx||^2 = sum s_i^2 y_i^2 (here d = 2).",
                _squares(_turn(p) * sympy.diag(s_1, s_2) * pair),
                s_1**2 * y_1**2 + s_2**2 * y_2**2,
            ),
            Step(
                "For any d, s_B^2 ||y||^2 - ||Bx||^2 is a sum of terms that are not negative, as s_B is the largest.",
                largest**2 * length_y - write,
                directions,
            ),
            Step(
                "And d s_x^2 - ||x||^2 is a sum of products that are not negative while |x_i| <= s_x.",
                d * top**2 - length_x,
                room,
            ),
            Step(
                "Together: the squared bound less ||Bx||^2 is both sums (the last difference is 0).",
                largest**2 * d * top**2 - write,
                directions + largest**2 * room + largest**2 * (length_x - length_y),
            ),
            Step(
                "Equality for B = s_B v v^T, v_i = 1/sqrt(d), and x_i = s_x: the squared bound is attained.",
                sympy.Sum((largest / sympy.sqrt(d) * sympy.Sum(top / sympy.sqrt(d), (j, 1, d))) ** 2, rows),
                largest**2 * top**2 * d,
            ),
            Step(
                "On average over entries uniform on [-s_x, s_x]: a third of s_x^2 ||B||_F^2.",
                sympy.Integral(free / (2 * top) ** 2, (x_1, -top, top), (x_2, -top, top)),
                top**2 * sum(entry**2 for entry in entries) / 3,
            ),
            Step(
                "The squared Frobenius norm is the sum of the squared singular values (here d = 2),",
                _squares(B),
                s_1**2 + s_2**2,
            ),
            Step(
                "hence at most d s_B^2, for any d: so the bound read as an equality is 3 times too large or more.",
                d * largest**2 - sympy.Sum(s[i] ** 2, rows),
                sympy.Sum((largest - s[i]) * (largest + s[i]), rows),
            ),
        ),
        "||Bx|| <= s_B s_x sqrt(d), as printed; attained, but not typical.",
        {
            largest: "largest singular value of B",
            s[i]: "singular values of B",
            top: "bound on the entries of x",
            y[i]: "V^T x",
        },
    )


def _turn(angle: sympy.Symbol) -> sympy.Matrix:
    return sympy.Matrix([[sympy.cos(angle), -sympy.sin(angle)], [sympy.sin(angle), sympy.cos(angle)]])


def _squares(matrix: sympy.Matrix) -> sympy.Expr:
    return sum(entry**2 for entry in matrix)


def _matrices(key: Words, first: int, trials: int) -> Floats:
    """Draw B of all shapes of spectrum: normal entries, with columns scaled by up to 10^+-3."""
    B = normals(key, MIXING, first, trials, SIZE * SIZE).reshape(trials, SIZE, SIZE)
    scale = 10 ** (6 * uniforms(key, DECAYS, first, trials, SIZE + 1) - 3)
    scale = np.where(scale[:, :1] < 1, 1.0, scale[:, 1:])  # half of the trials stay unscaled
    return np.asarray(B * scale[:, None, :])


def _ratio(B: Floats, x: Floats, entry: Floats) -> Floats:
    largest = np.linalg.norm(B, 2, axis=(1, 2))
    return np.asarray(_length(B, x) / (largest * entry * math.sqrt(SIZE)))


def _length(B: Floats, x: Floats) -> Floats:
    return np.asarray(np.linalg.norm(np.einsum("tij,tj->ti", B, x), axis=1))


def _random(key: Words, first: int, trials: int) -> Floats:
    """Return ||Bx|| over the bound, ||Bx||^2 over s_x^2 ||B||_F^2, and the squared bound over the same."""
    B = _matrices(key, first, trials)
    u = uniforms(key, INPUTS, first, trials, SIZE + 1)
    entry = 10 ** (4 * u[:, -1] - 2)
    x = (2 * u[:, :-1] - 1) * entry[:, None]
    bound = np.linalg.norm(B, 2, axis=(1, 2)) * entry * math.sqrt(SIZE)
    length, typical = _length(B, x), entry**2 * np.square(B).sum((1, 2))
    return np.stack([length / bound, length**2 / typical, bound**2 / typical], axis=1)


def _corners(key: Words, first: int, trials: int) -> Floats:
    """Return the largest ||Bx|| over the bound that any admissible x reaches: at a corner of the cube, by convexity."""
    B = _matrices(key, first, trials)
    corners = np.stack([
        np.ones(2 ** (SIZE - 1)),
        *(1 - 2 * ((np.arange(2 ** (SIZE - 1)) >> k) & 1) for k in range(SIZE - 1)),
    ])
    longest = np.sqrt(np.square(B @ corners).sum(1).max(1))
    return np.asarray(longest / (np.linalg.norm(B, 2, axis=(1, 2)) * math.sqrt(SIZE)))[:, None]


def _aligned(key: Words, first: int, trials: int, beyond: float = 0.0) -> Floats:
    """Return the ratio where x is s_x times signs, and these signs are B's first right singular vector.

    Args:
        key: the experiment's key.
        first: number of the first trial.
        trials: how many.
        beyond: by what share of s_x entries may exceed it: each is s_x (1 + U beyond).

    Returns:
        (trials, 1).
    """
    weak = normals(key, MIXING, first, trials, SIZE * SIZE).reshape(trials, SIZE, SIZE)
    u = uniforms(key, INPUTS, first, trials, 2 * SIZE)
    sign = np.where(u[:, :SIZE] < 0.5, -1.0, 1.0)
    v = sign / math.sqrt(SIZE)
    weak -= np.einsum("tij,tj,tk->tik", weak, v, v)  # nothing along v, then shrunk below the strong direction
    left, values, right = np.linalg.svd(weak)
    values = values / values[:, :1] * 0.9
    strong = np.einsum("ti,tj->tij", left[:, :, -1], v)  # left vector orthogonal to all that weak uses
    aligned = np.einsum("tij,tj,tjk->tik", left, values, right) + strong
    return _ratio(aligned, sign * (1 + beyond * u[:, SIZE:]), np.ones(trials))[:, None]


def experiments(trials: int) -> Mapping[str, Trials]:
    """Draw B and x anew in each trial; no recurrence, since the lemma is about one write."""
    return {
        "random": Trials(Drawn(_random, 2000), trials),
        "corners": Trials(Drawn(_corners, 2000), trials // 4),
        "aligned": Trials(Drawn(_aligned, 4000), trials // 16),
        "control": Trials(Drawn(partial(_aligned, beyond=1.0), 4000), trials // 16),
    }


def _excess(sample: Sample) -> float:
    """Return by how much the largest ratio exceeds 1."""
    return max(0.0, float(sample.values[:, 0].max()) - 1)


def compare(samples: Samples) -> Sequence[Comparison]:
    """Hold the ratios against 1, and the mean square against the expected version."""
    one, without = printed_bound(1, 1, SIZE) / math.sqrt(SIZE), 1 / math.sqrt(SIZE)
    aligned = samples["aligned"].values
    return [
        exactly(
            f"largest ||Bx|| / bound less 1, or 0, random B and x, d = {SIZE}",
            _excess(samples["random"]),
            0.0,
            0.0,
            bound=ROUNDING,
        ),
        exactly(
            "largest ||Bx|| / bound less 1, or 0, all corners of the cube",
            _excess(samples["corners"]),
            0.0,
            0.0,
            bound=ROUNDING,
        ),
        exactly(
            "least ||Bx|| / bound where x lies along the first singular vector (rival: no sqrt(d) needed)",
            float(aligned.min()),
            one,
            one,
            bound=ROUNDING,
            rival=without,
        ),
        samples["random"].against(
            "E||Bx||^2 / (s_x^2 ||B||_F^2), uniform entries (rival: the bound as an equality)",
            mean_square(1.0, 1.0),
            rival=samples["random"].mean(2),
            column=1,
        ),
    ]


def control(samples: Samples) -> Sequence[Comparison]:
    """Violate |x_i| <= s_x: entries up to twice as large."""
    return [
        exactly("largest ratio less 1, or 0, entries beyond s_x", _excess(samples["control"]), 0.0, bound=ROUNDING),
        samples["control"].against("ratio along the first singular vector, entries beyond s_x", 1.0),
    ]


CLAIM = Claim(
    key="lemma-4.1",
    title="bound on one write",
    source=f"{PAPER}, Lemma 4.1",
    printed="||Bx|| <= s_B s_x sqrt(d), s_B the largest singular value of B, |x_i| <= s_x",
    assumptions=("x in R^d", "|x_i| <= s_x for every i"),
    corrected="as printed; attained only along a singular vector with entries +-1/sqrt(d). "
    "On average, for independent entries of mean zero and variance s^2: E||Bx||^2 = s^2 ||B||_F^2",
    derive=derive,
    experiments=experiments,
    compare=compare,
    control=control,
)
