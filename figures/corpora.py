"""Which texts a corpus has: the bundled ones, those of a folder, or a user's own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import CORPORA, Split, text_files

PARTS = ("calibration", "validation", "test")
OWN = "validation"
"""What texts given with ``--validation`` are called."""


def corpus_files(corpus: str, split: Split, data: Path | None = None) -> list[Path]:
    """Return the texts of a corpus.

    Args:
        corpus: name of a bundled corpus, or of a folder below ``data``, which takes the place of a bundled one.
        split: which part.
        data: holds ``<corpus>/{calibration,validation,test}/*.txt``.

    Returns:
        Files in the order of their names.

    Raises:
        RefusedInputError: no such corpus, or no text in that part of it.
    """
    if data is not None and (data / corpus).is_dir():
        if found := sorted((data / corpus / split).glob("*.txt")):
            return found
        raise RefusedInputError(f"{data / corpus / split}: no .txt file there; expected DIR/{corpus}/{split}/*.txt")
    for known in CORPORA:
        if corpus == known:
            return text_files(split, known)
    where = "give --data DIR for others" if data is None else f"{data} has no folder of that name"
    raise RefusedInputError(f"corpus {corpus}: bundled are {', '.join(CORPORA)}; {where}")


def corpora_below(folder: Path) -> dict[str, list[Path]]:
    """Return the validation texts of every corpus below a folder.

    Args:
        folder: holds ``<corpus>/{calibration,validation,test}/*.txt``; what has not all three parts is no corpus.

    Returns:
        Files by corpus, both in the order of their names.

    Raises:
        RefusedInputError: no folder, or no corpus in it.
    """
    found = {
        each.name: files
        for each in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if all((each / part).is_dir() for part in PARTS) and (files := sorted((each / "validation").glob("*.txt")))
    }
    if not found:
        raise RefusedInputError(
            f"--data {folder}: expected a folder that holds CORPUS/calibration, CORPUS/validation and CORPUS/test with "
            "*.txt files in them"
        )
    return found


def validation_corpora(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Return the files that rules are judged on, by corpus.

    Args:
        args: options ``validation`` (takes the place of the bundled texts) and ``data`` (adds corpora; one of the same
            name takes the place of a bundled one).

    Returns:
        Files by corpus.
    """
    own = list(getattr(args, "validation", None) or [])
    found = {OWN: own} if own else {corpus: corpus_files(corpus, "validation") for corpus in CORPORA}
    return found | (corpora_below(args.data) if args.data else {})


def reaching(
    corpora: Mapping[str, Sequence[Document]], length: int
) -> tuple[dict[str, Sequence[Document]], dict[str, str]]:
    """Tell the corpora that can be read at a length from those that cannot.

    Args:
        corpora: documents by corpus.
        length: tokens of a document that are read.

    Returns:
        Those with a document of that length, and why each of the others is left out.
    """
    kept = {name: of for name, of in corpora.items() if any(len(d) >= length for d in of)}
    left = {
        name: f"none of its {len(of)} documents reaches {length:,} tokens (the longest has {max(map(len, of)):,})"
        for name, of in corpora.items()
        if name not in kept
    }
    return kept, left
