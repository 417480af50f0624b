"""The one place where a model's dynamics can be changed, and the one place where they can be read.

A mixer computes its step sizes, hands them as :class:`Dynamics` to an intervention, runs its scan with what comes back,
and shows the whole to the observers as an :class:`Observation`. Prefill, block-wise streaming and single-token decode
take the same way, so an intervention acts alike in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .state import LayerState


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Decay and write gain of one layer on one block: log-decay = ``dt * A``, write = ``gain * B * x``."""

    dt: Tensor
    """Step sizes that set the decay, (batch, length, nheads) or (batch, length, d_inner)."""
    A: Tensor
    """Negative rates, (nheads,) or (d_inner, d_state)."""
    gain: Tensor
    """Step sizes that set the write; the model's own value is ``dt``. Shape of ``dt``."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one layer did with one block of tokens."""

    layer: int
    """Index of the layer."""
    start: int
    """Position of the block's first token in the stream."""
    stop: int
    """Position after the block's last token; ``state`` is the state there."""
    dynamics: Dynamics
    """Decay and gain that the scan ran with, after any intervention."""
    B: Tensor
    """Input directions, (batch, length, ngroups, d_state) or (batch, length, d_state)."""
    x: Tensor
    """Inputs of the scan, (batch, length, nheads, headdim) or (batch, length, d_inner)."""
    state: LayerState
    """State after the block."""


@runtime_checkable
class Intervention(Protocol):
    """Rewrites the dynamics of a layer just before its scan."""

    def boundaries(self) -> tuple[int, ...]:
        """Return positions where the rule changes; the stream ends a block at each of them."""
        ...

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Return the dynamics to use for the block of ``layer`` that starts at ``position``."""
        ...


@runtime_checkable
class WholePrompt(Intervention, Protocol):
    """An intervention that must see a prompt in one block, and may let tokens of it end behind a layer.

    What such a rule does to a token depends on the tokens after it, so where blocks end would change the result. Tokens
    that come after the prompt, as in decoding, are not its concern.
    """

    def kept(self, layer: int, position: int) -> Tensor | None:
        """Return which tokens of the block that starts at ``position`` go on behind ``layer``.

        Returns:
            Indices among the tokens that reached the layer, (batch, tokens), ascending; None for all of them.
        """
        ...


@runtime_checkable
class Observer(Protocol):
    """Keeps a statistic over everything that the layers do, without holding the sequence."""

    def boundaries(self) -> tuple[int, ...]:
        """Return positions at which this observer needs the state; the stream ends a block at each of them."""
        ...

    def update(self, observation: Observation) -> None:
        """Take in one layer's work on one block."""
        ...
