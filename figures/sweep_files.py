"""From the words of a plan to models, files and lengths in tokens."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mambascope.analysis.sweep_cells import SweepCorpus, SweepJob, SweepModel, portable
from mambascope.analysis.sweep_plan import Length, SweepPlan
from mambascope.spectra.checkpoint import bundled_models, open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import pick_device, read_card
from mambascope.spectra.zoo import Split

from .arguments import MOST_THREADS, length
from .compare_lengths import length_or_times, lengths_or_times
from .corpora import corpus_files


def sweep_job(plan: SweepPlan, path: Path) -> SweepJob:
    """Turn the words of a plan into what a worker needs.

    Args:
        plan: as it was read.
        path: where; folders and files in it are named from there.

    Returns:
        The job.

    Raises:
        RefusedInputError: a model, corpus or length that cannot be; the message names the plan and its key.
    """
    base = path.parent
    methods = plan.chosen(base)
    fits = any(method.reads for method in methods.values())
    corpora = tuple(_corpus(plan, word, path, fits) for word in plan.corpora)
    names = [corpus.name for corpus in corpora]
    fit_on = plan.fit.corpus or names[0]
    if fit_on not in names:
        raise RefusedInputError(f"{path}: fit.corpus: {fit_on!r} is none of the corpora, {', '.join(names)}")
    if len(set(names)) < len(names):
        raise RefusedInputError(f"{path}: corpora: one is named twice in {', '.join(names)}")
    tokenizer = None if plan.tokenizer is None else str((base / plan.tokenizer).resolve())
    if plan.threads > MOST_THREADS:
        raise RefusedInputError(f"{path}: threads: {plan.threads}; expected at most {MOST_THREADS}")
    if tokenizer is not None and not Path(tokenizer).is_file():
        raise RefusedInputError(f"{path}: tokenizer: there is no file {tokenizer}")
    return SweepJob(
        models=tuple(_model(plan, word, path) for word in plan.models),
        corpora=corpora,
        methods={label: method.name for label, method in methods.items()},
        fit_on=fit_on,
        seeds=plan.seeds,
        tasks=plan.tasks,
        steps=plan.fit.steps,
        documents=plan.perplexity.documents,
        starts=plan.perplexity.starts,
        batch=plan.perplexity.batch,
        examples=plan.passkey.examples,
        depths=plan.passkey.depths,
        tokenizer=tokenizer,
        device=_device(plan, path),
        dtype=plan.dtype,
        threads=plan.threads,
    )


def _device(plan: SweepPlan, path: Path) -> str:
    """Return the device, which this machine need not have: it may only put tables together."""
    if plan.device == "auto":
        return pick_device("auto").type
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", plan.device):
        raise RefusedInputError(f"{path}: device: {plan.device!r}: expected auto, cpu, cuda or cuda:N")
    return plan.device


def _model(plan: SweepPlan, word: str, path: Path) -> SweepModel:
    own = path.parent / word
    try:
        checkpoint = open_checkpoint(own if (own / "config.json").exists() else word)
    except RefusedInputError as error:
        raise RefusedInputError(f"{path}: models: {error}") from error
    card = read_card(checkpoint.folder)
    told = plan.train_length.get(word)
    T = _tokens(told, 1, path, f'train_length."{word}"') if told is not None else card.train_length if card else None
    if T is None:
        raise RefusedInputError(
            f"{path}: {word} does not say what length it was trained on; add a table [train_length] with "
            f'"{word}" = "2k" (2k for state-spaces/mamba-* and mamba2-*)'
        )
    if T < 2:
        raise RefusedInputError(f'{path}: train_length."{word}": expected at least 2 tokens')
    lengths = _lengths(plan.lengths, T, path)
    if lengths[0] < 2:
        raise RefusedInputError(f"{path}: lengths: 1 token is read and not scored; expected at least 2")
    fit_length = _tokens(plan.fit.length, T, path, "fit.length")
    if fit_length < 2 * T:
        raise RefusedInputError(
            f"{path}: fit.length: {fit_length} tokens; expected at least {2 * T}, twice the training length of {word}"
        )
    target = None if plan.fit.target is None else _tokens(plan.fit.target, T, path, "fit.target")
    if target is not None and target < T:
        raise RefusedInputError(
            f"{path}: fit.target: {target} tokens; expected at least {T}, the training length of {word}"
        )
    bundled = word in bundled_models() and not (own / "config.json").exists()
    source = word if bundled or checkpoint.folder is None else str(checkpoint.folder.resolve())
    return SweepModel(word, source, T, tuple(lengths), fit_length, target)


def _lengths(words: tuple[Length, ...], train_length: int, path: Path) -> list[int]:
    try:
        return lengths_or_times(",".join(map(str, words))).at(train_length)
    except argparse.ArgumentTypeError as error:
        raise RefusedInputError(f"{path}: lengths: {error}") from None


def _tokens(word: Length, train_length: int, path: Path, key: str) -> int:
    try:
        return length_or_times(str(word)).at(train_length)
    except argparse.ArgumentTypeError as error:
        raise RefusedInputError(f"{path}: {key}: {error}") from None


def _corpus(plan: SweepPlan, word: str, path: Path, fits: bool) -> SweepCorpus:
    """Return the texts of a corpus; those to fit on only where something is fitted on it."""
    name, colon, limit = word.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RefusedInputError(
            f"{path}: corpora: {word!r}: expected a name of letters and digits, as books or gov:32k"
        )
    try:
        longest = length(limit) if colon else None
    except argparse.ArgumentTypeError as error:
        raise RefusedInputError(f"{path}: corpora: {word!r}: {error}") from None
    data = None if plan.data is None else path.parent / plan.data
    fits_here = fits and name == (plan.fit.corpus or plan.corpora[0].partition(":")[0])

    def files(part: Split) -> tuple[str, ...]:
        return tuple(portable(file) for file in corpus_files(name, part, data))

    fitted_on: tuple[Split, ...] = ("calibration", "validation")
    calibration, validation = (files(part) if fits_here else () for part in fitted_on)
    return SweepCorpus(name, calibration, validation, files("test"), longest)
