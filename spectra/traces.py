"""Recorder of everything that drives chosen heads: step sizes, gains and writes of every token, enough to replay them.

A head's state follows h_t = exp(dt_t A) h_{t-1} + gain_t B_t x_t; with dt, gain, B, x and A it can be run again under
another decay, without the model (``mambascope.simulate.replay``). A trace grows with the text, so the recorder takes a
choice of heads, a number of tokens and a budget in bytes, and refuses before it has stored anything. To replay a text
of any length, ``take`` the trace after every few blocks and hand the replayed state on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .dynamics import Observation
from .errors import RefusedInputError

Floats = npt.NDArray[np.floating]

MAX_BYTES = 256 << 20
"""Budget of a recorder. Ours: eight rows of 2048 tokens of all 40 heads of mamba2-tiny take 106 MB in float32."""


class TraceTooLargeError(RefusedInputError):
    """The trace that was asked for does not fit the recorder's budget; nothing was recorded.

    Attributes:
        needed_bytes: size of the trace.
        max_bytes: the budget.
    """

    def __init__(self, needed_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"the trace would take {needed_bytes} bytes, more than max_bytes = {max_bytes}: choose fewer heads or "
            "layers, lower max_tokens (and take() the trace in pieces), or raise max_bytes"
        )
        self.needed_bytes = needed_bytes
        self.max_bytes = max_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What drove some heads (Mamba-2) or channels (Mamba-1) of one layer; H of them."""

    layer: int
    """Index of the layer."""
    heads: npt.NDArray[np.intp]
    """(H,): indices of the heads or channels within the layer."""
    start: int
    """Position of the first token in the stream."""
    A: Floats
    """Negative rates that the model ran with, (H,) or (H, d_state)."""
    dt: Floats
    """Step sizes that set the decay, (batch, length, H)."""
    gain: Floats
    """Step sizes that set the write, (batch, length, H)."""
    B: Floats
    """Input directions, (batch, length, ngroups, d_state); Mamba-1 has one group."""
    x: Floats
    """Inputs, (batch, length, H, headdim) or (batch, length, H)."""
    groups: npt.NDArray[np.intp]
    """(H,): the group whose B a head reads."""

    @property
    def stop(self) -> int:
        """Position after the last token."""
        return self.start + int(self.dt.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that grow with the text."""
        return sum(int(v.nbytes) for v in (self.dt, self.gain, self.B, self.x))

    def __repr__(self) -> str:
        """Return a line without the arrays."""
        rows, tokens, H = self.dt.shape
        return f"Trace(layer={self.layer}, heads={H}, rows={rows}, tokens={self.start}..{self.start + tokens})"


def join(parts: Iterable[Trace]) -> Trace:
    """Join traces of consecutive blocks, given in any order.

    Args:
        parts: traces of one layer and the same heads, without gap or overlap.

    Returns:
        One trace.

    Raises:
        ValueError: the parts do not follow one another, or are of different layers or heads, or A changed on the way.
    """
    ordered = sorted(parts, key=lambda part: part.start)
    if not ordered:
        raise ValueError("no trace to join")
    first = ordered[0]
    for one, other in itertools.pairwise(ordered):
        if other.start != one.stop:
            raise ValueError(f"{one} and {other} do not follow one another")
        same = one.layer == other.layer and np.array_equal(one.heads, other.heads) and np.array_equal(one.A, other.A)
        if not same:
            raise ValueError(f"{one} and {other} are not of the same heads under the same rates")
    if len(ordered) == 1:
        return first
    joined: dict[str, Any] = {k: np.concatenate([getattr(p, k) for p in ordered], 1) for k in ("dt", "gain", "B", "x")}
    return Trace(first.layer, first.heads, first.start, first.A, groups=first.groups, **joined)


class TraceRecorder:
    """Observer that records the traces of chosen heads.

    It holds (2 + headdim) numbers a head, row and token (Mamba-1: 3 a channel) and ngroups * d_state a layer, row and
    token, in the precision of the model's recurrence; ``result`` joins the blocks and for that moment holds them twice.
    """

    def __init__(
        self, selection: Mapping[int, Sequence[int] | None], *, max_tokens: int, max_bytes: int = MAX_BYTES
    ) -> None:
        """Choose what to record.

        Args:
            selection: heads (Mamba-2) or channels (Mamba-1) of each wanted layer; None takes all of a layer.
            max_tokens: tokens of a row to hold at most; later ones are let pass. ``take`` makes room again.
            max_bytes: budget for ``max_tokens`` tokens of all rows. Default: ``MAX_BYTES``.

        Raises:
            ValueError: max_tokens is below 1.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        self.selection = dict(selection)
        self.max_tokens = max_tokens
        self.max_bytes = max_bytes
        self._parts: dict[int, list[Trace]] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions: any blocks will do."""
        return ()

    def update(self, observation: Observation) -> None:
        """Record one block of a wanted layer, as far as there is room."""
        if observation.layer not in self.selection:
            return
        if not self._parts:
            self._check(observation)
        held = self._parts.setdefault(observation.layer, [])
        room = self.max_tokens - sum(part.dt.shape[1] for part in held)
        if room > 0:
            held.append(self._cut(observation, room))

    def merge(self, other: TraceRecorder) -> None:
        """Add what another recorder holds: blocks of the same rows before or after these."""
        for layer, parts in other._parts.items():
            self._parts.setdefault(layer, []).extend(parts)

    def result(self) -> dict[int, Trace]:
        """Return the trace of each recorded layer."""
        return {layer: join(parts) for layer, parts in sorted(self._parts.items())}

    def take(self) -> dict[int, Trace]:
        """Return the traces and forget them, so that the next block is recorded in their place."""
        traces = self.result()
        self._parts = {}
        return traces

    def _chosen(self, layer: int, width: int) -> npt.NDArray[np.intp]:
        chosen = self.selection[layer]
        heads = np.arange(width) if chosen is None else np.asarray(chosen, dtype=np.intp)
        if heads.ndim != 1 or heads.size == 0 or heads.min() < 0 or heads.max() >= width:
            raise RefusedInputError(f"layer {layer}: heads {chosen} are not within the layer's {width}")
        return heads

    def _check(self, observation: Observation) -> None:
        dt, B, x = observation.dynamics.dt, observation.B, observation.x
        width = dt.shape[2]
        channels = x[0, 0].numel() // width
        numbers = sum((2 + channels) * self._chosen(i, width).size + B[0, 0].numel() for i in self.selection)
        needed = numbers * dt.shape[0] * self.max_tokens * dt.element_size()
        if needed > self.max_bytes:
            raise TraceTooLargeError(needed, self.max_bytes)

    def _cut(self, observation: Observation, room: int) -> Trace:
        dynamics, B = observation.dynamics, observation.B
        width = dynamics.dt.shape[2]
        heads = self._chosen(observation.layer, width)
        B = B if B.dim() == 4 else B[:, :, None]  # Mamba-1: (batch, length, d_state)

        def array(v: Tensor) -> Floats:
            return np.array(v[:, :room].detach().cpu().numpy())  # a copy: the block's tensors are free to go

        return Trace(
            layer=observation.layer,
            heads=heads,
            start=observation.start,
            A=dynamics.A.detach().cpu().numpy()[heads],
            dt=array(dynamics.dt[:, :, heads]),
            gain=array(dynamics.gain[:, :, heads]),
            B=array(B),
            x=array(observation.x[:, :, heads]),
            groups=heads // (width // B.shape[2]),
        )
