"""Independent pieces of a comparison, run here or by workers; each result is kept by the parent as it arrives.

A worker writes nothing into the run folder but, for a method whose fit is long, a run folder of that fit's own below
it, with a lock of its own: a calibration that was killed goes on where it was. Results depend on the piece alone, so
they are the same byte by byte from one worker or many; only the order in which they are journaled differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .calibration.record import fingerprint
from .costs import Cost, measured
from .engine import run_as_done, runs_here
from .methods import Fitted, Task, find_method
from .runs import FolderBusyError, RunFolder
from .study import Tick

ORPHANS_S = 30.0
"""Seconds to wait for the folder of a fit: the worker of a killed run ends within a second or so. Ours, with room."""


@dataclass(frozen=True)
class Piece:
    """Work that depends on nothing but its arguments."""

    work: Callable[..., Any]
    """Importable; called with the arguments and a function to report tokens to."""
    arguments: tuple[Any, ...]
    """Plain values."""
    tokens: float
    """About how many tokens pass through a model."""
    keep: Callable[[Any, Cost], None]
    """Called in the parent with what the work returned and what it took."""


def do(
    work: Callable[..., Any], arguments: tuple[Any, ...], threads: int, tick: Tick | None, *, memory: bool = True
) -> tuple[Any, Cost]:
    """Do a piece: what a worker is asked.

    Args:
        work: what to call.
        arguments: with what.
        threads: CPU threads, the parent's number, or results could differ from the parent's.
        tick: called with tokens as they pass; None in a worker.
        memory: see ``costs.measured``.

    Returns:
        What the work returned, and its cost.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return measured(lambda count: work(*arguments, count), tick or (lambda _: None), memory=memory)


def run_pieces(pieces: Sequence[Piece], *, engine: str, jobs: int, tick: Tick) -> None:
    """Run pieces, the longest first.

    Args:
        pieces: in any order.
        engine: where, see ``engine.ENGINES``.
        jobs: worker processes.
        tick: called with tokens: as they pass where the work is done here, else when a piece arrives.
    """
    ordered = sorted(pieces, key=lambda piece: -piece.tokens)
    here, threads = runs_here(engine, jobs), torch.get_num_threads()
    calls = [(piece.work, piece.arguments, threads, tick if here else None) for piece in ordered]
    for number, (found, cost) in run_as_done(do, calls, engine=engine, jobs=jobs):
        ordered[number].keep(found, cost)
        if not here:
            tick(cost.tokens)


def fit_one(name: str, task: Task, folder: Path | None, resuming: bool, tick: Tick) -> Fitted:
    """Fit a method: what a worker does.

    Args:
        name: of the method.
        task: what it is fitted to, without a run folder.
        folder: run folder of this fit's own; None to keep nothing on the way.
        resuming: go on from what an earlier session left there.
        tick: called with tokens.

    Returns:
        The fitted method.
    """
    method = find_method(name)
    with ExitStack() as stack:
        run = None if folder is None else _opened(stack, folder, name, task, resuming)
        return method.fit(
            Task(
                task.model, task.texts, task.train_length, task.lengths, task.fit_length,
                seed=task.seed, steps=task.steps, run=run, tick=tick,
            )
        )  # fmt: skip


def _opened(stack: ExitStack, folder: Path, name: str, task: Task, resuming: bool) -> RunFolder:
    texts = {role: [d.sha256 for d in getattr(task.texts, role)] for role in ("calibration", "validation")}
    command = {
        "verb": "fit a method",
        "method": name,
        "steps": task.steps,
        "lengths": [task.train_length, task.fit_length, *task.lengths],
        "texts": texts,
        "model": fingerprint(task.model),
    }
    until = time.monotonic() + ORPHANS_S
    while True:
        try:
            return stack.enter_context(
                RunFolder.open(
                    folder, command=command, seed=task.seed, fresh=not resuming, device=str(task.model.device)
                )
            )
        except FolderBusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
