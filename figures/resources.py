"""Memory and time of a command, told before it runs; what cannot fit is refused, and ``--dry-run`` ends here."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mambascope.analysis.manifest import MANIFEST
from mambascope.analysis.resource_limits import Limit, held_bytes, host_limit, in_bytes, limit_of
from mambascope.analysis.resources import (
    Need,
    Work,
    check_need,
    in_time,
    need_of,
    times,
    together,
    tokens_per_second,
)
from mambascope.spectra.loading import DTYPES, pick_device
from mambascope.spectra.model import Model
from mambascope.spectra.scan import Engine

from .console import print_json, say
from .sources import Source, set_threads


def shape_of(source: Source, args: argparse.Namespace) -> Model:
    """Return a model of the asked-for dtype without weights, for plans that ask for its shape."""
    with torch.device("meta"):
        model = Model(source.checkpoint.config, name=source.argument, train_length=source.train_length)
    return model.to(DTYPES[args.dtype])


def tell_no_model(source: Source, args: argparse.Namespace) -> None:
    """Say that a command reads the rates alone, and end the program.

    Args:
        source: the model.
        args: the command's options.

    Raises:
        SystemExit: always, with code 0.
    """
    config = source.checkpoint.config
    size = config.n_layer * math.prod(config.A_shape) * 4
    told = f"reads the A_log tensors alone ({in_bytes(size)}) and runs no model"
    if args.json:
        print_json({"dry_run": True, "command": args.command, "models": [], "memory": {"peak_bytes": size}})
    else:
        print(f"{args.command} {source.argument}: {told}")
    raise SystemExit(0)


@dataclass(frozen=True)
class Resources:
    """What a command will take."""

    work: dict[str, Work]
    """By the model's word on the command line."""
    need: Need
    """Memory, of the model that takes most."""
    limit: Limit | None
    """What may be taken."""
    workers: int
    """Processes that share the work."""
    resumed: bool = False
    """Whether the run folder may hold a part of it already."""

    def load(self, source: Source, args: argparse.Namespace) -> Model:
        """Load a model and say about how long its work will take."""
        model = source.load(args)
        _, told = self._time(model, source)
        say(f"{args.command} {source.argument}: {told}; memory: {self._memory()}")
        if (engine := source.engine(args)).name == "blocked":
            say(f"{args.command} {source.argument}: scans run in plain torch; {engine.why}{_remedy(engine)}")
        return model

    def _time(self, model: Model, source: Source) -> tuple[float, str]:
        work = self.work[source.argument]
        speed = tokens_per_second(model, work)
        seconds = work.tokens / speed / self.workers
        shared = f" a worker, {self.workers} of them" if self.workers > 1 else ""
        done = ", less what the run folder has" if self.resumed else ""
        return seconds, (
            f"about {in_time(seconds)} for {work.tokens:,.0f} tokens ({speed:,.0f} a second in a warm-up{shared}){done}"
        )

    def _memory(self) -> str:
        room = "" if self.limit is None else f", {in_bytes(self.limit.room_bytes)} {self.limit.origin}"
        return f"about {in_bytes(self.need.peak_bytes)} ({self.need.words()}){room}"

    def tell_and_end(self, sources: Sequence[Source], args: argparse.Namespace) -> None:
        """Print what would be run, and end the program: nothing is written.

        Args:
            sources: the models.
            args: the command's options.

        Raises:
            SystemExit: always, with code 0.
        """
        rows = []
        for source in sources:
            model = source.load(args)
            seconds, told = self._time(model, source)
            rows.append({"model": source.argument, "tokens": self.work[source.argument].tokens, "seconds": seconds})
            del model  # before the next one is loaded
            if not args.json:
                print(f"{args.command} {source.argument}: {told}")
        if args.json:
            limit = None if self.limit is None else {"bytes": self.limit.room_bytes, "origin": self.limit.origin}
            memory = {"peak_bytes": self.need.peak_bytes, "parts": self.need.parts, "held_bytes": held_bytes()}
            print_json({"dry_run": True, "command": args.command, "models": rows, "memory": memory, "limit": limit})
        else:
            print(f"memory: {self._memory()}")
            print("nothing was run or written (--dry-run)")
        raise SystemExit(0)


def _remedy(engine: Engine) -> str:
    return f"; for the faster one: {engine.install}" if engine.install else ""


def plan_resources(
    args: argparse.Namespace, jobs: Sequence[tuple[Source, Work]], *, at_once: bool = False, workers: int = 1
) -> Resources:
    """Estimate what a command takes before any weight is read; refuse it where it cannot fit.

    Args:
        args: the command's options.
        jobs: every model and what is run through it.
        at_once: all models are loaded at the same time, not one after the other.
        workers: processes that hold a model each, beside this one.

    Returns:
        The estimate; models are then loaded through it.

    Raises:
        MemoryNeedError: there is less memory than that.
        SystemExit: with ``--dry-run``, after the plan was printed.
    """
    set_threads(args)
    device, dtype = pick_device(args.device), DTYPES[args.dtype]
    needs = [need_of(s.argument, s.checkpoint, work, dtype=dtype, device=device.type) for s, work in jobs]
    need = together(needs) if at_once else max(needs, key=lambda each: each.peak_bytes)
    if workers > 1:
        need = times(need, workers)
    limit = limit_of(device, args.max_memory)
    check_need(need, limit)
    if device.type == "cuda":  # weights pass through the host's memory
        check_need(Need(need.name, {"weights": need.parts["weights"]}, need.loading_bytes), host_limit())
    work: dict[str, Work] = {}
    for source, each in jobs:
        work[source.argument] = work[source.argument].and_then(each) if source.argument in work else each
    resumed = args.output is not None and not args.fresh and os.path.exists(args.output / MANIFEST)
    found = Resources(work, need, limit, max(1, workers), resumed)
    if args.dry_run:
        found.tell_and_end([source for source, _ in jobs], args)
    return found
