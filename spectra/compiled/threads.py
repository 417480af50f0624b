"""Shares the rounds of a compiled loop among as many threads as torch uses; the loops hold no lock of Python's.

What a round writes does not depend on where the shares begin, so one thread and many give the same numbers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch

WORTH_A_THREAD = 64
"""Tokens of a layer, or of a head, below which a thread of their own is not worth its start. Ours, not measured."""


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mambascope")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork copies the pool, not its threads


def share(loop: Callable[..., Any], rounds: int, *arguments: Any, at_least: int = 1) -> None:
    """Call ``loop(first, last, *arguments)`` so that all rounds are run.

    Args:
        loop: compiled without the interpreter's lock.
        rounds: how many there are.
        arguments: handed on.
        at_least: rounds that are worth a thread.
    """
    threads = max(1, min(torch.get_num_threads(), rounds // at_least))
    if threads == 1:
        loop(0, rounds, *arguments)
        return
    cuts = [rounds * k // threads for k in range(threads + 1)]
    others = [_pool(threads - 1).submit(loop, *pair, *arguments) for pair in itertools.pairwise(cuts[1:])]
    try:
        loop(*cuts[:2], *arguments)
    finally:
        wait(others)  # they write into the caller's tensors
    for other in others:
        other.result()
