"""Layers shared among threads: each thread has a run of layers, and is a block ahead of the thread behind it.

One operation of a block is too short for two threads to share: on a virtual machine, where a sleeping thread takes a
millisecond to wake, a second thread that helped with every operation gained about a quarter. A run of layers takes tens
of milliseconds, so that a hand-over costs little; and as every operation runs on one thread, the numbers are those of
one thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NoReturn, TypeVar

import torch

from .config import Config

T = TypeVar("T")
Stage = Callable[[T], T]

NAME = "mambascope-layers"
"""Of the threads."""
HELD_BYTES = 64e6
"""What the blocks under way may hold for observers. Ours: above it, operations are long enough to be shared themselves.
With two threads the shape of mamba-130m (210 MB) ran 644 tokens a second so, 638 with shared layers, and 389 with one
thread; mamba2-130m 594, 650 and 389."""


def held_bytes(config: Config, tokens: int, threads: int) -> int:
    """Return what blocks of so many tokens hold for observers while so many threads share the layers.

    >>> held_bytes(Config("mamba2", 64, 2, 256, 128, 16, headdim=32), 512, 2)
    3735552
    """
    # float32: x and dt (Mamba-1) or x alone, B and the C beside it, the narrow dt and gain of Mamba-2
    each = 4 * (2 * config.d_inner + 2 * config.ngroups * config.d_state + 4 * config.nheads)
    return (threads + 1) * config.n_layer * tokens * each


def threads_for(config: Config, tokens: int) -> int:
    """Return among how many of torch's threads the layers of a model are shared; 1 where operations are.

    Args:
        config: shape of the model.
        tokens: of a block, over all rows.
    """
    threads = min(torch.get_num_threads(), config.n_layer)
    return threads if held_bytes(config, tokens, threads) <= HELD_BYTES else 1


def shares(rounds: int, among: int) -> list[range]:
    """Return ``rounds`` in so many runs of nearly one length, none of them empty."""
    among = max(1, min(rounds, among))
    cuts = [rounds * k // among for k in range(among + 1)]
    return [range(*pair) for pair in itertools.pairwise(cuts)]


def passed_on(jobs: Iterable[T], stages: Sequence[Stage[T]]) -> Iterator[T]:
    """Run every job through all stages in order, each stage in a thread of its own, and yield the jobs in order.

    As many jobs as there are stages are under way while the caller has the one before. Meanwhile torch shares no
    operation among threads, the caller's own included; other threads of a program keep what they had, but one that
    first asks torch for an operation meanwhile begins with one.

    Args:
        jobs: read in the caller's thread, as far ahead as there are stages.
        stages: run under the caller's grad mode; a stage meets the jobs in order and one at a time.

    Yields:
        What the last stage made of each job.

    Raises:
        BaseException: what a stage raised, or what kept a job from being read, in place of that job.
    """
    mode = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    with ExitStack() as stack:
        stack.enter_context(_one_thread_an_operation())
        threads = [stack.enter_context(_ending(ThreadPoolExecutor(1, NAME))) for _ in stages]
        under_way: deque[Future[T]] = deque()
        for job in _read(jobs):
            done: Future[T] | None = None
            for thread, stage in zip(threads, stages, strict=True):
                done = thread.submit(_run, mode, stage, job if done is None else done.result)
            if done is not None:
                under_way.append(done)
            if len(under_way) > len(stages):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _read(jobs: Iterable[T]) -> Iterator[Callable[[], T]]:
    """Return functions that give the jobs; the last raises where a job could not be read, behind all before it."""
    try:
        for job in jobs:
            yield partial(_as_it_is, job)
    except Exception as problem:
        yield partial(_fail, problem)


def _as_it_is(job: T) -> T:
    return job


def _fail(problem: Exception) -> NoReturn:
    raise problem


def _run(mode: tuple[bool, bool], stage: Stage[T], job: Callable[[], T]) -> T:
    inference, grad = mode  # of the thread, so each has to be told
    with torch.inference_mode(inference), torch.set_grad_enabled(grad):
        return stage(job())


@contextmanager
def _one_thread_an_operation() -> Generator[None, None, None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _ending(pool: ThreadPoolExecutor) -> Generator[ThreadPoolExecutor, None, None]:
    """End a thread with the block, without what it has not begun."""
    try:
        yield pool
    finally:
        # the collector may end a forgotten stream in any thread, one of its own included, which cannot await itself
        pool.shutdown(wait=not threading.current_thread().name.startswith(NAME), cancel_futures=True)
