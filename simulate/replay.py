r"""Run recorded heads again under any decay and gain, without the model.

A trace holds what drove a head: step sizes dt, gains and writes (B, x) of every token. Its state is

    h_t = exp(dt_t A) h_{t-1} + gain_t x_t B_t^T,   h_0 = 0,

with one A a head (``scalar_identity``: h is headdim x d_state) or one A a channel and state (``diagonal``). What the
model would have done under other rates follows from the same trace, as long as its inputs are taken to stay the same.
All in float64; the kernels release the interpreter's lock, so threads may replay different heads.

Source of the recurrence: Gu and Dao 2023, Algorithm 2; Dao and Gu 2024, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numba
import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .threefry import JIT

ChangeKind = Literal["a", "a_power", "dt", "joint"]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a replay changes: one factor for all, one a head or channel (H,), or one a channel and state."""

    kind: ChangeKind
    """``a``: A times s; ``a_power``: |A| to the power s; ``dt``: dt and gain times s; ``joint``: A and gain each."""
    values: npt.ArrayLike
    """The factors s; for ``joint`` those on A."""
    gains: npt.ArrayLike = 1.0
    """``joint`` only: factors on the gain, one for all or (H,)."""
    onset_tokens: int = 0
    """Position from which the change acts."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """States of replayed heads."""

    stops_tokens: tuple[int, ...]
    """Positions after which the states were read."""
    squared_l2: Floats
    """Squared norms there: (stops, batch, H) of heads, (stops, batch, H, d_state) of single Mamba-1 modes."""
    state: Floats
    """State after the last token, to go on from: (batch, H, headdim, d_state) or (batch, H, d_state)."""
    states: Floats | None = None
    """States at all stops, (stops, ...), if they were asked for."""


@numba.jit(**JIT)  # type: ignore[untyped-decorator]
def _scalar_identity(h: Any, rate: Any, factor: Any, dt: Any, gain: Any, B: Any, x: Any, groups: Any) -> None:
    """Advance h, (batch, H, headdim, d_state), over all tokens."""
    batch, length, heads = dt.shape
    headdim, d_state = h.shape[2], h.shape[3]
    for b in range(batch):
        for head in range(heads):
            own = h[b, head]
            for t in range(length):
                decay = math.exp(dt[b, t, head] * rate[head])
                g = gain[b, t, head] * factor[head]
                direction = B[b, t, groups[head]]
                for p in range(headdim):
                    u = g * x[b, t, head, p]
                    for n in range(d_state):
                        own[p, n] = decay * own[p, n] + u * direction[n]


@numba.jit(**JIT)  # type: ignore[untyped-decorator]
def _diagonal(h: Any, rate: Any, factor: Any, dt: Any, gain: Any, B: Any, x: Any) -> None:
    """Advance h, (batch, H, d_state), over all tokens."""
    batch, length, channels = dt.shape
    for b in range(batch):
        for c in range(channels):
            own = h[b, c]
            for t in range(length):
                u = gain[b, t, c] * factor[c] * x[b, t, c]
                for n in range(h.shape[2]):
                    own[n] = math.exp(dt[b, t, c] * rate[c, n]) * own[n] + u * B[b, t, 0, n]


def _changed(A: Floats, changes: Sequence[Change], position: int) -> tuple[Floats, Floats]:
    """Return the rates and the factors on the gain that hold from a position on."""
    A, on_dt, on_gain = A.copy(), np.ones(A.shape[0]), np.ones(A.shape[0])
    for change in changes:
        if position < change.onset_tokens:
            continue
        s = np.asarray(change.values, dtype=np.float64)
        if change.kind == "dt":
            on_dt, on_gain = on_dt * s, on_gain * s
            continue
        wide = s[:, None] if s.ndim == 1 and A.ndim == 2 else s  # a channel's factor holds for all its states
        A = -((-A) ** wide) if change.kind == "a_power" else A * wide
        if change.kind == "joint":
            on_gain = on_gain * np.asarray(change.gains, dtype=np.float64)
    return A * on_dt.reshape(-1, *(1,) * (A.ndim - 1)), on_gain


def _check(A: Floats, dt: Floats, x: Floats, changes: Sequence[Change]) -> None:
    if A.shape[0] != dt.shape[2] or x.shape[:3] != dt.shape or x.ndim != (4 if A.ndim == 1 else 3):
        raise ValueError(f"A {A.shape}, dt {dt.shape} and x {x.shape} are not of the same heads and tokens")
    for change in changes:
        shape = np.shape(change.values)
        fits = [(), A.shape[:1], *([A.shape] if change.kind != "dt" else [])]
        if change.kind not in get_args(ChangeKind) or shape not in fits or np.shape(change.gains) not in fits[:2]:
            raise ValueError(f"a change of kind {change.kind!r} with factors {shape} does not fit heads {A.shape}")


def replay(
    A: npt.ArrayLike,
    dt: npt.ArrayLike,
    gain: npt.ArrayLike,
    B: npt.ArrayLike,
    x: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    changes: Sequence[Change] = (),
    state: npt.ArrayLike | None = None,
    start_tokens: int = 0,
    stops_tokens: Sequence[int] | None = None,
    keep_states: bool = False,
) -> Replayed:
    """Replay a trace of H heads (A of shape (H,)) or H channels (A of shape (H, d_state)).

    Args:
        A: negative rates.
        dt: step sizes that set the decay, (batch, length, H).
        gain: step sizes that set the write, (batch, length, H).
        B: input directions, (batch, length, ngroups, d_state).
        x: inputs, (batch, length, H, headdim) for heads, (batch, length, H) for channels.
        groups: (H,), the group whose B each head reads. Default: the only one.
        changes: applied in this order, as the model's scales are.
        state: state before the first token. Default: zeros.
        start_tokens: position of the first token, which onsets and stops count from zero on. Default: 0.
        stops_tokens: positions after which to read the states. Default: after the last token.
        keep_states: also return the states themselves at all stops.

    Returns:
        Squared norms at the stops, and the last state.

    Raises:
        ValueError: shapes do not fit, or a stop lies outside the trace.
    """
    A, dt, gain, B, x = (np.asarray(v, dtype=np.float64) for v in (A, dt, gain, B, x))
    _check(A, dt, x, changes)
    batch, length, H = dt.shape
    last = start_tokens + length
    stops = (last,) if stops_tokens is None else tuple(sorted(set(stops_tokens)))
    if stops and not start_tokens <= stops[0] <= stops[-1] <= last:
        raise ValueError(f"stops {stops} are not within the trace's positions {start_tokens} to {last}")
    read = np.zeros(H, dtype=np.intp) if groups is None else np.asarray(groups, dtype=np.intp)
    if read.shape != (H,) or read.min() < 0 or read.max() >= B.shape[2]:
        raise ValueError(f"groups {read.tolist()} do not give each of {H} heads one of {B.shape[2]} groups")
    shape = (batch, H, *x.shape[3:], B.shape[3])
    h = np.zeros(shape) if state is None else np.array(state, dtype=np.float64).reshape(shape)
    onsets = {change.onset_tokens for change in changes if start_tokens < change.onset_tokens < last}
    squares, states, position = [], [], start_tokens
    for cut in sorted({*stops, *onsets, last}):
        rate, factor = _changed(A, changes, position)
        part = slice(position - start_tokens, cut - start_tokens)
        inputs = (np.ascontiguousarray(v[:, part]) for v in (dt, gain, B, x))
        if A.ndim == 1:
            _scalar_identity(h, rate, factor, *inputs, read)
        else:
            _diagonal(h, rate, factor, *inputs)
        position = cut
        if cut in stops:
            squares.append((h * h).sum((-1, -2)) if A.ndim == 1 else h * h)
            states += [h.copy()] if keep_states else []
    return Replayed(stops, np.array(squares), h, np.array(states) if keep_states else None)
