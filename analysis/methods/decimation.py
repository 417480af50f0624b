"""An intervention that lets the tokens with small steps end at chosen layers, and the rest go on as a shorter text.

In the s-th decimating layer (s = 0, 1, ...), of the tokens that reach it the last ``tail`` are kept, and of those
before them the P with the largest ||Delta_t||_2 over channels (Mamba-1) or heads (Mamba-2):
P = max(min(tokens before, L_base beta^s), least), its integer part. A dropped token gets no step and no write in that
layer, which is what a scan over the kept tokens alone is, and does not go on to the next layer.

Source: DeciMamba (arXiv 2406.14528) and its released code, for Mamba-1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mambascope.spectra.dynamics import Dynamics

from .step_filters import skipping


def budgets(base: int, beta: float, least: int, layers: int) -> tuple[int, ...]:
    """Return how many tokens before the tail each decimating layer lets go on at most.

    Args:
        base: L_base.
        beta: what the budget shrinks by from one decimating layer to the next.
        least: never fewer.
        layers: decimating layers.

    Returns:
        P where there are more tokens than that.

    >>> budgets(100, 0.5, 20, 4)
    (100, 50, 25, 20)
    """
    return tuple(max(int(base * beta**s), least) for s in range(layers))


def largest(dt: Tensor, count: int, tail: int) -> Tensor:
    """Choose tokens by their step sizes.

    Args:
        dt: step sizes, (batch, length, channels).
        count: tokens to choose before the tail; of equal ones the earlier.
        tail: tokens at the end that are chosen in any case.

    Returns:
        Indices, (batch, count + tail), ascending.
    """
    batch, length = dt.shape[:2]
    weight = torch.linalg.vector_norm(dt[:, : length - tail], dim=-1)
    best = weight.argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
    return torch.cat([best, torch.arange(length - tail, length, device=dt.device).expand(batch, -1)], dim=1)


class Decimation:
    """Drops tokens of a prompt, the block at position 0; tokens that are generated after it all pass.

    Args:
        layers: decimating layers, ascending.
        budgets: tokens before the tail that each lets go on.
        tail: tokens at the end that are never dropped.
    """

    def __init__(self, layers: Sequence[int], budgets: Sequence[int], tail: int) -> None:
        self.budgets = dict(zip(layers, budgets, strict=True))
        self.tail = tail
        self._chosen: dict[int, Tensor] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions."""
        return ()

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Return the dynamics without the tokens that the layer drops."""
        self._chosen.pop(layer, None)
        dt = dynamics.dt
        budget = self.budgets.get(layer)
        if position > 0 or budget is None or dt.shape[1] - self.tail <= budget:
            return dynamics
        chosen = self._chosen[layer] = largest(dt, budget, self.tail)
        keep = torch.zeros(dt.shape[:2], dtype=torch.bool, device=dt.device).scatter_(1, chosen, True)[..., None]
        return skipping(dynamics, keep)

    def kept(self, layer: int, position: int) -> Tensor | None:
        """Return the tokens that the layer has just chosen."""
        del position
        return self._chosen.pop(layer, None)
