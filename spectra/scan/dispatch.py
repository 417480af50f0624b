"""The two scans as the mixers call them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from ..config import Arch
from ..errors import ShapeError
from . import blocked, cuda
from .choice import choose, engine_of

_COMPILED: dict[Arch, str] = {"mamba": "compiled_diagonal", "mamba2": "compiled_scalar_identity"}


def prepare(arch: Arch, device: torch.device, dtype: torch.dtype) -> None:
    """Import what will run a model's scan, so that its time and memory belong to loading and not to the first token.

    Args:
        arch: ``mamba`` or ``mamba2``.
        device: where the model lives.
        dtype: of its states.
    """
    if choose(arch, device, dtype).name == "compiled":  # numba, which takes a while and 100 MB
        import_module(f".{_COMPILED[arch]}", __package__)


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

    Raises:
        ShapeError: a tensor has another shape.
    """
    batch, length, d_inner = x.shape
    d_state = A.shape[-1]
    _check(
        dt=(dt, x.shape), gain=(gain, x.shape), A=(A, (d_inner, d_state)), B=(B, (batch, length, d_state)),
        C=(C, (batch, length, d_state)), state=(state, (batch, d_inner, d_state)),
    )  # fmt: skip
    if not length:
        return x, state
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

    Raises:
        ShapeError: a tensor has another shape.
    """
    batch, length, nheads, headdim = x.shape
    ngroups, d_state = B.shape[-2:]
    _check(
        dt=(dt, (batch, length, nheads)), gain=(gain, (batch, length, nheads)), A=(A, (nheads,)),
        B=(B, (batch, length, ngroups, d_state)), C=(C, (batch, length, ngroups, d_state)),
        state=(state, (batch, nheads, headdim, d_state)),
    )  # fmt: skip
    if nheads % ngroups:
        raise ShapeError(f"{nheads} heads cannot share {ngroups} groups of B and C; ngroups must divide nheads")
    if not length:
        return x, state
    tensors = (x, dt, gain, A, B, C, state)
    engine = engine_of("mamba2", x, B, tensors).name
    if engine == "compiled":
        from . import compiled_scalar_identity

        return compiled_scalar_identity.scalar_identity_scan(*tensors)
    return cuda.scalar_identity_scan(*tensors) if engine == "official" else blocked.scalar_identity_scan(*tensors)


def _check(**tensors: tuple[Tensor, Sequence[int]]) -> None:
    """Refuse a tensor of another shape; compiled loops would read and write outside of it."""
    for name, (tensor, shape) in tensors.items():
        if tensor.shape != torch.Size(shape):
            raise ShapeError(
                f"{name} has shape {tuple(tensor.shape)}, expected {tuple(shape)}; a state must come from the same "
                "model with as many rows (StreamState.repeated), and an intervention must keep shapes"
            )
