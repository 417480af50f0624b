"""Root-mean-square normalisation, over the whole width or over groups of it.

Source: Zhang and Sennrich 2019; the grouped form as in state-spaces/mamba (RMSNormGated, group_size).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scan.choice import runs_compiled


class RMSNorm(nn.Module):
    """y = weight * x / sqrt(mean(x^2) + eps), the mean taken over each group of the last dimension."""

    def __init__(self, width: int, eps: float, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (..., width), in at least float32; the result has the dtype of the weights."""
        if self.groups == 1 and runs_compiled(x) and runs_compiled(self.weight) and x.numel():
            from .compiled.rms_norm import rms_norm  # numba takes a while to import

            return rms_norm(x, self.weight, self.eps)
        wide = x if x.dtype == torch.float64 else x.float()
        if self.groups == 1:
            return F.rms_norm(wide, (x.shape[-1],), self.weight.to(wide.dtype), self.eps).to(self.weight.dtype)
        grouped = wide.reshape(*wide.shape[:-1], self.groups, -1)
        return (F.rms_norm(grouped, grouped.shape[-1:], None, self.eps).flatten(-2) * self.weight).to(self.weight.dtype)
