"""Float64 loops over time: the recurrences as they are written, the oracle that every engine is tested against.

Source: Gu and Dao 2023 (Mamba), Eq. (2) with the Euler write that the released model uses; Dao and Gu 2024 (Mamba-2).
"""

from __future__ import annotations

import torch
from torch import Tensor


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Loop over tokens in float64; shapes as in ``scan.diagonal_scan``."""
    x, dt, gain, A, B, C, h = (v.double() for v in (x, dt, gain, A, B, C, state))
    y = torch.empty_like(x)
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (gain[:, t] * x[:, t])[..., None] * B[:, t, None, :]
        y[:, t] = (h * C[:, t, None, :]).sum(-1)
    return y, h


def scalar_identity_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Loop over tokens in float64; shapes as in ``scan.scalar_identity_scan``."""
    x, dt, gain, A, B, C, h = (v.double() for v in (x, dt, gain, A, B, C, state))
    heads_a_group = x.shape[2] // B.shape[2]
    y = torch.empty_like(x)
    for t in range(x.shape[1]):
        B_t = B[:, t].repeat_interleave(heads_a_group, dim=1)  # (batch, nheads, d_state)
        C_t = C[:, t].repeat_interleave(heads_a_group, dim=1)
        write = (gain[:, t, :, None] * x[:, t])[..., None] * B_t[:, :, None, :]
        h = torch.exp(dt[:, t] * A)[..., None, None] * h + write
        y[:, t] = (h * C_t[:, :, None, :]).sum(-1)
    return y, h
