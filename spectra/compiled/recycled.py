"""Memory for the large results of a forward pass, used again once nobody holds the result that had it.

A stream makes results of the same few sizes for every block and layer. Left to the heap they change places with small
things that live on, and its peak creeps with the length of the text; here they come to rest, and their pages stay.

What a dying tensor leaves is noted by the interpreter's own code, since an interrupt that fell into a function of ours
would be lost there. The rest is done when memory is next asked for, without a lock: threads may come between any two
steps. Memory is taken from a list in one step, so it is never lent twice; what a race costs is memory made anew.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SPARE_BYTES = 64e6
"""Memory that may lie spare when some is asked for; while more than that is in use, as much as is in use, since a
stream's states are given back all at once. Ours: a row in the shapes of mamba-130m and mamba2-130m needs less."""
SMALLEST_BYTES = 65_536
"""Smaller results are left to the heap, which has room for them between others. Ours."""
MOST_GIVEN_BACK = 128
"""Results whose memory is kept until some is asked for again: the states of 64 layers, and as many others. Ours."""

Memory = npt.NDArray[np.float32]


class _Loan:
    """Owner of an array and so of the tensor on it; it lives as long as anything refers to either."""

    __slots__ = ("__array_interface__", "__weakref__", "reference")

    def __init__(self, memory: Memory, shape: Sequence[int]) -> None:
        self.__array_interface__ = memory.__array_interface__ | {"shape": tuple(shape)}
        self.reference = _Reference(self, _given_back.append)
        self.reference.memory = memory


class _Reference(weakref.ref[_Loan]):
    """Owned by the loan that it refers to; outlives it where it is noted in time."""

    __slots__ = ("memory",)
    memory: Memory


_given_back: deque[_Reference] = deque(maxlen=MOST_GIVEN_BACK)
_spare: dict[int, list[Memory]] = {}  # by size; the sizes in the order in which they were last given back
_made: list[weakref.ref[Memory]] = []


def recycled(shape: Sequence[int]) -> Tensor:
    """Return an uninitialised float32 tensor on the CPU; no other tensor has its memory as long as this one lives."""
    numbers = math.prod(shape)
    if 4 * numbers < SMALLEST_BYTES:
        return torch.empty(tuple(shape), dtype=torch.float32, device="cpu")
    _sort()
    try:
        memory = _spare[numbers].pop()
    except (KeyError, IndexError):
        memory = torch.empty(numbers, dtype=torch.float32, device="cpu").numpy()
        _made.append(weakref.ref(memory))
        if len(_made) % 1024 == 0:
            _made[:] = _still_there()
    return torch.from_numpy(np.asarray(_Loan(memory, shape)))


def release() -> None:
    """Leave all spare memory to the system, as before one measures what something takes."""
    _given_back.clear()
    _spare.clear()


def _sort() -> None:
    """Make spare what was given back, and keep to the limit."""
    if not _given_back:
        return
    with suppress(IndexError):
        while True:
            memory: Memory | None = getattr(_given_back.popleft(), "memory", None)
            if memory is None:  # an interrupt came before it was told
                continue
            stack = _spare.pop(memory.size, [])
            stack.append(memory)
            _spare[memory.size] = stack
    spare = sum(4 * size * len(stack) for size, stack in list(_spare.items()))
    if spare > SPARE_BYTES:
        _made[:] = _still_there()
        alive = sum(made.nbytes for each in list(_made) if (made := each()) is not None)
        _drop(spare - max(SPARE_BYTES, alive - spare))


def _still_there() -> list[weakref.ref[Memory]]:
    return [each for each in list(_made) if each() is not None]


def _drop(too_much: float) -> None:
    for size, stack in list(_spare.items()):
        while stack and too_much > 0:
            del stack[:1]
            too_much -= 4 * size
        if not stack:
            _spare.pop(size, None)
