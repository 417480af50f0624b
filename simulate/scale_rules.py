r"""Scale rules: which factor keeps a mode as large at the target length L as it was at the training length T.

With r = a dt, noise variance : squared mean of the inputs = 1 : kappa, and G_n = mixed_gain(., n, kappa),

* ``a``      (A -> s A):    G_L(s r) = G_T(r), s >= 1, memory gets shorter;
* ``dt``     (dt -> s dt):  s^2 G_L(s r) = G_T(r), s <= 1, memory gets LONGER (the gain is dt too: Euler);
* ``joint``  (both):        mean and variance each keep their size, for every kappa at once: with
  C(r, n) = mean_gain^2 / energy_gain = tanh(rn/2) / tanh(r/2), C(s r, L) = C(r, T) and gain^2 = g_T(r) / g_L(s r).

All are the exact, discrete equations, solved to rounding; ``small_rate`` has the closed forms for r << 1. L may be
``inf``, which is also the onset rule (see ``onset_rule``). Closed at L = inf, with x = e^{-r} (algebra on 1 - 1/g_T):
2 s r = 2r + ln((1 - x^{2T}) / (1 - x^{2T-2})) for noise, s r = r + ln((1 - x^T) / (1 - x^{T-1})) for a constant, and
s r = r + ln((1 - x^{T+1}) / (1 - x^{T-1})) for both together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .modes import energy_gain, mean_gain, mixed_gain
from .roots import Root, solve_factor

Kind = Literal["a", "dt", "joint"]
Mask = npt.NDArray[np.bool_]

LEAST_DT = 1e-30
"""Below this factor a step size counts as 0: no factor was found."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What a rule multiplies; 1 where it found nothing."""

    rate: Floats
    """On the decay rate r = a dt."""
    gain: Floats
    """On the write gain."""
    solved: Mask
    """Where the rule's equation holds."""

    @property
    def dt(self) -> Floats:
        """Factor on dt (its gain is dt)."""
        return self.gain

    @property
    def a(self) -> Floats:
        """Factor on A, applied together with ``dt``."""
        return self.rate / self.gain


def _gap(r: Floats, n: Floats, more: float) -> Floats:
    """ln((1 - x^{n + more}) / (1 - x^n)) with x = e^{-r}, from the small difference of the two."""
    return np.asarray(np.log1p(np.exp(-r * n) * np.expm1(-r * more) / np.expm1(-r * n)))


def _check(rate: npt.ArrayLike, train: npt.ArrayLike, target: npt.ArrayLike, kappa: npt.ArrayLike) -> list[Floats]:
    r, start, end, k = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (rate, train, target, kappa)))
    if not (np.isfinite(r) & (r > 0)).all():
        raise ValueError("rates: expected positive numbers; no factor moves a rate of 0")
    if not ((start >= 2) & np.isfinite(start) & (end >= start)).all():
        raise ValueError(f"lengths: expected 2 <= T <= L and T finite, got T = {start.min()}.., L = {end.min()}..")
    if not (k >= 0).all():
        raise ValueError("kappa: expected numbers of at least 0, or inf")
    return [r, start, end, k]


def a_rule(
    rate: npt.ArrayLike, train_steps: npt.ArrayLike, target_steps: npt.ArrayLike, kappa: npt.ArrayLike = np.inf
) -> Factors:
    """Return the factor s >= 1 on A: G_L(s r) = G_T(r). Always solvable.

    Args:
        rate: r > 0.
        train_steps: T >= 2.
        target_steps: L >= T, ``inf`` allowed.
        kappa: coherence of the inputs, 0 (noise) to ``inf``. Default: a constant, the stricter of the two (tau' <= T
            against 2T).

    Returns:
        The factors; ``rate`` = s, ``gain`` = 1.

    Raises:
        ValueError: arguments outside their range.
    """
    r, start, end, k = _check(rate, train_steps, target_steps, kappa)
    noise = 1 + _gap(2 * r, start - 1, 1) / (2 * r)  # at L = inf, where s is largest
    constant = 1 + _gap(r, start - 1, 1) / r
    high = np.maximum(noise, constant) * (1 + 1e-12)
    root = solve_factor(lambda s: mixed_gain(s * r, end, k), mixed_gain(r, start, k), np.ones_like(high), high)
    return Factors(root.factor, np.ones_like(root.factor), root.solved)


