"""Pieces of which one may fail, or take its worker with it: it is tried once more, and the others go on.

The same engines as in ``engine``, and the same promise: what a piece gives depends on its arguments alone. Beside it,
nothing that happens to one piece touches another. Where a worker is killed, its piece counts as failed once.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import MambascopeError, RefusedInputError, is_lack_of_memory

from .engine import WorkerError, check_engine, dask_client, run_as_done, run_piece, runs_here
from .engine_slots import Died, run_in_slots

Call = Callable[[int], tuple[Any, ...]]
"""Gives the arguments of ``attempt`` for a piece."""
TRIES = 2
_PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("spectra", "simulate", "analysis"))
WORKERS_S = 30
"""Seconds to wait for the first worker of a cluster. Ours."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a piece could not be done."""

    kind: str
    """Name of the error."""
    error: str
    """Its message."""
    exit_code: int
    """What a command that needs the piece exits with."""

    @classmethod
    def of(cls, problem: Exception) -> Failure:
        """Describe an error; one that is not meant for people names its place in the code."""
        name = type(problem).__name__
        if isinstance(problem, MambascopeError):
            return cls(name, str(problem), problem.exit_code)
        frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_tb(problem.__traceback__)]
        ours = [(path, function) for path, function in frames if any(map(path.is_relative_to, _PACKAGES))]
        told = str(problem) + (f" (in {ours[-1][0].name}, {ours[-1][1]})" if ours else "")
        return cls(name, told, 5 if is_lack_of_memory(problem) else 1)

    @classmethod
    def of_death(cls, told: str) -> Failure:
        """Describe the end of a worker."""
        return cls(WorkerError.__name__, f"the worker process died ({told}); fewer --jobs need less memory", 5)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function; what it raises comes back as a ``Failure``: what a worker does."""
    try:
        return function(*arguments)
    except Exception as problem:  # whatever it is, the other pieces must not pay for it
        return Failure.of(problem)


def run_each(
    function: Callable[..., Any],
    pieces: Sequence[tuple[Any, ...]],
    *,
    engine: str = "sequential",
    jobs: int = 1,
    gpus: Sequence[str] = (),
    failed_once: Callable[[int, Failure], None] = lambda number, failure: None,
) -> Generator[tuple[int, Any], None, None]:
    """Call a function with each piece's arguments, whatever becomes of single ones.

    Args:
        function: an importable function of ``mambascope``.
        pieces: arguments of each call, asked for when it is sent. It may grow while results are read: what rests on
            a result can follow it.
        engine: one of ``engine.ENGINES``.
        jobs: worker processes, where the engine starts them.
        gpus: one for each loky worker, in turn; workers of a cluster use those they were started with.
        failed_once: called with the number of a piece that has failed and will be tried again, after those that wait at
            that moment.

    Yields:
        The number of a piece, and what its call returned, or a ``Failure`` after two tries; in the order in which
        they end.

    Raises:
        RefusedInputError: an engine that is not known, not installed or not there, or fewer than one worker.
        WorkerError: a cluster is gone.
    """
    check_engine(engine, jobs)
    queue, tried = deque(range(len(pieces))), [0] * len(pieces)

    def more() -> None:
        """Take up what was added."""
        queue.extend(range(len(tried), len(pieces)))
        tried.extend([0] * (len(pieces) - len(tried)))

    def call(number: int) -> tuple[Any, ...]:
        return function, pieces[number]

    if not queue:
        return
    if runs_here(engine, jobs):
        results = _here(call, queue)
    elif engine == "loky":
        results = run_in_slots(attempt, call, queue, jobs, gpus)
    elif engine.startswith("dask"):
        results = _on_dask(call, queue, engine, jobs)
    else:
        results = _by_joblib(call, queue, engine, jobs)
    with closing(results):
        for number, found in results:
            tried[number] += 1
            outcome = Failure.of_death(found.told) if isinstance(found, Died) else found
            if isinstance(outcome, Failure) and tried[number] < TRIES:
                failed_once(number, outcome)
                queue.append(number)
                continue
            yield number, outcome
            more()


def _here(call: Call, queue: deque[int]) -> Generator[tuple[int, Any], None, None]:
    while queue:
        number = queue.popleft()
        yield number, attempt(*call(number))


def _by_joblib(call: Call, queue: deque[int], engine: str, jobs: int) -> Generator[tuple[int, Any], None, None]:
    while queue:
        numbers = list(queue)
        queue.clear()
        for k, found in run_as_done(attempt, [call(n) for n in numbers], engine=engine, jobs=jobs):
            yield numbers[k], found


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Arguments of ``attempt``, closed: dask may take a tuple that starts with a function for a task of its own."""

    arguments: tuple[Any, ...]


def _open(sealed: _Sealed, caller: int) -> Any:
    return run_piece(attempt, sealed.arguments, caller)


def _on_dask(call: Call, queue: deque[int], engine: str, jobs: int) -> Generator[tuple[int, Any], None, None]:
    """Send pieces to a cluster, a few ahead of its workers; the cluster itself moves the pieces of one that died."""
    with ExitStack() as stack:
        client = dask_client(stack, engine, jobs)
        from distributed import as_completed

        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as problem:
            raise RefusedInputError(
                f"engine {engine!r}: no worker has joined in {WORKERS_S} s; start some"
            ) from problem
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)  # fits can be large
        sent = as_completed()
        numbers: dict[str, int] = {}
        while queue or numbers:
            while queue and len(numbers) < max(2, 2 * sum(client.ncores().values())):
                number = queue.popleft()
                future = client.submit(_open, _Sealed(call(number)), os.getpid(), pure=False)
                numbers[future.key] = number
                sent.add(future)
            future = next(sent)
            number = numbers.pop(future.key)
            if future.status == "finished":
                yield number, future.result()
            elif future.status == "error":  # of the cluster: errors of the piece come back as results
                yield number, Died(str(future.exception()).split("\n")[0])
            else:
                raise WorkerError(f"engine {engine!r}: the cluster is gone; the same command goes on from here")
