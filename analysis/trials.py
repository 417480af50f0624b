"""Experiments cut into blocks of trials: run by any engine, kept by a run folder, put together in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from mambascope.simulate.claims.claim import Experiment
from mambascope.simulate.montecarlo import blocks
from mambascope.simulate.threefry import Words

from .arrays import Arrays, kept_arrays
from .engine import run_in_order
from .runs import RunFolder

Floats = npt.NDArray[np.float64]
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """Trials of one experiment."""

    name: str
    """Names the job within a run; part of file names."""
    experiment: Experiment
    """What is run."""
    trials: int
    """How many."""
    key: Words
    """Key of its random numbers."""


def planned_updates(jobs: Sequence[Job]) -> int:
    """Return the state updates of all jobs, for a progress bar."""
    return sum(job.trials * job.experiment.updates() for job in jobs)


def run_block(experiment: Experiment, key: Words, first: int, trials: int) -> Floats:
    """Run some trials: what a worker does.

    Args:
        experiment: what to run.
        key: key of its random numbers.
        first: number of the first trial.
        trials: how many.

    Returns:
        (trials, columns).
    """
    return experiment.run(key, first, trials)


def run_jobs(
    jobs: Sequence[Job],
    *,
    engine: str = "sequential",
    workers: int = 1,
    run: RunFolder | None = None,
    tick: Tick = lambda _: None,
) -> dict[str, Floats]:
    """Run every job.

    Args:
        jobs: what to run, each under a name of its own.
        engine: where, see ``engine.ENGINES``; results do not depend on it.
        workers: worker processes.
        run: keeps each block as it is finished; one that holds blocks already computes only the others.
        tick: called with state updates as they are done.

    Returns:
        (trials, columns) of each job, by name.
    """
    cells, missing = [], []
    for job in jobs:
        for first, count in blocks(job.experiment.updates(), job.trials):
            cell = f"trials/{job.name}/{first}"
            piece = (job.experiment, job.key, first, count)
            cells.append((job, cell, piece))
            if run is None or ("arrays", cell) not in run.journal:
                missing.append((cell, piece))
            else:
                tick(count * job.experiment.updates())
    found: dict[str, Floats] = {}
    results = run_in_order(run_block, [piece for _, piece in missing], engine=engine, jobs=workers)
    for (cell, piece), values in zip(missing, results, strict=True):
        found[cell] = values if run is None else kept_arrays(run, cell, partial(_named, values))["values"]
        tick(piece[3] * piece[0].updates())
    parts: dict[str, list[Floats]] = {job.name: [] for job in jobs}
    for job, cell, piece in cells:
        if cell not in found:  # kept by an earlier session; computed anew should its file be lost
            assert run is not None
            found[cell] = kept_arrays(run, cell, partial(_again, piece))["values"]
        parts[job.name].append(found.pop(cell))
    return {name: np.concatenate(blocks_of) for name, blocks_of in parts.items()}


def _named(values: Floats) -> Arrays:
    return {"values": values}


def _again(piece: tuple[Experiment, Words, int, int]) -> Arrays:
    return {"values": run_block(*piece)}
