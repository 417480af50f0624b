"""Hands torch tensors to compiled code without a copy: rows that lie apart, as slices of a projection do."""

from __future__ import annotations

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
