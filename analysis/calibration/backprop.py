"""The loss and its gradient with respect to scaling factors, by back-propagation through a stream of any length.

The stream is run once without a graph, keeping states at block ends. Then, from the last block to the first, each block
is run again from its state with a graph, and the gradient of that state is handed to the block before. The memory is
that of one block and of the kept states, the result that of one long graph. The weights get no gradient.

Source: Mamba Modulation, Algorithm 2 (back-propagation, Adam); recomputation from kept states as in Chen et al. 2016.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mambascope.spectra.block import Block
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import LayerState, StreamState

from ..evaluate.perplexity import block_bits
from .windows import Ids

BLOCK_TOKENS = 512
"""Tokens of a block, in each row. Ours: a block's graph outweighs the states kept for dozens of blocks."""

STATES_KEPT = 64
"""Up to so many blocks every state is kept; beyond, every sqrt(blocks)-th; the others are made once more. Ours."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """A loss and its slope."""

    bits: float
    """Bits per scored token."""
    values: list[Tensor]
    """Gradient with respect to each tensor of factors."""


def _tensors(state: StreamState) -> list[Tensor]:
    return [tensor for layer in state.layers for tensor in (layer.conv, layer.ssm)]


def _leaves(state: StreamState) -> StreamState:
    """Return the same state, cut off from any graph, ready to collect gradients."""
    return StreamState(
        state.position,
        tuple(LayerState(s.conv.detach().requires_grad_(), s.ssm.detach().requires_grad_()) for s in state.layers),
    )


class _Shelf:
    """Room for some states, taken at once: kept one by one, they would pin the heap among the blocks' temporaries."""

    def __init__(self, like: StreamState, count: int) -> None:
        self._rows = [t.new_empty((count, *t.shape)) for t in _tensors(like)]
        self._positions = [0] * count

    def put(self, place: int, state: StreamState) -> None:
        self._positions[place] = state.position
        for row, tensor in zip(self._rows, _tensors(state), strict=True):
            row[place].copy_(tensor)

    def get(self, place: int) -> StreamState:
        tensors = [row[place] for row in self._rows]
        return StreamState(self._positions[place], tuple(map(LayerState, tensors[::2], tensors[1::2])))


@dataclass(frozen=True, slots=True)
class _Stream:
    """A batch of windows, cut into blocks."""

    model: Model
    ids: Tensor  # (windows, L)
    spans: list[tuple[int, int]]

    def run(self, index: int, state: StreamState, scales: Scales) -> Block:
        """Run one block; a broken state is named as in any stream."""
        start, stop = self.spans[index]
        return next(self.model.stream(self.ids[:, start:stop], state=state, intervention=scales, block_length=stop))

    def bits(self, block: Block, first: int) -> Tensor:
        """Sum the block's bits from entry ``first`` of the window on, float64."""
        skip = max(0, first - block.start)
        targets = self.ids[:, block.start + 1 + skip : block.stop + 1]
        return block_bits(block.hidden[:, skip:], block.head, targets).double().sum()


def loss_and_gradient(
    model: Model,
    windows: Ids | Tensor,
    values: Sequence[Tensor],
    scales_of: Callable[[Sequence[Tensor]], Scales],
    *,
    first: int = 0,
    block_length: int = BLOCK_TOKENS,
) -> Gradient:
    """Return the mean bits of windows and their gradient with respect to factors.

    Args:
        model: a loaded model.
        windows: ids, (windows, L).
        values: factors, float64.
        scales_of: makes the scales from them, as part of torch's graph.
        first: first of a window's L - 1 entries that is scored; entry k scores token k + 1.
        block_length: tokens that are in a graph at once, in each row.

    Returns:
        Loss and gradient.
    """
    leaves = [v.detach().clone().requires_grad_() for v in values]
    scales = scales_of(leaves).check(model.config)
    ids = model.ids(windows)
    length = ids.shape[1] - 1
    edges = sorted({*range(0, length, block_length), *(b for b in scales.boundaries() if b < length), length})
    stream = _Stream(model, ids, list(itertools.pairwise(edges)))
    count = len(stream.spans)
    every = 1 if count <= STATES_KEPT else math.isqrt(count - 1) + 1

    state = model.zero_state(len(ids))
    kept, between = _Shelf(state, -(-count // every)), _Shelf(state, every)
    kept.put(0, state)
    with torch.no_grad():
        for index in range(count - 1):
            state = stream.run(index, state, scales).state
            if (index + 1) % every == 0:
                kept.put((index + 1) // every, state)

    total, carry = 0.0, None
    for begin in reversed(range(0, count, every)):
        between.put(0, kept.get(begin // every))
        last = min(begin + every, count) - 1
        with torch.no_grad():
            for index in range(begin, last):
                between.put(index + 1 - begin, stream.run(index, between.get(index - begin), scales).state)
        for index in reversed(range(begin, last + 1)):
            entering = _leaves(between.get(index - begin))
            bits, carry = _backward(stream, index, entering, scales, leaves, carry, first)
            total += bits
    scored = len(ids) * (length - first)
    return Gradient(total / scored, [torch.zeros_like(v) if v.grad is None else v.grad / scored for v in leaves])


def _backward(
    stream: _Stream,
    index: int,
    entering: StreamState,
    scales: Scales,
    leaves: list[Tensor],
    carry: list[Tensor | None] | None,
    first: int,
) -> tuple[float, list[Tensor | None]]:
    """Run one block with a graph and backwards; return its bits and the gradient of the state that entered it."""
    with torch.enable_grad():
        block = stream.run(index, entering, scales)
        bits = stream.bits(block, first) if block.stop > first else torch.zeros((), dtype=torch.float64)
    ends: list[tuple[Tensor, Tensor | None]] = [(bits, None)]
    ends += [(t, g) for t, g in zip(_tensors(block.state), carry or [], strict=carry is not None) if g is not None]
    ends = [(t, g) for t, g in ends if t.requires_grad]
    into = _tensors(entering)
    if ends:
        tensors, gradients = zip(*ends, strict=True)
        torch.autograd.backward(tensors, gradients, inputs=[*leaves, *into])
    return float(bits.detach()), [t.grad for t in into]
