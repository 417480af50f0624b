"""A block of tokens: on its way through the layers, and what the model made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from .dynamics import Dynamics, Intervention, Observation, WholePrompt
from .errors import NonFiniteStateError, ScaleError
from .mamba import Mamba
from .mamba2 import Mamba2
from .products import added
from .rmsnorm import RMSNorm
from .state import LayerState, StreamState


class Layer(Protocol):
    """Pre-norm residual layer."""

    norm: RMSNorm
    mixer: Mamba | Mamba2


@dataclass(slots=True)
class Passing:
    """A block on its way through the layers; which thread takes it through which of them is the model's concern."""

    tokens: Tensor
    """Ids, (batch, length)."""
    start: int
    """Position of the first."""
    residual: Tensor
    """What the layers add to, (batch, tokens that are left, d_model)."""
    layers: list[LayerState]
    """State of each layer: before the block, then after it."""
    seen: list[Observation] = field(default_factory=list)
    """What observers are still to be told."""
    kept: Tensor | None = None
    """As in :class:`Block`."""

    def through(self, index: int, layer: Layer, intervention: Intervention | None, *, watched: bool) -> None:
        """Take the block through one layer.

        Args:
            index: of the layer.
            layer: its norm and mixer.
            intervention: rewrites the dynamics before the scan.
            watched: keep what an observer sees.

        Raises:
            ScaleError: the intervention makes states grow by themselves.
        """
        rule = None if intervention is None else partial(_apply, intervention, index, self.start)
        mixed, after, (dynamics, B, x) = layer.mixer(layer.norm(self.residual), self.layers[index], rule)
        self.residual = added(self.residual, mixed)
        self.layers[index] = after
        if watched:
            stop = self.start + self.tokens.shape[1]
            self.seen.append(Observation(index, self.start, stop, dynamics, B, x, after))
        if isinstance(intervention, WholePrompt) and (chosen := intervention.kept(index, self.start)) is not None:
            wide = chosen[..., None].expand(-1, -1, self.residual.shape[-1])
            self.residual = self.residual.gather(1, wide)
            self.kept = chosen if self.kept is None else self.kept.gather(1, chosen)


@dataclass(frozen=True, slots=True)
class Block:
    """What the model made of one block of tokens."""

    start: int
    """Position of the block's first token."""
    stop: int
    """Position after its last token."""
    tokens: Tensor
    """The block's ids, (batch, length)."""
    hidden: Tensor
    """Output of the final norm, (batch, length, d_model)."""
    kept: Tensor | None
    """Which of the block's tokens ``hidden`` is of, (batch, length of hidden), where an intervention let others end
    behind a layer; None for all."""
    state: StreamState
    """State after the block."""
    head: Tensor
    """Weight of the output head, (vocab_size, d_model)."""

    def logits(self) -> Tensor:
        """Compute the logits, (batch, length, vocab_size); nothing is computed for who does not ask."""
        return self.hidden @ self.head.T


def check_finite(block: Block) -> None:
    """Look for NaN and infinity: one sum a block as long as all is well.

    Args:
        block: what the model made.

    Raises:
        NonFiniteStateError: names the first layer with a broken state.
    """
    if bool(torch.isfinite(block.hidden.sum(dtype=torch.float64))) and bool(
        torch.isfinite(block.state.layers[-1].ssm.sum(dtype=torch.float64))
    ):
        return
    broken = (i for i, layer in enumerate(block.state.layers) if not bool(torch.isfinite(layer.ssm).all()))
    raise NonFiniteStateError(next(broken, len(block.state.layers) - 1), block.start)


def _apply(intervention: Intervention, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
    """Ask the intervention; a state that grows by itself is refused, which no scan here is made for."""
    found = intervention(layer, position, dynamics)
    if bool((found.dt.detach() < 0).any() | (found.A.detach() > 0).any()):  # one answer, as a GPU is waited for
        raise ScaleError(
            f"layer {layer}: the intervention made a step dt negative or a rate A positive; states would grow by "
            "themselves. Factors must be above 0"
        )
    return found
