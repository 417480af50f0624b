"""Streaming moments of the step sizes and of the decays they give, per mode.

A mode is a head of Mamba-2 or a (channel, state) of Mamba-1. Decays are kept as their distance from 1, summed through
``expm1``: a mode that remembers 1e7 tokens has no digits left in a float32 mean of its decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .dynamics import Observation
from .scan.choice import runs_compiled

Floats = npt.NDArray[np.float64]

_TOKENS_AT_ONCE = 64  # bounds the (tokens x channels x states) decays of Mamba-1 that exist at one time


@dataclass(frozen=True, slots=True)
class ModeMoments:
    """Moments over all observed tokens, one array a layer."""

    tokens: int
    """Tokens observed, summed over the batch."""
    mean_dt: tuple[Floats, ...]
    """E dt, (nheads,) or (d_inner,)."""
    mean_dt_squared: tuple[Floats, ...]
    """E dt^2, same shape."""
    loss_first: tuple[Floats, ...]
    """1 - E exp(dt A), (nheads,) or (d_inner, d_state): what a mode forgets of its mean in a token."""
    loss_second: tuple[Floats, ...]
    """1 - E exp(2 dt A), same shape: what it forgets of its energy."""


class ModeStatistics:
    """Observer that keeps the sums behind :class:`ModeMoments`."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self._sums: dict[int, list[Tensor]] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions: any blocks will do."""
        return ()

    def update(self, observation: Observation) -> None:
        """Add one block of one layer."""
        dt, A = observation.dynamics.dt.flatten(0, 1), observation.dynamics.A
        shapes = (dt.shape[1:], dt.shape[1:], A.shape, A.shape)
        zeros = [torch.zeros(shape, dtype=torch.float64, device=A.device) for shape in shapes]
        sums = self._sums.setdefault(observation.layer, zeros)
        sums[0] += dt.sum(0, dtype=torch.float64)
        sums[1] += dt.square().sum(0, dtype=torch.float64)
        if A.dim() == 2 and runs_compiled(dt) and runs_compiled(A):  # the few rates of Mamba-2 cost nothing
            from .compiled.decay_losses import decay_losses  # numba takes a while to import

            first, second = decay_losses(dt, A)
            sums[2] += first
            sums[3] += second
        else:
            for part in torch.split(dt, _TOKENS_AT_ONCE):
                lost = -torch.expm1(part.view(*part.shape, *(1,) * (A.dim() - 1)) * A)
                sums[2] += lost.sum(0, dtype=torch.float64)
                sums[3] += (lost * (2 - lost)).sum(0, dtype=torch.float64)  # 1 - e^2 = (1 - e)(1 + e)
        self._tokens[observation.layer] = self._tokens.get(observation.layer, 0) + dt.shape[0]

    def merge(self, other: ModeStatistics) -> None:
        """Add another observer's sums to these."""
        for layer, sums in other._sums.items():
            own = self._sums.setdefault(layer, [torch.zeros_like(s) for s in sums])
            for mine, theirs in zip(own, sums, strict=True):
                mine += theirs
            self._tokens[layer] = self._tokens.get(layer, 0) + other._tokens[layer]

    def result(self) -> ModeMoments:
        """Return the moments over everything seen so far."""
        layers = sorted(self._sums)
        means: list[tuple[Any, ...]] = [
            tuple((self._sums[i][k] / self._tokens[i]).cpu().numpy() for i in layers) for k in range(4)
        ]
        return ModeMoments(self._tokens.get(0, 0), *means)
