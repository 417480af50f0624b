"""Closed forms for the norm of a head after any number of tokens, from its statistics in training-length windows.

Every form has three numbers of a head: its rate r = |A| E dt, the coherent part c of its writes, and the rest, a white
noise of energy q,

    E ||h_n||^2 = c m_n(r)^2 + q g_n(r),    m_n = (1 - e^{-rn}) / (1 - e^{-r}),  g_n = (1 - e^{-2rn}) / (1 - e^{-2r}),

the sum of what a constant input and white noise give (``mambascope.simulate.modes``). The forms differ in how c and q
are read from windows of T tokens.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mambascope.simulate import energy_gain, mean_gain
from mambascope.simulate.roots import solve_factor

from .write_statistics import WriteMoments

Floats = npt.NDArray[np.float64]
Form = Literal["long_run", "anchored", "white", "fitted", "coherent", "noise"]
FORMS: tuple[Form, ...] = get_args(Form)

DEFAULT_FORM: Form = "long_run"
"""Ours. On the bundled models' inputs in range, ``long_run`` and ``anchored`` predict norms at 64 T best, ``noise`` is
several times too low; a report's table ``heads`` has every form's median error. Of the first two, ``long_run`` takes no
noise to be white."""

_FASTEST = 50.0  # a rate at which nothing is left of a token by the next one


def parts(moments: WriteMoments, form: Form = DEFAULT_FORM) -> tuple[Floats, Floats]:
    """Return coherent part c and noise energy q of every mode.

    * ``long_run``: c from pairs of windows, q from what is left of E ||h_T||^2 (a long-run variance up to lag T).
    * ``anchored``: c from pairs of windows, q from single tokens, both times one factor that gives E ||h_T||^2.
    * ``white``: c and q from single tokens alone, as if they were independent.
    * ``fitted``: non-negative least squares on the relative errors at T/4, T/2 and T.
    * ``coherent``, ``noise``: E ||h_T||^2 made of one of the two alone.

    Args:
        moments: of one layer, from windows of T tokens.
        form: how to read them.

    Returns:
        c and q, each of the layer's shape.
    """
    T, squares = moments.train_length, moments.squares
    mean, energy = mean_gain(moments.rate, T) ** 2, energy_gain(moments.rate, T)
    if form == "coherent":
        return squares[-1] / mean, 0 * energy
    if form == "noise":
        return 0 * mean, squares[-1] / energy
    if form == "white":
        return moments.mean_write_squared, np.maximum(moments.write_energy - moments.mean_write_squared, 0)
    if form == "fitted":
        return _fitted(moments)
    c = np.clip(moments.coherent, 0, squares[-1]) / mean
    if form == "long_run":
        return c, np.maximum(squares[-1] - c * mean, 0) / energy
    q = np.maximum(moments.write_energy - c, 0)
    level = c * mean + q * energy
    factor = squares[-1] / np.where(level > 0, level, 1)
    return c * factor, q * factor


def _fitted(moments: WriteMoments) -> tuple[Floats, Floats]:
    """Solve two unknowns from three lengths; where one comes out negative it is 0 and the other is solved alone."""
    T = moments.train_length
    steps = np.array([T // 4, T // 2, T]).reshape(-1, *(1,) * moments.rate.ndim)
    size = np.where(moments.squares > 0, moments.squares, 1)
    u, v = mean_gain(moments.rate, steps) ** 2 / size, energy_gain(moments.rate, steps) / size
    ones = moments.squares / size  # 0 for a mode that writes nothing
    uu, uv, vv, u1, v1 = ((a * b).sum(0) for a, b in ((u, u), (u, v), (v, v), (u, ones), (v, ones)))
    det = uu * vv - uv**2
    apart = det > 1e-9 * uu * vv  # a mode that saturates within T/4 shows no difference between the two
    safe = np.where(apart, det, 1)
    c = np.where(apart, (u1 * vv - v1 * uv) / safe, 0)
    q = np.where(apart, (v1 * uu - u1 * uv) / safe, v1 / vv)
    return np.where(q < 0, u1 / uu, np.maximum(c, 0)), np.where(c < 0, v1 / vv, np.maximum(q, 0))


def second_moment(
    moments: WriteMoments, length: float, *, form: Form = DEFAULT_FORM, factor: npt.ArrayLike = 1.0
) -> Floats:
    """Predict E ||h||^2 of every mode after ``length`` tokens from a fresh state.

    Args:
        moments: of one layer, from windows of the training length.
        length: tokens, any.
        form: closed form.
        factor: s on the rates.

    Returns:
        Second moments, of the layer's shape.
    """
    c, q = parts(moments, form)
    rate = moments.rate * np.asarray(factor, dtype=np.float64)
    return c * mean_gain(rate, length) ** 2 + q * energy_gain(rate, length)


def scale_rule(moments: WriteMoments, target_length: float, form: Form = DEFAULT_FORM) -> Floats:
    """Return the factor on A that keeps a head's predicted norm at the target length at its predicted norm at T.

    Solves G_L(s r) = G_T(r); G_L falls with the rate, so there is one root, and s >= 1.

    Args:
        moments: of one layer, from windows of T tokens.
        target_length: L.
        form: closed form of G.

    Returns:
        s, of the layer's shape.
    """
    slow = np.maximum(moments.rate, 1e-30)
    wanted = second_moment(moments, moments.train_length, form=form)
    root = solve_factor(
        lambda s: second_moment(moments, target_length, form=form, factor=s),
        np.where(wanted > 0, wanted, 1.0),  # a mode that writes nothing keeps its rate
        np.ones_like(slow),
        np.maximum(_FASTEST / slow, 1.0),
    )
    return np.where(moments.rate > 0, root.factor, 1.0)  # no factor moves a rate of 0
