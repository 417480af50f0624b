"""The two scans as the mixers call them."""

from __future__ import annotations

from torch import Tensor

from . import blocked, cuda
from .choice import engine_of


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
    tensors = (x, dt, gain, A, B, C, state)
    engine = engine_of("mamba", x, B, tensors).name
    if engine == "compiled":
        from . import compiled_diagonal  # numba takes a while to import, and not every run scans on a CPU

        return compiled_diagonal.diagonal_scan(*tensors)
    return cuda.diagonal_scan(*tensors) if engine == "official" else blocked.diagonal_scan(*tensors)


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
    tensors = (x, dt, gain, A, B, C, state)
    engine = engine_of("mamba2", x, B, tensors).name
    if engine == "compiled":
        from . import compiled_scalar_identity

        return compiled_scalar_identity.scalar_identity_scan(*tensors)
    return cuda.scalar_identity_scan(*tensors) if engine == "official" else blocked.scalar_identity_scan(*tensors)
