"""Bits summed over intervals of position: one pass over the longest length gives every shorter one, in flat memory.

Sums are added up block by block, so that nothing of the size of a text is kept. Position t is that of the token that is
scored; position 0 is read and not scored. Each value is split into a multiple of 2^-20 and a rest in multiples of
2^-52, whose float64 sums are both exact: a mean is the same to the last digit, whatever blocks and intervals it was
added from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Intervention, Observer
from mambascope.spectra.model import Model
from mambascope.spectra.state import StreamState

from ..texts import Tick
from .bits import Floats, last_bits, stream_bits, stream_fresh_bits
from .passages import Ints, Passages

LAST = 100
"""Tokens at the end of a text that the last-tokens protocol scores. Source: DeciMamba's perplexity on PG19."""
_COARSE, _FINE = 2.0**20, 2.0**52
"""Grids of the two sums: exact up to 2^33 bits and 2^22 tokens an interval; what is lost is below 2^-53 a token."""
FIRST_BIN = 16
"""Where the geometric bins of a curve start. Ours: before that a bin would hold a token or two."""


@dataclass(frozen=True, slots=True)
class PositionSums:
    """Bits of passages, summed over intervals of position."""

    edges: Ints
    """Where the intervals meet, (intervals + 1,), ascending; the first is 1."""
    sums: Floats
    """Bits of the positions from one edge to before the next, (passages, intervals), in multiples of 2^-20; NaN beyond
    a passage's reach."""
    rest: Floats | None = None
    """What these leave out, in multiples of 2^-52, the same shape. Default: nothing."""

    def mean(self, first: int, stop: int) -> Floats:
        """Average over positions.

        Args:
            first: first position, an edge.
            stop: position after the last, a later edge.

        Returns:
            Bits per token, (passages,); NaN for passages that end before.

        Raises:
            ValueError: a position is no edge, or none lies between the two.
        """
        low, high = (self._index(position) for position in (first, stop))
        if low >= high:
            raise ValueError(f"positions {first} to {stop}: expected at least one between them")
        bits: Floats = self.sums[:, low:high].sum(1)
        if self.rest is not None:
            bits = bits + self.rest[:, low:high].sum(1)
        return bits / (stop - first)

    def whole(self, length: int) -> Floats:
        """Bits per token over all scored tokens of a length, (passages,)."""
        return self.mean(1, length)

    def tail(self, length: int) -> Floats:
        """Bits per token over the second half of a length, where harm is read, (passages,)."""
        return self.mean(tail_from(length), length)

    def last(self, length: int, tokens: int = LAST) -> Floats:
        """Bits per token over the last tokens of a length (all of them if it has fewer), (passages,)."""
        return self.mean(max(1, length - tokens), length)

    def _index(self, position: int) -> int:
        k = int(np.searchsorted(self.edges, position))
        if k == len(self.edges) or self.edges[k] != position:
            raise ValueError(f"position {position} is no edge of these sums; make them with edges_for that length")
        return k

    def where_scored(self, other: PositionSums) -> PositionSums:
        """Return these sums with NaN for the passages that another method did not score at all."""
        missing = np.logical_and.reduce(np.isnan(other.sums), axis=1)
        if not missing.any():
            return self
        rest = self.rest
        return PositionSums(
            self.edges,
            np.where(missing[:, None], np.nan, self.sums),
            None if rest is None else np.where(missing[:, None], np.nan, rest),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return named arrays, for a run folder."""
        rest = np.zeros_like(self.sums) if self.rest is None else self.rest
        return {"edges": np.asarray(self.edges, np.int64), "sums": self.sums, "rest": rest}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> PositionSums:
        """Make sums from ``arrays``."""
        return cls(arrays["edges"], arrays["sums"], arrays.get("rest"))

    @classmethod
    def filled(cls, passages: int, edges: Ints, value: float = 0.0) -> PositionSums:
        """Make sums that all have one value, such as 0 to add to."""
        shape = (passages, len(edges) - 1)
        return cls(edges, np.full(shape, value), np.zeros(shape))

    def add(self, rows: slice | Ints, first: int, bits: Floats) -> None:
        """Add bits of positions from ``first`` on, (rows, n), to the sums of their intervals."""
        assert self.rest is not None
        cuts = self.edges[(self.edges > first) & (self.edges < first + bits.shape[1])]
        offsets = np.concatenate([[0], cuts - first])
        start = int(np.searchsorted(self.edges, first, side="right")) - 1
        where = slice(start, start + len(offsets))
        coarse = np.rint(bits * _COARSE) / _COARSE
        rest = np.rint((bits - coarse) * _FINE) / _FINE
        self.sums[rows, where] += np.add.reduceat(coarse, offsets, axis=1)
        self.rest[rows, where] += np.add.reduceat(rest, offsets, axis=1)

    @classmethod
    def of_bits(cls, bits: Floats, edges: Ints) -> PositionSums:
        """Sum the bits of every token but the first, (passages, length - 1), as ``token_bits`` gives them."""
        found = cls.filled(len(bits), edges)
        found.add(slice(None), 1, bits[:, : int(edges[-1]) - 1])
        return found


def tail_from(length: int) -> int:
    """Return where the second half of a length starts."""
    return max(1, length // 2)


def curve_edges(length: int, bins_per_doubling: int = 2) -> list[int]:
    """Return the edges of bins of position that grow geometrically.

    Args:
        length: tokens of a text.
        bins_per_doubling: resolution. Default: ours.

    Returns:
        Positions from 1 to the length.

    >>> curve_edges(64)
    [1, 16, 23, 32, 45, 64]
    """
    steps = range(int(np.log2(max(length, FIRST_BIN) / FIRST_BIN) * bins_per_doubling) + 1)
    inner = (round(FIRST_BIN * 2 ** (k / bins_per_doubling)) for k in steps)
    return sorted({1, length, *(n for n in inner if n < length)})


def edges_for(lengths: Sequence[int], last: int = LAST, bins_per_doubling: int = 2) -> Ints:
    """Return every position at which a mean of some length starts or ends.

    Args:
        lengths: tokens of the texts to report on, each at least 2.
        last: tokens of the last-tokens protocol.
        bins_per_doubling: resolution of the curve by position.

    Returns:
        Edges from 1 to the longest length.

    Raises:
        ValueError: no length, or one below 2.
    """
    if not lengths or min(lengths) < 2:
        raise ValueError(f"lengths {list(lengths)}: expected some, each at least 2")
    found = set(curve_edges(max(lengths), bins_per_doubling))
    for length in lengths:
        found |= {length, tail_from(length), max(1, length - last)}
    return np.array(sorted(found), np.int64)


def _stop(passages: Passages, edges: Ints) -> int:
    """Return where scoring of passages of equal reach ends."""
    stop = min(int(edges[-1]), passages.length)
    if stop not in edges:
        raise ValueError(f"passages of {stop} tokens: expected their length among the edges, {edges.tolist()}")
    return stop


def _in_parts(
    passages: Passages, edges: Ints, batch: int, add_part: Callable[[PositionSums, Ints, Passages, int], None]
) -> PositionSums:
    found = PositionSums.filled(len(passages), edges, np.nan)
    for rows in passages.batches(batch):
        part = passages.part(rows)
        stop = _stop(part, edges)
        reached = slice(0, int(np.searchsorted(edges, stop)))
        found.sums[rows, reached] = 0
        add_part(found, rows, part, stop)
    return found


def score(
    model: Model,
    passages: Passages,
    edges: Ints,
    intervention: Intervention | None = None,
    *,
    state: StreamState | None = None,
    batch: int = 8,
    observers: Sequence[Observer] = (),
) -> PositionSums:
    """Score passages up to the last edge.

    Args:
        model: a loaded model.
        passages: at least as long as the last edge, or as long as another one.
        edges: from ``edges_for``.
        intervention: rewrites the dynamics.
        state: state before the first token of every passage, of one row. Default: zeros.
        batch: passages that run side by side.
        observers: see every layer's work on the way.

    Returns:
        The sums.
    """

    def add_part(found: PositionSums, rows: Ints, part: Passages, stop: int) -> None:
        position, first = 1, None if state is None else state.repeated(len(rows))
        tokens = part.tokens[:, :stop]
        for bits in stream_bits(model, tokens, intervention, state=first, observers=observers):
            found.add(rows, position, bits)
            position += bits.shape[1]

    return _in_parts(passages, edges, batch, add_part)


def score_last(model: Model, passages: Passages, edges: Ints, intervention: Intervention, tick: Tick) -> PositionSums:
    """Score the last tokens of a length alone, under an intervention that drops others on the way.

    Args:
        model: a loaded model.
        passages: those that do not reach the length get NaN.
        edges: from ``edges_for``; the last one is the length that is read.
        intervention: rewrites the dynamics and drops tokens.
        tick: called with the tokens of each passage.

    Returns:
        Sums of which only ``last`` is a number. One passage runs at a time: a prompt that is seen whole takes memory.
    """
    length = int(edges[-1])
    count = min(LAST, length - 1)
    found = PositionSums.filled(len(passages), edges, np.nan)
    scored = slice(int(np.searchsorted(edges, length - count)), None)
    for row in np.flatnonzero(passages.reaches >= length):
        rows = slice(row, row + 1)
        found.sums[rows, scored] = 0
        found.add(rows, length - count, last_bits(model, passages.tokens[rows, :length], intervention, count))
        tick(length)
    return found


def score_fresh(
    model: Model, passages: Passages, edges: Ints, train_length: int, *, observers: Sequence[Observer] = ()
) -> PositionSums:
    """Score the same tokens by the fresh-window control; a beginning-of-text id stands in the first window alone.

    Args:
        model: a loaded model.
        passages: as for ``score``.
        edges: from ``edges_for``.
        train_length: T.
        observers: see every layer's work on the way.

    Returns:
        The sums.
    """

    def add_part(found: PositionSums, rows: Ints, part: Passages, stop: int) -> None:
        for row, first, bits in stream_fresh_bits(model, part.tokens[:, :stop], train_length, observers=observers):
            found.add(rows[row : row + 1], first, bits[None])

    return _in_parts(passages, edges, len(passages), add_part)
