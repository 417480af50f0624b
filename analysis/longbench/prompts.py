"""Prompts as token ids, cut in the middle where they are longer than is asked for; the same for every method.

Of a prompt of more than N tokens the first and the last int(N / 2) are kept. Source: ``pred.py`` of THUDM/LongBench,
which turns both halves into text and that into tokens again; here the tokens themselves are kept, so that a prompt has
as many as is stated. No chat template is put around a prompt: these are models of plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.tokens import Encode, Ids

from .samples import Sample
from .tasks import LongBenchTask

LEAST_TOKENS = 2
"""The shortest prompt that has two halves."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads of a sample."""

    ids: Ids
    """Token ids, (length,)."""
    whole_tokens: int
    """Tokens before anything was cut."""

    @property
    def truncated(self) -> bool:
        """True where tokens were cut from the middle."""
        return len(self.ids) < self.whole_tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """A task with what is asked of it."""

    task: LongBenchTask
    """The task."""
    samples: tuple[Sample, ...]
    """Its samples."""
    prompts: tuple[Prompt, ...]
    """What the model reads of each."""

    def first(self, limit: int | None) -> Asked:
        """Return the first samples alone; all of them where there is no limit."""
        return self if limit is None else Asked(self.task, self.samples[:limit], self.prompts[:limit])


def cut_middle(ids: Ids, max_length: int | None) -> Ids:
    """Keep the first and the last half of what is allowed.

    Args:
        ids: token ids, (length,).
        max_length: tokens to keep at most; None for all.

    Returns:
        All ids, or an even number of them.

    Raises:
        RefusedInputError: fewer than 2 tokens are allowed.

    >>> cut_middle(np.arange(10), 5).tolist()
    [0, 1, 8, 9]
    """
    if max_length is None or len(ids) <= max_length:
        return ids
    if max_length < LEAST_TOKENS:
        raise RefusedInputError(f"--max-length {max_length}: expected at least {LEAST_TOKENS} tokens")
    half = max_length // 2
    return np.concatenate([ids[:half], ids[-half:]])


def ask(
    task: LongBenchTask,
    samples: Sequence[Sample],
    encode: Encode,
    *,
    max_length: int | None = None,
    bos: int | None = None,
    tokens_in_vocab: int = 2**32,
) -> Asked:
    """Make the prompts of a task.

    Args:
        task: the task.
        samples: some of its samples.
        encode: the model's encoder.
        max_length: tokens of a prompt at most; None for any number.
        bos: id put before each prompt, and counted with it.
        tokens_in_vocab: ids must be below this.

    Returns:
        The task with its prompts.

    Raises:
        TextError: the tokenizer is another model's.
    """
    first = np.array([] if bos is None else [bos], np.uint32)
    prompts = []
    for sample in samples:
        where = f"{task.name}, sample {sample.id}"
        ids = np.concatenate([first, encode(sample.prompt.encode(), where)]).astype(np.uint32)
        if int(ids.max(initial=0)) >= tokens_in_vocab:
            raise TextError(
                f"{where}: token id {int(ids.max())}, but the model knows {tokens_in_vocab} ids; the tokenizer is "
                "another model's"
            )
        prompts.append(Prompt(cut_middle(ids, max_length), len(ids)))
    return Asked(task, tuple(samples), tuple(prompts))
