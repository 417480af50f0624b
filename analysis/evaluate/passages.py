"""Passages cut from documents: one from the start of each, or several spread over it.

Passages of one document are no independent texts: they keep the number of the document they were cut from, so that
whatever is averaged is averaged by document first. A passage may be shorter than the others, where its document is; a
length is then reported over those that reach it, as the perplexity protocol of Mamba Modulation has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.model import Tokens
from mambascope.spectra.tokens import Document

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Passages:
    """Texts side by side, and which of them belong together."""

    tokens: Ints
    """Ids, (passages, longest length); what lies beyond a passage's reach is never read."""
    document: Ints
    """Index of the document each was cut from, (passages,)."""
    names: tuple[str, ...]
    """Names of the documents that a passage was cut from."""
    reach: Ints | None = None
    """Tokens of each passage, (passages,). Default: all of them reach the longest length."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens of the longest passage."""
        return int(self.tokens.shape[1])

    @property
    def reaches(self) -> Ints:
        """Tokens of each passage, (passages,)."""
        return np.full(len(self), self.length) if self.reach is None else self.reach

    @property
    def documents(self) -> int:
        """Documents that a passage was cut from."""
        return len(np.unique(self.document))

    def part(self, rows: Ints) -> Passages:
        """Return some of the passages."""
        longest = int(self.reaches[rows].max())
        return Passages(self.tokens[rows, :longest], self.document[rows], self.names, self.reaches[rows])

    def batches(self, batch: int) -> list[Ints]:
        """Group passages that reach equally far, for running side by side.

        Args:
            batch: passages of a group at most.

        Returns:
            Their indices, the longest passages first.
        """
        groups: list[Ints] = []
        for reach in sorted(set(self.reaches.tolist()), reverse=True):
            rows = np.flatnonzero(self.reaches == reach)
            groups += [rows[first : first + batch] for first in range(0, len(rows), batch)]
        return groups

    @classmethod
    def of_tokens(cls, tokens: Tokens) -> Passages:
        """Take each row, (documents, length), as a document of its own."""
        ids = tokens.cpu().numpy() if isinstance(tokens, torch.Tensor) else tokens
        return cls(ids, np.arange(len(ids)), tuple(f"document {k + 1}" for k in range(len(ids))))

    def __repr__(self) -> str:
        return f"Passages({len(self)} of up to {self.length} tokens, from {self.documents} documents)"


def cut_passages(
    documents: Sequence[Document],
    length: int,
    starts: int = 1,
    *,
    shorter: Sequence[int] = (),
    bos: int | None = None,
) -> Passages:
    """Cut passages that do not overlap.

    Args:
        documents: those with fewer tokens than any of the lengths are left out.
        length: tokens that the model reads of each passage.
        starts: passages of a document at most, the first at its start, the last at its end, the others evenly between;
            a document of n tokens gives n // length at most. Default: 1, the first tokens of each document, as the
            protocols of Mamba Modulation and MambaExtend have it.
        shorter: lengths to fall back to, the longest that fits, for documents that do not reach ``length``.
            Default: none, such documents are left out.
        bos: id put before each passage, whose last token then drops out: it is read and not scored, as in the
            perplexity protocol of Mamba Modulation. Default: none.

    Returns:
        The passages, those of a document side by side.

    Raises:
        TextError: no document reaches the length.
        RefusedInputError: fewer than one start, or a negative id.
    """
    if starts < 1:
        raise RefusedInputError(f"starts {starts}: expected at least 1 passage a document")
    if bos is not None and bos < 0:
        raise RefusedInputError(f"bos {bos}: expected a token id, 0 or above")
    if all(len(document) < length for document in documents):
        raise TextError(_none_reaches([len(document) for document in documents], length))
    fitting = [max((n for n in (*shorter, length) if n <= min(length, len(d))), default=0) for d in documents]
    kept = [(document, n) for document, n in zip(documents, fitting, strict=True) if n]
    before = [] if bos is None else [bos]
    where = [(k, first) for k, (document, n) in enumerate(kept) for first in _starts(len(document), n, starts)]
    types = [np.min_scalar_type(max(before, default=0)), *(document.ids.dtype for document, _ in kept)]
    tokens = np.zeros((len(where), length), np.result_type(*types))
    for row, (k, first) in enumerate(where):
        document, n = kept[k]
        tokens[row, : len(before)] = before
        tokens[row, len(before) : n] = document.ids[first : first + n - len(before)]
    index = np.array([k for k, _ in where])
    reach = np.array([kept[k][1] for k in index])
    return Passages(tokens, index, tuple(document.name for document, _ in kept), reach)


def _starts(tokens: int, length: int, most: int) -> list[int]:
    """Return where passages start: neighbours are at least ``length`` apart, as most * length <= tokens.

    >>> _starts(100, 30, 5)
    [0, 35, 70]
    """
    count = min(most, tokens // length)
    return [k * (tokens - length) // max(1, count - 1) for k in range(count)]


def stack_documents(documents: Sequence[Ints], length: int) -> Ints:
    """Cut documents to one length.

    Args:
        documents: ids of each.
        length: tokens to keep.

    Returns:
        Ids, (documents, length), of those that are long enough.

    Raises:
        TextError: none is.
    """
    kept = [ids[:length] for ids in documents if len(ids) >= length]
    if not kept:
        raise TextError(_none_reaches([len(ids) for ids in documents], length))
    return np.stack(kept)


def _none_reaches(lengths: Sequence[int], length: int) -> str:
    return (
        f"0 of {len(lengths)} documents reach {length} tokens (the longest has {max(lengths, default=0)}); "
        "give longer texts or a shorter --lengths"
    )
