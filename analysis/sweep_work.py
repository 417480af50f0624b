"""What a worker does: fit a method, or find the number of one cell, from files alone.

A worker opens models and texts itself and compares them, and its own software, with what the cell says it rests on, so
that a number cannot come from anything else than what is in its address, on whatever machine. The last model and a few
texts stay open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mambascope.spectra.checkpoint import Checkpoint, open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import encoder_of, load, tokenizer_file
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .compare_cells import Pass, run_pass
from .compare_keys import PasskeyAsk, ask_one
from .compare_pool import fit_one
from .engine_each import Failure
from .evaluate.bits import Floats
from .evaluate.intervals import by_document
from .evaluate.passages import cut_passages
from .evaluate.position_sums import PositionSums
from .manifest import sha256_of
from .methods import Fitted, Task
from .methods.plain import FRESH, FromFile
from .passkey.answers import decoder_of
from .passkey.grid import PasskeyPlan
from .passkey.task import PasskeyTask
from .study import Tick
from .sweep_cells import Cell, SweepJob, located, scored_documents
from .sweep_keys import Facts, haystack, read_corpus
from .sweep_machine import check_software, machine
from .texts import Texts

_open: dict[tuple[str, ...], tuple[Checkpoint, Model]] = {}
"""The last model; it goes before the next one is read, as two may not fit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker sends back."""

    value: Any
    """A fitted method, a cell's result, or a ``Failure`` that another try cannot change."""
    made_on: dict[str, Any]
    """The worker's machine."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """In place of an answer, where there is nothing to do."""

    busy: bool
    """True where another process is at it, False where it has been done in the meantime."""


def answer(work: Callable[..., Any], arguments: tuple[Any, ...], device: str, tick: Tick) -> Answer:
    """Do a part; an input that is refused will be refused again, and comes back as what came of it.

    Args:
        work: ``fit_method`` or ``find_cell``.
        arguments: its arguments.
        device: of the plan.
        tick: called with tokens.

    Returns:
        The answer.
    """
    try:
        value = work(*arguments, tick)
    except RefusedInputError as problem:
        value = Failure.of(problem)
    return Answer(value, machine(device))


def nothing(busy: bool, tick: Tick) -> Nothing:
    """Do nothing: what is sent in place of a part that others do or have done."""
    return Nothing(busy)


def _opened(job: SweepJob, model: str, facts: Facts) -> tuple[Checkpoint, Model]:
    """Return a model, once it is known that this worker would give the numbers that are asked for."""
    source, sha256 = job.model(model).source, facts["model"]
    key = (source, sha256, job.device, job.dtype)
    if key not in _open:
        _open.clear()
        checkpoint = open_checkpoint(source)
        if checkpoint.sha256() != sha256:
            raise RefusedInputError(f"{source}: a worker finds another checkpoint than the one the sweep began with")
        check_software(facts, checkpoint.config.arch, job.device, job.dtype)  # before a large model is read in vain
        _open[key] = checkpoint, load(checkpoint, device=job.device, dtype=job.dtype)
    checkpoint, opened = _open[key]
    check_software(facts, checkpoint.config.arch, job.device, job.dtype)
    return checkpoint, opened


@lru_cache(maxsize=8)
def _read(source: str, files: tuple[str, ...], tokenizer: str | None, _: tuple[object, ...]) -> tuple[Document, ...]:
    return read_corpus(open_checkpoint(source), files, tokenizer)


def _documents(job: SweepJob, cell: Cell, files: tuple[str, ...], facts: Facts) -> tuple[Document, ...]:
    paths = [located(name) for name in files]
    times = (path.stat().st_mtime_ns for path in paths if path.exists())  # workers of a cluster live long
    return _read(job.model(cell.model).source, files, job.tokenizer, (facts["tokenizer"], *times))


def _same(found: Facts, expected: Facts) -> None:
    for name, value in found.items():
        if value != expected[name]:
            raise RefusedInputError(f"{name}: a worker finds other files than those the sweep began with")


def fit_method(job: SweepJob, cell: Cell, facts: Facts, folder: Path | None, tick: Tick) -> Fitted:
    """Fit the method of a cell.

    Args:
        job: the sweep.
        cell: one of those that use the fit.
        facts: what the fit depends on.
        folder: where it keeps what it has done, and goes on from; None to keep nothing on the way.
        tick: called with tokens.

    Returns:
        The fitted method.

    Raises:
        RefusedInputError: a file is not the one that the sweep began with, or too little text.
        OtherWorkerError: this worker's software is not that of the plan.
    """
    of, base, parts = job.model(cell.model), job.corpus(job.fit_on), ("calibration", "validation")
    _, model = _opened(job, cell.model, facts)
    calibration, validation = (_documents(job, cell, getattr(base, part), facts) for part in parts)
    texts = Texts(calibration, validation, ())
    _same({part: [document.sha256 for document in getattr(texts, part)] for part in parts}, facts)
    target = facts["target_length"] or of.train_length
    task = Task(
        model, texts, of.train_length, (target,), of.fit_length, seed=facts["seed"] or 0, steps=facts["steps"]
    )  # fmt: skip
    return fit_one(job.methods[cell.method], task, folder, True, tick)


def find_cell(job: SweepJob, cell: Cell, facts: Facts, fitted: Fitted | None, tick: Tick) -> dict[str, Any]:
    """Find the number of a cell.

    Args:
        job: the sweep.
        cell: which.
        facts: what it depends on.
        fitted: its method; None where fitting reads no text and is done here.
        tick: called with tokens.

    Returns:
        The result as JSON.

    Raises:
        RefusedInputError: a file is not the one that the sweep began with, or too little text.
        OtherWorkerError: this worker's software is not that of the plan.
    """
    of = job.model(cell.model)
    checkpoint, model = _opened(job, cell.model, facts)
    method = job.method(cell.method)
    if isinstance(method, FromFile):
        _same({"settings": [["sha256", sha256_of(method.path)]]}, facts)
    if fitted is None:
        if facts["fit"] is not None:
            raise RefusedInputError(
                f"fit {facts['fit']}: was damaged while the sweep ran; the same command makes it anew"
            )
        nothing = Texts((), (), ())
        fitted = method.fit(
            Task(model, nothing, of.train_length, (cell.length,), of.fit_length, seed=cell.seed or 0)
        )  # fmt: skip
    about = {"passes": fitted.passes, "bakes": fitted.bakes}
    if cell.task == "passkey":
        tokenizer = tokenizer_file(checkpoint, job.tokenizer)
        _same({"tokenizer": tokenizer and sha256_of(tokenizer)}, facts)
        _same({"hidden_in": [sha256_of(path) for path in haystack(job.corpus(cell.corpus))]}, facts)
        found = ask_one(fitted, model, _ask(job, cell, checkpoint), tick)
        return {"solved": found, "examples": job.examples, "depths": list(job.depths), "fit": about}
    return _score(job, cell, facts, fitted, model, tick) | {"fit": about}


def _score(job: SweepJob, cell: Cell, facts: Facts, fitted: Fitted, model: Model, tick: Tick) -> dict[str, Any]:
    everything = _documents(job, cell, job.corpus(cell.corpus).test, facts)
    documents = scored_documents(everything, cell.length, job.documents)
    _same({"texts": [document.sha256 for document in documents]}, facts)
    passages = cut_passages(documents or everything, cell.length, job.starts)  # the error tells of all of them
    control = job.model(cell.model).train_length if cell.method == FRESH else None
    work = Pass(fitted, model, passages, (cell.length,), cell.length, job.batch, control)
    sums = PositionSums.of_arrays(run_pass(work, tick))
    broken = bool(np.isinf(sums.sums).any())

    def bits(values: Floats) -> list[float] | None:
        by = by_document(values, passages)  # none where a method gives losses for the last tokens alone
        return None if broken or not len(by) else [float(value) for value in by]

    return {
        "documents": passages.documents,
        "passages": len(passages),
        "broken": broken,
        "bits": bits(sums.whole(cell.length)),
        "tail_bits": bits(sums.tail(cell.length)),
        "last_bits": bits(sums.last(cell.length)),
    }


def _ask(job: SweepJob, cell: Cell, checkpoint: Checkpoint) -> PasskeyAsk:
    texts = (path.read_bytes() for path in haystack(job.corpus(cell.corpus)))
    task = PasskeyTask.of_texts(texts, encoder_of(checkpoint, job.tokenizer), seed=cell.seed or 0)
    plan = PasskeyPlan((cell.length,), job.depths, job.examples)
    return PasskeyAsk(task, decoder_of(checkpoint, job.tokenizer), plan)
