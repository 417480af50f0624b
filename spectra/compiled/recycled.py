"""Memory for the large results of a forward pass, used again once nobody holds the result that had it.

A stream makes results of the same few sizes for every block and layer. Left to the heap they change places with small
things that live on, and its peak creeps with the length of the text; here they come to rest, and their pages stay.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

HELD_BYTES = 64e6
"""What is kept at most, in use or not; beyond it, what was lent longest ago is left to its user and the heap."""
SMALLEST_BYTES = 65_536
"""Smaller results are left to the heap, which has room for them between others."""

Memory = npt.NDArray[np.float32]


def _free(known: Sequence[Memory], numbers: int, alone: int) -> int | None:
    """Return which memory of this size is referred to from here alone: a tensor refers to what it was made from."""
    for k, memory in enumerate(known):
        if memory.size == numbers and sys.getrefcount(memory) == alone:
            return k
    return None


# how many references there are where none is a tensor's depends on the interpreter, so it is asked
_ALONE = next(count for count in range(1, 9) if _free([np.empty(1, np.float32)], 1, count) == 0)
_known: list[Memory] = []  # in the order in which they were lent
_lock = threading.Lock()


def recycled(shape: Sequence[int]) -> Tensor:
    """Return an uninitialised float32 tensor on the CPU; no other tensor has its memory as long as this one lives."""
    numbers = math.prod(shape)
    if not SMALLEST_BYTES <= 4 * numbers <= HELD_BYTES:
        return torch.empty(tuple(shape), dtype=torch.float32, device="cpu")
    with _lock:
        k = _free(_known, numbers, _ALONE)
        memory = torch.empty(numbers, dtype=torch.float32, device="cpu").numpy() if k is None else _known.pop(k)
        tensor = torch.from_numpy(memory)
        _known.append(memory)
        while sum(each.nbytes for each in _known) > HELD_BYTES:
            del _known[0]
    return tensor.view(tuple(shape))
