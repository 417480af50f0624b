"""Workers, GPUs, memory and time of a sweep, before it starts."""

from __future__ import annotations

import argparse
import os

import torch

from mambascope.analysis.engine import default_jobs
from mambascope.analysis.engine_slots import gpus_of
from mambascope.analysis.passkey.answers import BATCH, BATCH_ON_GPU
from mambascope.analysis.planned_work import methods_work
from mambascope.analysis.resources import Work
from mambascope.analysis.sweep_cells import Cell, SweepJob
from mambascope.analysis.sweep_run import SweepRun
from mambascope.analysis.sweep_tokens import cell_tokens, fit_tokens

from .commands.compare import SMALL_BYTES
from .resources import plan_resources
from .sources import Source


def workers_of(job: SweepJob, sweep: SweepRun, args: argparse.Namespace) -> tuple[int, tuple[str, ...]]:
    """Return how many processes work, and which GPU each of them gets: one, where there are several."""
    if args.engine == "sequential":
        return 1, ()
    if job.device == "cuda":
        gpus = gpus_of(os.environ, torch.cuda.device_count())
        return (args.jobs or max(1, len(gpus))), gpus
    files = [sweep.facts.checkpoint(model.name).files for model in job.models]
    small = all(sum(path.stat().st_size for path in of) <= SMALL_BYTES for of in files)
    usual = default_jobs() if small and torch.device(job.device).type == "cpu" else 1
    return (args.jobs or usual), ()


def plan_sweep(
    job: SweepJob, sweep: SweepRun, missing: list[Cell], workers: int, gpus: tuple[str, ...], args: argparse.Namespace
) -> int:
    """Refuse what does not fit into memory, and end the program with ``--dry-run``.

    Args:
        job: the sweep.
        sweep: what is done of it.
        missing: cells that will be run.
        workers: processes.
        gpus: of this machine, that they get.
        args: the command's options.

    Returns:
        About how many tokens pass through models.

    Raises:
        MemoryNeedError: there is less memory than that.
        SystemExit: with ``--dry-run``, after the plan was printed.
    """
    fits, total = sweep.missing_fits(missing), 0
    works: list[tuple[Source, Work]] = []
    for model in job.models:
        cells = [cell for cell in missing if cell.model == model.name]
        if not cells:
            continue
        tokens = sum(cell_tokens(sweep.facts, cell) for cell in cells)
        tokens += sum(fit_tokens(sweep.facts, cell) for cell in fits if cell.model == model.name)
        asked = BATCH_ON_GPU if job.device.startswith("cuda") else BATCH
        rows = max(asked if cell.task == "passkey" else job.batch for cell in cells)
        methods = {cell.method: job.method(cell.method) for cell in cells}.values()
        lengths = [cell.length for cell in cells]
        work = methods_work(methods, tokens, rows, lengths, model.train_length, model.fit_length)
        works.append((Source(model.name, sweep.facts.checkpoint(model.name), model.train_length), work))
        total += tokens
    if works and (args.dry_run or not works_elsewhere(args)):
        asked_of = {"device": job.device, "dtype": job.dtype, "threads": job.threads, "output": None}
        here = -(-workers // max(1, len(gpus)))  # that share one machine's memory, or one GPU's
        plan_resources(argparse.Namespace(**vars(args) | asked_of), works, workers=here)
    return total


def works_elsewhere(args: argparse.Namespace) -> bool:
    """Return True where others' machines do the work, whose memory and GPUs are not known here."""
    engine: str = args.engine
    return engine == "ray" or engine.startswith("dask://")
