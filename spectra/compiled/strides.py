"""Hands torch tensors to compiled code: rows that lie apart, as slices of a projection do, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def rows(v: Tensor) -> tuple[Any, int, int]:
    """Return a tensor (batch, length, ...) as one flat array and the numbers between its batches and its rows.

    What belongs to a token must lie together; a tensor whose tokens are torn apart is copied. A flat array keeps the
    inner loops contiguous in the eyes of the compiler, which a strided one would not.
    """
    width = v[0, 0].numel()
    if not v[0, 0].is_contiguous():
        v = v.contiguous()
    v = v.detach()
    batch, row = v.stride(0), v.stride(1)
    numbers = (v.shape[0] - 1) * batch + (v.shape[1] - 1) * row + width
    return torch.as_strided(v, (numbers,), (1,), v.storage_offset()).numpy(), batch, row


def array(v: Tensor) -> Any:
    """Return a tensor as a contiguous array."""
    return v.detach().contiguous().numpy()


def _size(shape: tuple[Any, ...]) -> Sequence[int]:
    return shape[0] if shape and isinstance(shape[0], Sequence) else shape


def empty(*shape: int | Sequence[int]) -> Tensor:
    """Return an uninitialised float32 tensor on the CPU, whatever torch's defaults are."""
    return torch.empty(_size(shape), dtype=torch.float32, device="cpu")


def zeros(*shape: int | Sequence[int]) -> Tensor:
    """Return float32 zeros on the CPU, whatever torch's defaults are."""
    return torch.zeros(_size(shape), dtype=torch.float32, device="cpu")
