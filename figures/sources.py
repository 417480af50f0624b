"""From the words of a command line to a loaded model and the texts for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mambascope.analysis.runs import InputFile, RunFolder
from mambascope.analysis.scan_engine import engine, engine_words
from mambascope.analysis.study import Texts
from mambascope.spectra.checkpoint import Checkpoint, open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
from mambascope.spectra.loading import load, pick_device, read_card, read_texts, tokenizer_file
from mambascope.spectra.model import Model
from mambascope.spectra.scan import Engine
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import Split, text_files

from .console import say


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
    def open(
        cls, argument: str, args: argparse.Namespace, opener: Callable[[str], Checkpoint] = open_checkpoint
    ) -> Source:
        """Open a model's checkpoint.

        Args:
            argument: the word on the command line.
            args: the command's options.
            opener: opens it; ``open_any`` takes foreign models, too.

        Returns:
            The source; no weights are read yet.

        Raises:
            RefusedInputError: a training length below 2.
        """
        checkpoint = opener(argument)
        card = read_card(checkpoint.folder)
        given = getattr(args, "train_length", None)
        if given is not None and given < 2:
            raise RefusedInputError(f"--train-length {given}: expected at least 2 tokens")
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
        return load(self.checkpoint, device=args.device, dtype=args.dtype)

    def engine(self, args: argparse.Namespace) -> Engine:
        """Return what will run the model's scans, and why."""
        return engine(self.checkpoint.config.arch, str(pick_device(args.device)), args.dtype)

    def inputs(self, args: argparse.Namespace) -> list[InputFile]:
        """Describe by content the checkpoint's files and the tokenizer that is used."""
        described = [InputFile.of("checkpoint", path) for path in self.checkpoint.files]
        tokenizer = tokenizer_file(self.checkpoint, args.tokenizer)
        return described + ([InputFile.of("tokenizer", tokenizer)] if tokenizer else [])


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


def set_threads(args: argparse.Namespace) -> int:
    """Apply ``--threads``.

    Args:
        args: the command's options.

    Returns:
        CPU threads in use.

    Raises:
        RefusedInputError: fewer than one.
    """
    if args.threads is not None:
        if args.threads < 1:
            raise RefusedInputError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    return torch.get_num_threads()


@contextmanager
def run_folder(
    args: argparse.Namespace,
    sources: Sequence[Source],
    command: Mapping[str, Any],
    texts: Mapping[str, Sequence[Path]],
    *,
    runs_model: bool = True,
) -> Generator[RunFolder | None, None, None]:
    """Open the run folder given with ``-o``, before any work is done.

    Args:
        args: the command's options.
        sources: models that are read.
        command: what is run, beside the verb.
        texts: files read, by role.
        runs_model: whether tokens go through the models.

    Yields:
        The folder; None without ``-o``.
    """
    threads, device = set_threads(args), str(pick_device(args.device))
    if args.output is None:
        yield None
        return
    inputs = [each for source in sources for each in source.inputs(args)]
    # of foreign models transformers runs everything
    ours = [s.checkpoint.config.arch for s in sources if not isinstance(s.checkpoint, ForeignCheckpoint)]
    inputs += [InputFile.of(role, path) for role, paths in texts.items() for path in paths]
    with RunFolder.open(
        args.output,
        command={"verb": args.command} | dict(command),
        seed=None,
        fresh=args.fresh,
        inputs=inputs,
        device=device,
        dtype=args.dtype,
        engine=engine_words(ours, device, args.dtype) if runs_model else "",
        threads=threads,
    ) as folder:
        yield folder


def tell_how_many_reach(texts: Sequence[Document], length: int, role: str) -> None:
    """Say on stderr if some documents are too short and left out."""
    reach = sum(len(d) >= length for d in texts)
    if reach < len(texts):
        say(f"{role}: {reach} of {len(texts)} documents reach {length} tokens; the others are left out")


def default_target(texts: Texts, train_length: int, times: int = 64) -> int:
    """Return the largest T * 2^k, at most ``times`` T, that half of the documents of every set reach.

    Args:
        texts: the three sets.
        train_length: T.
        times: largest multiple.

    Returns:
        The target length L.

    Raises:
        RefusedInputError: not even 2 T is reached.
    """
    sets = (texts.calibration, texts.validation, texts.test)
    reach = min(sorted(len(d) for d in part)[len(part) // 2] for part in sets)
    target = times * train_length
    while target > reach:
        target //= 2
    if target < 2 * train_length:
        raise RefusedInputError(
            f"half of the texts reach {reach} tokens; at least {2 * train_length} (twice the training length) are "
            "needed in each of calibration, validation and test: give longer files"
        )
    return target


def check_target(texts: Texts, train_length: int, target: int) -> int:
    """Return a target length that was asked for if the texts allow it.

    Args:
        texts: the three sets.
        train_length: T.
        target: L.

    Returns:
        The target length.

    Raises:
        RefusedInputError: below twice T, or a set has no document of that length.
    """
    if target < 2 * train_length:
        raise RefusedInputError(
            f"--target-length {target}: expected at least {2 * train_length}, twice the training length"
        )
    for role in ("calibration", "validation", "test"):
        part = getattr(texts, role)
        if all(len(d) < target for d in part):
            raise RefusedInputError(
                f"0 of {len(part)} {role} documents reach {target} tokens (the longest has {max(map(len, part))}); "
                "give longer texts or a shorter --target-length"
            )
        tell_how_many_reach(part, target, role)
    return target
