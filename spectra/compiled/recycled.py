"""Memory for the large results of a forward pass, used again once nobody holds the result that had it.

A stream makes results of the same few sizes for every block and layer. Left to the heap they change places with small
things that live on, and its peak creeps with the length of the text; here they come to rest, and their pages stay.

No lock is held: threads, and the garbage collector within one, may come between any two steps. Memory is taken from a
list in a single step, so it is never lent twice; what such a moment may cost is memory that is made anew.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SPARE_BYTES = 64e6
"""Memory that may lie spare at any time; while more than that is in use, as much as is in use, since a stream's states
are given back all at once. Ours: a pass of one row through the shapes of mamba-130m and mamba2-130m needs less."""
SMALLEST_BYTES = 65_536
"""Smaller results are left to the heap, which has room for them between others."""

Memory = npt.NDArray[np.float32]

_spare: dict[int, list[Memory]] = {}  # by size; the sizes in the order in which they were last given back
_lent: dict[int, tuple[weakref.ref[Any], int]] = {}


def recycled(shape: Sequence[int]) -> Tensor:
    """Return an uninitialised float32 tensor on the CPU; no other tensor has its memory as long as this one lives."""
    numbers = math.prod(shape)
    if 4 * numbers < SMALLEST_BYTES:
        return torch.empty(tuple(shape), dtype=torch.float32, device="cpu")
    try:
        memory = _spare[numbers].pop()
    except (KeyError, IndexError):
        memory = torch.empty(numbers, dtype=torch.float32, device="cpu").numpy()
    lent = memory[:]  # an object that lives as long as anything refers to the tensor
    reference = weakref.ref(lent, partial(_given_back, memory))
    _lent[id(reference)] = reference, memory.nbytes
    return torch.from_numpy(lent).view(tuple(shape))


def release() -> None:
    """Leave all spare memory to the system, as before one measures what something takes."""
    _spare.clear()


def _given_back(memory: Memory, reference: weakref.ref[Any]) -> None:
    _lent.pop(id(reference), None)
    stack = _spare.pop(memory.size, [])
    stack.append(memory)
    _spare[memory.size] = stack
    spare = sum(4 * size * len(stack) for size, stack in list(_spare.items()))
    if spare <= SPARE_BYTES:
        return
    room = max(SPARE_BYTES, sum(size for _, size in list(_lent.values())))
    for size, stack in list(_spare.items()):
        while stack and spare > room:
            del stack[:1]
            spare -= 4 * size
