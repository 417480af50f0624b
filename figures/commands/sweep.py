"""``mambascope sweep``: model x corpus x length x method x seed, in one process, many, or an array of jobs."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_engine, add_json, add_limits, add_output
from ..console import print_json, print_table, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.sweep_cells import Cell, SweepJob
    from mambascope.analysis.sweep_rows import CellState
    from mambascope.analysis.sweep_run import SweepRun
    from mambascope.analysis.sweep_store import SweepStore


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "sweep",
        help="many cells at once: model x corpus x length x method x seed",
        description="Runs every cell of a plan that is not done, with worker processes here or on a cluster; on one "
        "kind of CPU the bytes of the results do not depend on where. A cell that fails is recorded and, unless it was "
        "refused what it reads, tried once more; the rest goes on. "
        "Results are kept by what they depend on, so a plan may grow or change: only what is new is computed. Keys of "
        "a plan: models, lengths, methods; and corpora, seeds, tasks (perplexity, passkey), data, tokenizer, device, "
        "dtype, threads, and the tables [fit] (corpus, length, target, steps), [perplexity] (documents, starts, "
        "batch), [passkey] (examples, depths) and [train_length]. On GPUs every worker gets one of its own; workers of "
        "a dask cluster use those that they were started with.",
        epilog="examples: mambascope sweep plan.toml --dry-run   |   mambascope sweep plan.toml --jobs 4 -o out   |   "
        "mambascope sweep plan.toml --engine dask://HOST:8786   |   "
        "mambascope sweep plan.toml --cell 17   # in a SLURM array: --cell $SLURM_ARRAY_TASK_ID",
    )
    parser.add_argument(
        "plan", type=Path, metavar="PLAN.toml", help="what to run; without -o results go to a folder of its name"
    )
    parser.add_argument(
        "--cell", type=int, metavar="N", help="run this cell alone, here; many processes may do so in one folder"
    )
    parser.add_argument("--list", action="store_true", help="print the numbered cells, and end")
    add_limits(parser)
    add_engine(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run a sweep, or one cell of it."""
    import torch

    from mambascope.analysis.sweep_plan import read_plan
    from mambascope.spectra.errors import RefusedInputError

    from ..sweep_files import sweep_job

    _check_options(args)
    job = sweep_job(read_plan(args.plan), args.plan)
    args.output = args.output or args.plan.with_suffix("")
    torch.set_num_threads(job.threads)
    cells = job.cells()
    if not cells:
        raise RefusedInputError(f"{args.plan}: no cell is left; every length is beyond what the corpora are read to")
    if args.cell is not None and not 1 <= args.cell <= len(cells):
        raise RefusedInputError(f"--cell {args.cell}: expected 1 to {len(cells)}")
    if args.list:
        _list(job, args)
    elif args.dry_run:
        _dry_run(job, args)
    elif args.cell is not None:
        _one(job, args)
    else:
        _all(job, args)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect beside others, before the plan is read."""
    from mambascope.analysis.engine import check_engine
    from mambascope.spectra.errors import RefusedInputError

    jobs = 1 if args.jobs is None else args.jobs
    check_engine(args.engine, jobs)
    if args.list:
        for option in ("cell", "dry_run", "fresh"):
            if getattr(args, option) not in {None, False}:
                name = option.replace("_", "-")
                raise RefusedInputError(f"--list prints all cells and runs none: give it without --{name}")
    if args.cell is not None:
        if args.fresh:
            raise RefusedInputError("--fresh drops every cell: give it without --cell")
        if args.engine not in {"loky", "sequential"} or jobs > 1:
            given = f"--jobs {jobs}" if jobs > 1 else f"--engine {args.engine}"
            raise RefusedInputError(f"--cell runs one cell in this process: give it without {given}")


def _identity(job: SweepJob) -> dict[str, Any]:
    """Return what makes a folder that of another run, which is not the plan, as that may grow; and what runs it."""
    import torch

    from mambascope.analysis.scan_engine import engine_words
    from mambascope.analysis.sweep_keys import SweepFacts

    facts = SweepFacts(job)
    archs = [facts.checkpoint(model.name).config.arch for model in job.models]
    return {
        "command": {"verb": "sweep"}, "seed": None, "device": torch.device(job.device).type, "dtype": job.dtype,
        "threads": job.threads, "engine": engine_words(archs, job.device, job.dtype),
    }  # fmt: skip


@contextmanager
def _looked_at(job: SweepJob, folder: Path) -> Generator[SweepRun, None, None]:
    """Open what a folder holds so far, without writing into one that is none of ours."""
    import tempfile

    from mambascope.analysis.sweep_run import SweepRun
    from mambascope.analysis.sweep_store import LOCK, SweepStore

    with tempfile.TemporaryDirectory() as nothing:
        there = folder if (folder / LOCK).exists() else Path(nothing)
        with SweepStore.open(there) as store:
            yield SweepRun(job, store)


def _list(job: SweepJob, args: argparse.Namespace) -> None:
    with _looked_at(job, args.output) as sweep:
        rows = [_cell_row(cell) | {"state": sweep.state(cell).word} for cell in sweep.cells]
    if args.json:
        print_json({"cells": rows})
    else:
        print_table(rows)


def _cell_row(cell: Cell) -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(cell)
    return {"cell": row.pop("number")} | row


def _dry_run(job: SweepJob, args: argparse.Namespace) -> None:
    from ..sweep_resources import plan_sweep, workers_of

    with _looked_at(job, args.output) as sweep:
        missing = sweep.missing()
        if args.cell is not None:
            key = sweep.key(sweep.cells[args.cell - 1])
            missing = [cell for cell in missing if sweep.key(cell) == key]
            args.jobs = 1
        told = f"{len(sweep.cells)} cells, {len(missing)} to do, {len(sweep.missing_fits(missing))} fits before them"
        workers, gpus = workers_of(job, sweep, args)
        if not args.json:
            print(told + (f"; times are those of one of {workers} workers on {len(gpus)} GPUs" if gpus else ""))
        plan_sweep(job, sweep, missing, workers, gpus, args)
    if args.json:
        print_json({"dry_run": True, "command": "sweep", "models": []})


def _one(job: SweepJob, args: argparse.Namespace) -> None:
    """Run one cell in this process."""
    from mambascope.analysis.sweep_folder import share, stopped
    from mambascope.analysis.sweep_rows import cell_rows
    from mambascope.analysis.sweep_store import SweepStore

    identity = _identity(job)
    share(args.output, identity)
    try:
        with SweepStore.open(args.output) as store:
            cell, state = _found(job, store, identity, args)
    except KeyboardInterrupt as stop:
        stopped(args.output, identity, SweepStore.refuse_busy, stop)
    (row,) = cell_rows([state])
    if args.json:
        print_json({"rows": [row]})
    else:
        print(f"cell {cell.number} of {len(job.cells())}, {state.word}: {cell.words()}")
    _raise_if_failed([state])


def _found(
    job: SweepJob, store: SweepStore, identity: dict[str, Any], args: argparse.Namespace
) -> tuple[Cell, CellState]:
    from mambascope.analysis.sweep_folder import goes_on
    from mambascope.analysis.sweep_run import SweepRun

    from ..sweep_resources import plan_sweep

    sweep = SweepRun(job, store)
    cell = sweep.cells[args.cell - 1]
    missing = [] if store.cell(sweep.key(cell)) else [cell]
    total = plan_sweep(job, sweep, missing, 1, (), args)
    if missing:
        goes_on(args.output, identity)
    with progress(total, f"cell {cell.number}") as tick:
        state = sweep.run_cell(
            cell.number, tick=tick, waiting=lambda: say(f"cell {cell.number}: another process is at it; waiting")
        )
    return cell, state


def _all(job: SweepJob, args: argparse.Namespace) -> None:
    """Run what is missing, and put the tables together."""
    from mambascope.analysis.costs import CostBook
    from mambascope.analysis.sweep_folder import SweepFolder
    from mambascope.analysis.sweep_run import SweepRun
    from mambascope.analysis.sweep_store import SweepStore
    from mambascope.spectra.loading import pick_device

    from ..sweep import planned, summary_lines, write_sweep
    from ..sweep_board import board
    from ..sweep_resources import plan_sweep, workers_of, works_elsewhere

    if args.fresh:  # before anything is dropped
        SweepStore.refuse_busy(args.output)
    with (
        SweepFolder.open(args.output, **_identity(job), fresh=args.fresh) as folder,
        SweepStore.open(args.output, fresh=args.fresh) as store,
        CostBook.open(folder) as book,
    ):
        sweep = SweepRun(job, store, book)
        folder.plan, folder.read = planned(job), tuple(sweep.facts.inputs())
        missing = sweep.missing()
        workers, total = 1, 0
        gpus: tuple[str, ...] = ()
        if missing:
            if not works_elsewhere(args):
                pick_device(job.device)
            workers, gpus = workers_of(job, sweep, args)
            total = plan_sweep(job, sweep, missing, workers, gpus, args)
        with board(sweep.cells, total) as watch:
            found = sweep.run(engine=args.engine, jobs=workers, gpus=gpus, watch=watch)
        write_sweep(folder, sweep, found)
    if args.json:
        print_json(found.to_dict())
    else:
        print("\n".join(summary_lines(found.summary())))
    _raise_if_failed(found.failed())


def _raise_if_failed(states: list[CellState]) -> None:
    from mambascope.analysis.sweep import SweepFailedError

    failed = [state for state in states if state.failure is not None and state.result is None]
    if failed:
        raise SweepFailedError(failed)
