"""Interventions that thin out what a head takes in, so that its steps add up to no more than in training.

A token whose step size is set to 0 in a head decays nothing there and writes nothing: that head skips it. Tokens that
are generated after the prompt are left alone, as in the released code.

Source: LongMamba (arXiv 2504.16053) and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.dynamics import Dynamics

Floats = npt.NDArray[np.float64]


def skipping(dynamics: Dynamics, keep: Tensor) -> Dynamics:
    """Return dynamics in which tokens, or tokens of some channels, decay nothing and write nothing.

    Args:
        dynamics: of a block.
        keep: False for what is skipped; broadcasts to ``dt``.

    Returns:
        The dynamics; a scan of the others alone would give them the same outputs.
    """
    dt, gain = dynamics.dt, dynamics.gain
    return Dynamics(dt.where(keep, dt.new_zeros(())), dynamics.A, gain.where(keep, gain.new_zeros(())))


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdFilter:
    """Skips tokens with Delta <= theta in global heads; each token is judged alone, so blocks may end anywhere."""

    theta: Floats
    """Thresholds, (n_layer, channels)."""
    chosen: npt.NDArray[np.bool_]
    """Global heads or channels, same shape; the others are left alone."""
    length: int
    """Tokens of the prompt; later ones are left alone."""

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions: the end of the prompt may lie inside a block."""
        return ()

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Return the dynamics without the tokens that are skipped."""
        if position >= self.length or not self.chosen[layer].any():
            return dynamics
        dt = dynamics.dt
        passed = np.where(self.chosen[layer], self.theta[layer], -1.0)  # a step is never negative
        keep = dt > torch.from_numpy(passed).to(dt)
        if position + dt.shape[1] > self.length:
            later = torch.arange(position, position + dt.shape[1], device=dt.device) >= self.length
            keep = keep | later[:, None]
        return skipping(dynamics, keep)


@dataclass(frozen=True, slots=True, eq=False)
class WholePromptFilter:
    """Holds the sum of a global head's steps over the prompt, the block at position 0, to S.

    ``bound`` keeps the largest steps as long as their sum is at most S and skips the other tokens; ``norm`` multiplies
    all steps by S over their sum.
    """

    total: Floats
    """S, (n_layer, channels)."""
    chosen: npt.NDArray[np.bool_]
    """Global heads or channels, same shape."""
    scaled: bool
    """True for ``norm``."""

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions."""
        return ()

    def kept(self, layer: int, position: int) -> Tensor | None:
        """Let every token go on."""
        del layer, position
        return None

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Return the dynamics of a prompt held to S; what comes after it is left alone."""
        if position > 0 or not self.chosen[layer].any():
            return dynamics
        dt = dynamics.dt
        total = torch.from_numpy(self.total[layer]).to(dt.device, torch.float64)
        chosen = torch.from_numpy(self.chosen[layer]).to(dt.device)
        if self.scaled:
            least = torch.finfo(torch.float64).tiny
            factor = (total / dt.sum(1, keepdim=True, dtype=torch.float64).clamp(min=least)).to(dt)
            factor = factor.where(chosen, factor.new_ones(()))
            return Dynamics(dt * factor, dynamics.A, dynamics.gain * factor)
        ranked, order = dt.double().sort(dim=1, descending=True, stable=True)  # of equal steps the earlier is kept
        within = ranked.cumsum(1) <= total
        return skipping(dynamics, torch.zeros_like(within).scatter_(1, order, within) | ~chosen)
