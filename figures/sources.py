"""From the words of a command line to a loaded model and the texts for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mambascope.analysis.runs import InputFile
from mambascope.analysis.study import Texts
from mambascope.spectra.checkpoint import Checkpoint, open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import load, read_card, read_texts
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import Split, text_files


@dataclass(frozen=True)
class Source:
    """A model that a command was given."""

    argument: str
    """The word on the command line."""
    checkpoint: Checkpoint
    """Its files."""
    train_length: int | None
    """From the command line or the model's card."""

    @classmethod
    def open(cls, argument: str, args: argparse.Namespace) -> Source:
        """Open a model's checkpoint; reads no weights yet."""
        checkpoint = open_checkpoint(argument)
        card = read_card(checkpoint.folder)
        given = getattr(args, "train_length", None)
        return cls(argument, checkpoint, given or (card.train_length if card else None))

    def needs_train_length(self) -> int:
        """Return the training length.

        Returns:
            T in tokens.

        Raises:
            RefusedInputError: neither the command line nor the model tells it.
        """
        if self.train_length is None:
            raise RefusedInputError(
                f"{self.argument}: the checkpoint does not say what length it was trained on; "
                "give --train-length (2k for state-spaces/mamba-* and mamba2-*)"
            )
        return self.train_length

    def load(self, args: argparse.Namespace) -> Model:
        """Load the weights."""
        if args.threads:
            import torch

            torch.set_num_threads(args.threads)
        return load(self.checkpoint, device=args.device, dtype=args.dtype)

    def inputs(self) -> list[InputFile]:
        """Describe the checkpoint's files by content."""
        return [InputFile.of("checkpoint", path) for path in self.checkpoint.files]


def text_paths(args: argparse.Namespace, role: str, split: Split) -> list[Path]:
    """Return the files given for a role, or the bundled ones."""
    return list(getattr(args, role, None) or text_files(split))


def documents(source: Source, paths: Sequence[Path], args: argparse.Namespace) -> tuple[Document, ...]:
    """Read texts with the model's own tokenizer, or the one given."""
    return tuple(read_texts(source.checkpoint, list(paths), args.tokenizer))


def all_texts(source: Source, args: argparse.Namespace) -> Texts:
    """Read the three sets of a study, and refuse overlap."""
    return Texts(
        calibration=documents(source, text_paths(args, "calibration", "calibration"), args),
        validation=documents(source, text_paths(args, "validation", "validation"), args),
        test=documents(source, text_paths(args, "text", "test"), args),
    ).check()


def longest_common(texts: Texts, train_length: int, times: int = 64) -> int:
    """Return the largest T * 2^k, at most ``times`` T, that a document of every set reaches.

    Args:
        texts: the three sets.
        train_length: T.
        times: largest multiple.

    Returns:
        The target length L.

    Raises:
        RefusedInputError: not even 2 T is reached.
    """
    reach = min(max(len(d) for d in part) for part in (texts.calibration, texts.validation, texts.test))
    target = times * train_length
    while target > reach:
        target //= 2
    if target < 2 * train_length:
        raise RefusedInputError(
            f"the texts reach {reach} tokens; at least {2 * train_length} (twice the training length) are needed "
            "in each of calibration, validation and test: give longer files"
        )
    return target
