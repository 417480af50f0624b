"""The run folder of a command that reads no model: theory and simulation."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mambascope.analysis.engine import default_jobs
from mambascope.analysis.runs import InputFile, RunFolder


def workers_of(args: argparse.Namespace) -> int:
    """Return ``--jobs``, or the number of cores."""
    return default_jobs() if args.jobs is None else int(args.jobs)


@contextmanager
def theory_folder(
    args: argparse.Namespace, command: Mapping[str, Any], seed: int, inputs: Sequence[InputFile] = ()
) -> Generator[RunFolder | None, None, None]:
    """Open the run folder given with ``-o``.

    Args:
        args: the command's options.
        command: what is run, beside the verb; neither engine nor workers, which do not matter.
        seed: the root seed.
        inputs: files that are read; a changed content makes a different run.

    Yields:
        The folder; None without ``-o``.
    """
    if args.output is None:
        yield None
        return
    spec = {"verb": args.command} | dict(command)
    with RunFolder.open(
        args.output, command=spec, seed=seed, fresh=args.fresh, dtype="float64", inputs=inputs
    ) as folder:
        yield folder
