"""Processes without a closed form, for the doubling bound: random stationary texts, and inputs that change with time.

Both run through ``replay``, which takes any step sizes, inputs and directions.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Floats
from ..replay import replay
from ..threefry import DECAYS, INPUTS, STEPS, Words, normals, uniforms

SHORT, HEADS = 32, 3
"""T and heads."""
AT_ONCE = 1024
"""Texts that are in memory at once."""


def _autoregressive(z: Floats, rho: Floats) -> Floats:
    """Turn white normals (rows, tokens) into stationary ones with correlation rho (rows, 1) between neighbours."""
    out = z.copy()
    for t in range(1, z.shape[1]):
        out[:, t] = rho[:, 0] * out[:, t - 1] + np.sqrt(1 - rho[:, 0] ** 2) * z[:, t]
    return out


def random_texts(key: Words, first: int, trials: int) -> Floats:
    """Draw a stationary process for each text and measure h_T, h_2T, and h'_T, the second half's own state.

    Steps, inputs and directions are functions of two autoregressive processes, so that steps depend on the inputs;
    rates, memories, means and spreads are drawn for each text.

    Args:
        key: the experiment's key.
        first: first trial.
        trials: how many texts.

    Returns:
        (trials, 3): ln of ||h'_T||^2 / ||h_T||^2, then N(h_2T) / (N(h_T) + N(h'_T)) for the Euclidean norm and for the
        largest norm of a head.
    """
    drawn = uniforms(key, DECAYS, first, trials, HEADS + 5)
    a = 10 ** (-3 + 3.5 * drawn[:, :HEADS])
    rho, slow, mean, spread, level = (drawn[:, HEADS + k, None] for k in range(5))
    rho, slow, mean, spread = 2 * rho - 1, slow**0.1, 3 * mean, 2 * spread
    z = normals(key, INPUTS, first, trials, 2 * 2 * SHORT)
    one = _autoregressive(z[:, : 2 * SHORT], rho)
    other = _autoregressive(z[:, 2 * SHORT :], slow)
    dt = 10 ** (-3 * level) * np.exp(spread * (one + other) / 2)
    x = mean + one**2 * other
    B = np.stack([np.cos(other), np.sin(other + one)], axis=-1)  # (trials, tokens, d_state = 2)
    whole = _run(a, dt, x, B, (SHORT, 2 * SHORT))
    late = _run(a, dt[:, SHORT:], x[:, SHORT:], B[:, SHORT:], (SHORT,))
    half, full, own = whole[0], whole[1], late[0]  # (trials, HEADS) squared norms
    total = [np.sqrt(squares.sum(1)) for squares in (half, full, own)]
    most = [np.sqrt(squares.max(1)) for squares in (half, full, own)]
    return np.stack([2 * np.log(total[2] / total[0]), *(n[1] / (n[0] + n[2]) for n in (total, most))], axis=1)


def _run(a: Floats, dt: Floats, x: Floats, B: Floats, stops: tuple[int, ...]) -> Floats:
    """Replay heads whose texts differ: (stops, texts, HEADS) squared norms."""
    texts = len(dt)
    wide = np.repeat(dt.T, HEADS, axis=1)[None]
    squares = replay(
        -a.ravel(),
        wide,
        wide,
        B.transpose(1, 0, 2)[None],
        np.repeat(x.T, HEADS, axis=1)[None, :, :, None],
        groups=np.repeat(np.arange(texts), HEADS),
        stops_tokens=stops,
    ).squared_l2
    return np.asarray(squares.reshape(len(stops), texts, HEADS))


def changing_inputs(kind: str, key: Words, first: int, trials: int) -> Floats:
    """Return ||h_T||^2 and ||h_2T||^2 of heads whose inputs change with time.

    Args:
        kind: ``spread``: white inputs, six times as large in the second half; ``mean``: inputs that rise with time.
        key: the experiment's key.
        first: first trial.
        trials: how many.

    Returns:
        (trials, 2).
    """
    time = np.arange(1, 2 * SHORT + 1)
    x = normals(key, INPUTS, first, trials, 2 * SHORT)
    x = x * np.where(time > SHORT, 6.0, 1.0) if kind == "spread" else x + time
    dt = -np.log(uniforms(key, STEPS, first, trials, 2 * SHORT)).T[None]
    B = np.ones((1, 2 * SHORT, 1, 1))
    squares = replay(np.full(trials, -1e-3), dt, dt, B, x.T[None, :, :, None], stops_tokens=(SHORT, 2 * SHORT))
    return np.asarray(squares.squared_l2.reshape(2, trials).T)
