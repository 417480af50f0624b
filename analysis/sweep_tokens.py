"""About how many tokens each part of a sweep runs through a model, for the time that is left."""

from __future__ import annotations

import torch

from mambascope.spectra.errors import MambascopeError
from mambascope.spectra.loading import DTYPES
from mambascope.spectra.model import Model

from .evaluate.passages import cut_passages
from .methods import Task
from .methods.plain import FRESH
from .sweep_cells import Cell, scored_documents
from .sweep_keys import SweepFacts


def cell_tokens(facts: SweepFacts, cell: Cell) -> int:
    """Estimate the tokens of a cell, without its fit; 1 at least, also for one that will fail."""
    job = facts.job
    if cell.task == "passkey":
        return cell.length * job.examples * len(job.depths)
    documents = scored_documents(facts.documents(cell.model, cell.corpus, "test"), cell.length, job.documents)
    if not documents:
        return 1
    passages = len(cut_passages(documents, cell.length, job.starts))
    return passages * cell.length * (2 if cell.method == FRESH else 1)


def fit_tokens(facts: SweepFacts, cell: Cell) -> int:
    """Estimate the tokens of the fit of a cell's method; 1 at least, also for one that will fail."""
    job, method = facts.job, facts.job.method(cell.method)
    of, texts = job.model(cell.model), facts.fit_texts(cell.model)
    with torch.device("meta"):
        shape = Model(facts.checkpoint(cell.model).config, name=cell.model, train_length=of.train_length)
    target = job.fit_target(cell) or of.train_length
    task = Task(
        shape.to(DTYPES[job.dtype]), texts, of.train_length, (target,), of.fit_length, steps=job.steps
    )  # fmt: skip
    try:
        return max(1, round(method.expected_tokens(task)))
    except MambascopeError:  # too little text, say: the fit will tell
        return 1
