"""Addresses of a sweep's results: the SHA-256 of all that a result depends on, whatever folder or plan it stands in.

Equal facts give an equal key. So a plan that grows computes only what is new, a changed text or checkpoint makes other
cells, and what an earlier plan has left is found again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mambascope.spectra.checkpoint import Checkpoint, open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import read_texts, tokenizer_file
from mambascope.spectra.tokens import Document

from .atomic import json_bytes
from .manifest import sha256_of
from .methods import Method
from .methods.plain import FromFile
from .sweep_cells import Cell, SweepCorpus, SweepJob, located, scored_documents
from .sweep_machine import software
from .texts import Texts, refuse_fitted_on

FORMAT = 2
"""Of a cell's facts and result. To be raised when the same facts no longer give the same numbers."""
Facts = dict[str, Any]


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the address of a result.

    Args:
        facts: all that it depends on, as JSON.

    Returns:
        64 hex digits.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1})
    True
    """
    return hashlib.sha256(json_bytes(dict(facts))).hexdigest()


def plain(name: str) -> str:
    r"""Return a file's name as JSON can hold it, whatever its bytes.

    >>> plain("caf\udce9.txt")
    'caf\\xe9.txt'
    """
    return os.fsencode(name).decode(errors="backslashreplace")


def read_corpus(checkpoint: Checkpoint, files: Sequence[str], tokenizer: str | None) -> tuple[Document, ...]:
    """Read texts with a model's tokenizer, or with the one given."""
    return tuple(read_texts(checkpoint, [located(name) for name in files], tokenizer))


class SweepFacts:
    """The facts of a job's cells: each is made once and not to be changed; no file is read before a cell asks."""

    def __init__(self, job: SweepJob) -> None:
        self.job = job
        self.checkpoint = cache(self._checkpoint)
        self.documents = cache(self._documents)
        self._tokenizer = cache(self._tokenizer_hash)
        self._files = cache(sha256_of)
        self._refuse_fitted_on = cache(
            lambda path, model, corpus: refuse_fitted_on(path, self.documents(model, corpus, "test"))
        )
        self.fit = cache(self._fit)
        """What the fit of a cell's method depends on; None where fitting reads no text and is done with the cell."""
        self.cell = cache(self._cell)
        """What a cell depends on; refused where one of its texts is among those that its method or its file of
        scales was fitted on."""

    def _checkpoint(self, model: str) -> Checkpoint:
        return open_checkpoint(self.job.model(model).source)

    def _documents(self, model: str, corpus: str, part: str) -> tuple[Document, ...]:
        files = getattr(self.job.corpus(corpus), part)
        return read_corpus(self.checkpoint(model), files, self.job.tokenizer)

    def _tokenizer_hash(self, model: str) -> str | None:
        path = tokenizer_file(self.checkpoint(model), self.job.tokenizer)
        return None if path is None else sha256_of(path)

    def inputs(self) -> list[dict[str, str]]:
        """Return every file that the job reads, with the hash of its content."""
        found = [
            {"role": "checkpoint", "name": m.name, "sha256": self.checkpoint(m.name).sha256()} for m in self.job.models
        ]
        for model in self.job.models:
            if (tokenizer := self._tokenizer(model.name)) is not None:
                found.append({"role": "tokenizer", "name": model.name, "sha256": tokenizer})
        files = [
            (f"{corpus.name}/{part}", located(name))
            for corpus in self.job.corpora
            for part in ("calibration", "validation", "test")
            for name in getattr(corpus, part)
        ]
        methods = (self.job.method(label) for label in self.job.methods)
        files += [("scales", method.path) for method in methods if isinstance(method, FromFile)]
        found += [{"role": role, "name": plain(path.name), "sha256": self._files(str(path))} for role, path in files]
        return found

    def _of_model(self, model: str) -> Facts:
        job = self.job
        return {
            "format": FORMAT,
            "model": self.checkpoint(model).sha256(),
            "tokenizer": self._tokenizer(model),
            "train_length": job.model(model).train_length,
            "dtype": job.dtype,
            "device": torch.device(job.device).type,
            "threads": job.threads,
            **software(self.checkpoint(model).config.arch, job.device, job.dtype),
        }

    def _of_method(self, method: Method) -> Facts:
        if isinstance(method, FromFile):
            return {"method": "scales", "settings": [["sha256", self._files(str(method.path))]]}
        return {"method": method.name, "settings": [[s.name, s.value] for s in method.describe().settings]}

    def _fit(self, cell: Cell) -> Facts | None:
        job, method = self.job, self.job.method(cell.method)
        if not method.reads:  # a fit that costs nothing is done with each cell
            return None
        texts = self.fit_texts(cell.model)
        return {
            "what": "fit",
            **self._of_model(cell.model),
            **self._of_method(method),
            "calibration": [document.sha256 for document in texts.calibration],
            "validation": [document.sha256 for document in texts.validation],
            "fit_length": job.model(cell.model).fit_length,
            "target_length": job.fit_target(cell),
            "steps": job.steps,
            "seed": job.fit_seed(cell),
        }

    def fit_texts(self, model: str) -> Texts:
        """Return the texts that methods are fitted on; the tests are none of their business."""
        calibration, validation = (self.documents(model, self.job.fit_on, p) for p in ("calibration", "validation"))
        return Texts(calibration, validation, ())

    def _cell(self, cell: Cell) -> Facts:
        job, fit, method = self.job, self.fit(cell), self.job.method(cell.method)
        scored = self.documents(cell.model, cell.corpus, "test")
        if fit is not None:
            texts = self.fit_texts(cell.model)
            Texts(texts.calibration, texts.validation, scored).check()
        if isinstance(method, FromFile):
            self._refuse_fitted_on(method.path, cell.model, cell.corpus)
        common: Facts = {
            "what": cell.task,
            **self._of_model(cell.model),
            **self._of_method(method),
            "length": cell.length,
            "seed": cell.seed,
            "fit": None if fit is None else key_of(fit),
        }
        if cell.task == "passkey":
            hidden_in = haystack(job.corpus(cell.corpus))
            return common | {
                "hidden_in": [self._files(str(path)) for path in hidden_in],
                "examples": job.examples,
                "depths": list(job.depths),
            }
        kept = scored_documents(scored, cell.length, job.documents)
        return common | {
            "texts": [document.sha256 for document in kept], "starts": job.starts, "batch": job.batch,
        }  # fmt: skip


def haystack(corpus: SweepCorpus) -> list[Path]:
    """Return the texts that keys are hidden in.

    Args:
        corpus: whose test texts.

    Returns:
        Their files.

    Raises:
        RefusedInputError: they are ready-made ids, in which no key can be hidden.
    """
    paths = [located(name) for name in corpus.test]
    for path in paths:
        if path.suffix in {".npy", ".jsonl"}:
            raise RefusedInputError(f"{path}: keys are hidden in texts, not in ready-made ids")
    return paths
