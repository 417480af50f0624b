"""The recurrences h_t = exp(dt_t A) h_{t-1} + gain_t B_t x_t,  y_t = C_t h_t, and the choice among their engines.

``reference`` is a float64 loop and the oracle of every test, ``blocked`` runs in plain torch on any device, and
``compiled`` is a fused CPU kernel with gradients (Mamba-1, float32). All start from a given state and return the last
one; ``dt`` and ``gain`` are separate arguments so that a scaling of A, of dt, or of both is the same call.

Source: Gu and Dao 2023 (Mamba), Algorithm 2; Dao and Gu 2024 (Mamba-2), section 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import blocked

__all__ = ["diagonal_scan", "scalar_identity_scan"]


def _compiled_fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the Mamba-1 recurrence, one decay per channel and state.

    Args:
        x: inputs, (batch, length, d_inner).
        dt: step sizes that set the decay, (batch, length, d_inner).
        gain: step sizes that set the write, (batch, length, d_inner).
        A: negative rates, (d_inner, d_state).
        B: input directions, (batch, length, d_state).
        C: output directions, (batch, length, d_state).
        state: state before the first token, (batch, d_inner, d_state).

    Returns:
        Outputs (batch, length, d_inner) without the D skip, and the state after the last token.
    """
    if _compiled_fits(x):
        from . import compiled

        return compiled.diagonal_scan(x, dt, gain, A, B, C, state)
    return blocked.diagonal_scan(x, dt, gain, A, B, C, state)


def scalar_identity_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the Mamba-2 recurrence, one decay per head.

    Args:
        x: inputs, (batch, length, nheads, headdim).
        dt: step sizes that set the decay, (batch, length, nheads).
        gain: step sizes that set the write, (batch, length, nheads).
        A: negative rates, (nheads,).
        B: input directions, (batch, length, ngroups, d_state).
        C: output directions, (batch, length, ngroups, d_state).
        state: state before the first token, (batch, nheads, headdim, d_state).

    Returns:
        Outputs (batch, length, nheads, headdim) without the D skip, and the state after the last token.
    """
    return blocked.scalar_identity_scan(x, dt, gain, A, B, C, state)