def dt_rule(
    rate: npt.ArrayLike, train_steps: npt.ArrayLike, target_steps: npt.ArrayLike, kappa: npt.ArrayLike = np.inf
) -> Factors:
    """Return the factor s <= 1 on dt: s^2 G_L(s r) = G_T(r).

    At L = inf a mean part of the inputs leaves s^2 G >= kappa / ((1 + kappa) r^2) however small s is (a constant
    through a step-free equation), so that slow modes have no factor; with noise alone there always is one.

    A constant sees time rescaled: s = T / L up to O(r). But a mode saturated at T (e^{-rT} below r) keeps its size at
    any s between T / L and 1, and the root, exact as it is, means little there.

    Args:
        rate: r > 0.
        train_steps: T >= 2.
        target_steps: L >= T, ``inf`` allowed.
        kappa: coherence of the inputs, 0 (noise) to ``inf``.

    Returns:
        The factors; ``rate`` = ``gain`` = s, ``solved`` False where there is none.

    Raises:
        ValueError: arguments outside their range.
    """
    r, start, end, k = _check(rate, train_steps, target_steps, kappa)
    goal = mixed_gain(r, start, k)
    endless = np.isinf(end)
    most = mixed_gain(0.0, np.where(endless, 1.0, end), k)  # s^2 G_L(s r) <= s^2 G_L(0)
    low = np.where(endless, LEAST_DT, np.sqrt(goal / most) * (1 - 1e-12))
    root = solve_factor(lambda s: np.square(s) * mixed_gain(s * r, end, k), goal, np.ones_like(low), low)
    return Factors(root.factor, root.factor, root.solved)


def joint_rule(rate: npt.ArrayLike, train_steps: npt.ArrayLike, target_steps: npt.ArrayLike) -> Factors:
    """Return the factors on rate and gain that keep mean and variance, whatever the coherence.

    Args:
        rate: r > 0.
        train_steps: T >= 2.
        target_steps: L >= T, ``inf`` allowed.

    Returns:
        The factors; apply ``dt`` to dt and ``a`` to A.

    Raises:
        ValueError: arguments outside their range.
    """
    r, start, end, _ = _check(rate, train_steps, target_steps, 0.0)
    high = (1 + _gap(r, start - 1, 2) / r) * (1 + 1e-12)

    def coherence(s: Floats, steps: Floats) -> Floats:
        return np.asarray(np.square(mean_gain(s * r, steps)) / energy_gain(s * r, steps))

    one = np.ones_like(high)
    root: Root = solve_factor(lambda s: coherence(s, end), coherence(one, start), one, high)
    gain = mean_gain(r, start) / mean_gain(root.factor * r, end)
    return Factors(root.factor, np.where(root.solved, gain, 1.0), root.solved)


def scale_rule(
    kind: Kind,
    rate: npt.ArrayLike,
    train_steps: npt.ArrayLike,
    target_steps: npt.ArrayLike,
    kappa: npt.ArrayLike = np.inf,
) -> Factors:
    """Return the factors of a rule by name.

    Args:
        kind: ``a``, ``dt`` or ``joint`` (which needs no kappa); for ``a_power`` pass ``a`` and see ``a_power``.
        rate: r > 0.
        train_steps: T >= 2.
        target_steps: L >= T, ``inf`` allowed.
        kappa: coherence of the inputs.

    Returns:
        The factors.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "joint":
        return joint_rule(rate, train_steps, target_steps)
    if kind not in {"a", "dt"}:
        raise ValueError(f"rule {kind!r}: expected a, dt or joint")
    return (a_rule if kind == "a" else dt_rule)(rate, train_steps, target_steps, kappa)


def onset_rule(kind: Kind, rate: npt.ArrayLike, train_steps: npt.ArrayLike, kappa: npt.ArrayLike = np.inf) -> Factors:
    r"""Return the factors to apply from token T + 1 on, the first T tokens left as trained.

    The state enters the new dynamics with the moments of time T. They stay there for ever if they are the new
    dynamics' own stationary moments, e^{-2 s r} v + gain^2 = v and e^{-s r} m + gain = m: the rule at L = inf. So E h^2
    is constant for t > T exactly under noise, under a constant, and for ``joint`` under any mixture. For ``a`` and
    ``dt`` under a mixture one factor cannot hold v and m both: E h^2 starts and ends at its size at T and dips between
    (by at most 7 % for ``a`` in tests/simulate/test_scale_rules.py).

    Args:
        kind: ``a``, ``dt`` or ``joint``.
        rate: r > 0.
        train_steps: T >= 2.
        kappa: coherence of the inputs.

    Returns:
        The factors.

    Raises:
        ValueError: arguments outside their range.
    """
    return scale_rule(kind, rate, train_steps, np.inf, kappa)
