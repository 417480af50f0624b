"""loky workers of which each is a pool of its own: one that dies takes its own piece with it, and no other.

joblib's ``Parallel`` gives up every piece when a worker of its pool dies, and cannot say whose it was. Here each slot
holds one of joblib's loky processes, started when first used and replaced when it died. A slot can have a GPU of its
own, by an environment that is set before the process imports anything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

from .engine import ignore_changed_workers, run_piece

GPUS = "CUDA_VISIBLE_DEVICES"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""What joblib, too, tells loky's workers; a piece that wants more threads asks torch for them."""


@dataclass(frozen=True, slots=True)
class Died:
    """In place of a result: the worker ended before it had one."""

    told: str
    """What the system says of it."""


def gpus_of(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return the GPUs that this process may use, as their workers must be told.

    Args:
        environment: of the process; ``CUDA_VISIBLE_DEVICES`` counts where it is set.
        count: GPUs that torch sees.

    Returns:
        One word a GPU.

    >>> gpus_of({"CUDA_VISIBLE_DEVICES": "2,5"}, 2), gpus_of({}, 3)
    (('2', '5'), ('0', '1', '2'))
    """
    named = environment.get(GPUS)
    if named is None:
        return tuple(str(k) for k in range(count))
    return tuple(word.strip() for word in named.split(",") if word.strip())[:count]


def environment_of(slot: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return what the worker of a slot finds in its environment: one GPU, that of its slot.

    Args:
        slot: from 0.
        gpus: those that may be used; none leaves the environment as it is.

    Returns:
        Variables to set. More slots than GPUs share them in turn.

    >>> [environment_of(slot, ("2", "5"))["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    ['2', '5', '2']
    """
    return ONE_THREAD | ({GPUS: gpus[slot % len(gpus)]} if gpus else {})


def run_in_slots(
    function: Callable[..., Any],
    arguments: Callable[[int], tuple[Any, ...]],
    queue: deque[int],
    jobs: int,
    gpus: Sequence[str] = (),
) -> Generator[tuple[int, Any], None, None]:
    """Call a function with the arguments of pieces, each in whichever slot is free.

    Args:
        function: an importable function of ``mambascope``.
        arguments: gives those of a piece.
        queue: numbers of the pieces to do; who reads the results may add some on the way.
        jobs: slots.
        gpus: one for each slot, in turn.

    Yields:
        The number of a piece and what its call returned, or ``Died``.
    """
    slots: dict[int, ProcessPoolExecutor] = {}
    running: dict[Future[Any], tuple[int, int]] = {}
    free = list(range(jobs))[::-1]
    ignore_changed_workers()
    try:
        while queue or running:
            while queue and free:
                slot, number = free.pop(), queue.popleft()
                running[_sent(slots, slot, gpus, function, arguments(number))] = number, slot
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number, slot = running.pop(future)
                free.append(slot)
                try:
                    found = future.result()
                except BrokenProcessPool as problem:
                    slots.pop(slot).shutdown(wait=False, kill_workers=True)
                    found = Died(str(problem).strip().split("\n")[0])
                yield number, found
    finally:
        for slot_pool in slots.values():
            slot_pool.shutdown(wait=True, kill_workers=bool(running))


def _sent(
    slots: dict[int, ProcessPoolExecutor],
    slot: int,
    gpus: Sequence[str],
    function: Callable[..., Any],
    piece: tuple[Any, ...],
) -> Future[Any]:
    """Give a piece to a slot; its worker may have died since its last piece."""
    for _ in range(2):
        if slot not in slots:
            slots[slot] = ProcessPoolExecutor(1, env=environment_of(slot, gpus))
        try:
            sent: Future[Any] = slots[slot].submit(run_piece, function, piece, os.getpid())
            return sent
        except BrokenProcessPool:
            slots.pop(slot).shutdown(wait=False, kill_workers=True)
    raise AssertionError("a pool that has just been made does not take a piece")
