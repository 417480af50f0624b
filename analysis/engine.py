"""Where independent pieces of work run: here, in worker processes, or on somebody's cluster, with the same results.

A piece is a function of ``mambascope`` and plain arguments; what it returns depends on these alone, never on the
worker, and results come back in the order of the pieces. So one worker, two, dask or ray give the same bytes. joblib
does the rest; dask and ray are the user's choice and imported only when asked for.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import joblib

from mambascope.spectra.errors import MambascopeError, RefusedInputError

_WATCH = "mambascope-parent-watch"
ENGINES = ("sequential", "loky", "dask", "dask://HOST:PORT", "ray")


class WorkerError(MambascopeError):
    """A worker process died; what was finished before is kept."""

    exit_code = 5


class TravelledError(MambascopeError):
    """A worker's error that cannot be sent as what it is: its message and exit code are."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[TravelledError], tuple[str, int]]:
        """Say how it is made again on the other side."""
        return type(self), (str(self), self.exit_code)


def ignore_changed_workers() -> None:
    """Keep loky from telling a user that a worker whose memory has grown ended, and another took its place."""
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)


@contextmanager
def _backend(engine: str, jobs: int) -> Generator[None, None, None]:
    """Make joblib use an engine inside the block."""
    with ExitStack() as stack:
        if engine == "sequential":
            stack.enter_context(joblib.parallel_config(backend="sequential"))
        elif engine == "loky":
            ignore_changed_workers()
            stack.enter_context(joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1))
        elif engine == "dask" or engine.startswith("dask://"):
            dask_client(stack, engine, jobs)
            stack.enter_context(joblib.parallel_config(backend="dask"))
        elif engine == "ray":
            try:
                from ray.util.joblib import register_ray
            except ImportError as problem:
                raise RefusedInputError("engine 'ray': ray is not installed; run pip install ray") from problem
            register_ray()
            stack.enter_context(joblib.parallel_config(backend="ray", n_jobs=jobs))
        yield


def dask_client(stack: ExitStack, engine: str, jobs: int) -> Any:
    """Connect with a dask cluster, or start one here.

    Args:
        stack: closes the connection, and a cluster that was started.
        engine: ``dask://HOST:PORT``, or ``dask`` for a cluster of this machine's own.
        jobs: worker processes of a cluster that is started.

    Returns:
        A client, which is joblib's default while it is open.

    Raises:
        RefusedInputError: distributed is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as problem:
        raise RefusedInputError("engine 'dask': distributed is not installed; run pip install distributed") from problem
    if address := engine.partition("://")[2]:
        try:
            client = Client(f"tcp://{address}", timeout="10s", set_as_default=True)
        except (OSError, ValueError) as problem:
            raise RefusedInputError(f"engine 'dask://{address}': no scheduler answers there ({problem})") from problem
    else:
        cluster = stack.enter_context(
            LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=40)
        )
        client = Client(cluster, set_as_default=True)
    return stack.enter_context(closing(client))


def _watch_parent() -> None:
    """End this worker when the process that started it is gone, however it died; once a worker."""
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name=_WATCH, daemon=True).start()


def run_piece(function: Callable[..., Any], arguments: tuple[Any, ...], caller: int) -> Any:
    """Call a function with arguments: what a worker does, and ends with the process that called.

    Args:
        function: what to call.
        arguments: with what.
        caller: number of the calling process.

    Returns:
        What the function returns.

    Raises:
        MambascopeError: of the function.
        TravelledError: in its place where pickle cannot make it again.
    """
    if os.getpid() != caller and os.getppid() == caller:  # not a worker of a cluster, which outlives its clients
        _watch_parent()
    try:
        return function(*arguments)
    except MambascopeError as problem:
        try:
            pickle.loads(pickle.dumps(problem))
        except TypeError:  # its class takes other arguments than the message
            raise TravelledError(str(problem), problem.exit_code) from None
        raise


def check_engine(engine: str, jobs: int) -> None:
    """Refuse an engine that is not known, or fewer than one worker, before any work is done.

    Args:
        engine: one of ``ENGINES``.
        jobs: worker processes.

    Raises:
        RefusedInputError: see above.
    """
    if jobs < 1:
        raise RefusedInputError(f"--jobs {jobs}: expected at least 1")
    known = engine in {"sequential", "loky", "dask", "ray"} or (engine.startswith("dask://") and len(engine) > 7)
    if not known:
        raise RefusedInputError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")


def default_jobs() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_order(
    function: Callable[..., Any], pieces: Sequence[tuple[Any, ...]], *, engine: str = "sequential", jobs: int = 1
) -> Iterator[Any]:
    """Call a function with each piece's arguments.

    Args:
        function: an importable function of ``mambascope``.
        pieces: arguments of each call.
        engine: one of ``ENGINES``.
        jobs: worker processes, where the engine starts them.

    Yields:
        What the calls return, in the order of the pieces, each as soon as it and those before it are there.

    Raises:
        RefusedInputError: an engine that is not known or not installed, or fewer than one worker.
        WorkerError: a worker process died.
    """
    for _, result in _results(function, pieces, engine, jobs, "generator"):
        yield result


def run_as_done(
    function: Callable[..., Any], pieces: Sequence[tuple[Any, ...]], *, engine: str = "sequential", jobs: int = 1
) -> Iterator[tuple[int, Any]]:
    """Call a function with each piece's arguments; a result that is there waits for no other.

    Args:
        function: an importable function of ``mambascope``.
        pieces: arguments of each call, the longest work first, so that no worker is left with it in the end.
        engine: one of ``ENGINES``.
        jobs: worker processes, where the engine starts them.

    Yields:
        The number of a piece and what its call returned, in the order in which calls end.

    Raises:
        RefusedInputError: an engine that is not known or not installed, or fewer than one worker.
        WorkerError: a worker process died.
    """
    yield from _results(function, pieces, engine, jobs, "generator_unordered")


def runs_here(engine: str, jobs: int) -> bool:
    """Return True where no worker process is started."""
    return engine == "sequential" or (engine == "loky" and jobs == 1)


def _numbered(number: int, function: Callable[..., Any], piece: tuple[Any, ...], caller: int) -> tuple[int, Any]:
    return number, run_piece(function, piece, caller)


def _results(
    function: Callable[..., Any], pieces: Sequence[tuple[Any, ...]], engine: str, jobs: int, order: str
) -> Iterator[tuple[int, Any]]:
    check_engine(engine, jobs)
    if runs_here(engine, jobs):
        for number, piece in enumerate(pieces):
            yield number, function(*piece)
        return
    with _backend(engine, jobs):
        results = joblib.Parallel(return_as=order, pre_dispatch="2*n_jobs", batch_size=1, max_nbytes=None)(
            joblib.delayed(_numbered)(number, function, piece, os.getpid()) for number, piece in enumerate(pieces)
        )
        try:
            yield from results
        except joblib.externals.loky.process_executor.BrokenProcessPool as problem:
            first = str(problem).strip().split("\n")[0]
            raise WorkerError(
                f"a worker process died ({first}); the same command goes on from what is in the run folder, "
                "fewer --jobs need less memory"
            ) from problem
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib says that results were not used: when stopped, that is so
                results.close()
