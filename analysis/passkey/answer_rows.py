"""Prompts with their answers behind them, as ids of equal length: what training and choice on the task read.

Training takes keys of the part ``train`` and noise of calibration texts, choice keys of the part ``validation`` and
noise of validation texts. Every draw is keyed by (seed, step) and a stream number of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Ids

from .answers import answer_logits
from .keys import draw_key
from .task import Example, PasskeyTask


@dataclass(frozen=True, slots=True)
class AnswerRows:
    """Some prompts with their answers, all of the same number of tokens."""

    ids: npt.NDArray[np.integer]
    """(rows, tokens)."""
    first: int
    """First of a row's tokens - 1 entries that is scored; entry k scores token k + 1."""


def draw_answers(task: PasskeyTask, rng: np.random.Generator, length: int, count: int, end: bytes = b"") -> AnswerRows:
    """Draw examples of one length at random depths, with their answers.

    Args:
        task: keys and noise; its seed is not used.
        rng: source of chance.
        length: tokens of prompt and answer; a shorter one than any needle needs is taken to be the shortest.
        count: rows.
        end: what an answer ends with, learned like its digits.

    Returns:
        The rows; answers that a tokenizer writes with more or fewer tokens than the first one are drawn again.
    """
    context = max(task.smallest_context(), task.context_for(length))
    ending = task.encode(end, "an answer's end") if end else np.empty(0, np.uint8)
    rows: list[Ids] = []
    tokens = 0
    while len(rows) < count:
        key, sentence = draw_key(rng, task.part, task.variant), int(rng.integers(len(task.noise.starts)))
        example = task.example(context, float(rng.random()), key, sentence)
        if rows and len(example.key_ids) != tokens:
            continue
        tokens = len(example.key_ids)
        rows.append(np.concatenate([example.ids, example.key_ids, ending]))
    return AnswerRows(np.stack(rows), len(rows[0]) - tokens - len(ending) - 1)


def spread_examples(task: PasskeyTask, length: int, count: int) -> list[Example]:
    """Return fixed examples of one length, their depths spread evenly from 0 to 1."""
    context = max(task.smallest_context(), task.context_for(length))
    depths = np.linspace(0, 1, count) if count > 1 else [0.5]
    return [task.examples(context, float(d), 1, first=k).items[0] for k, d in enumerate(depths)]


@torch.no_grad()
def score_examples(
    model: Model,
    items: list[Example],
    task: PasskeyTask,
    intervention: Intervention | None = None,
    *,
    end: bytes = b"",
    batch: int = 16,
) -> tuple[float, float]:
    """Score the answers to some examples, each token given those before it.

    Args:
        model: a loaded model.
        items: examples with prompts of the same number of tokens.
        task: that they are of.
        intervention: rewrites the dynamics.
        end: what an answer ends with; its first token is scored as well.
        batch: examples side by side.

    Returns:
        Bits per scored token, and the share of keys of which every token is the likeliest, and no digit the next one.
    """
    ending = task.encode(end, "an answer's end")[:1] if end else np.empty(0, np.uint8)
    digits = np.unique(np.concatenate([task.encode(str(d).encode(), "a digit")[-1:] for d in range(10)]))
    bits, right = [], []
    for part in _alike(items, batch):
        logits = answer_logits(model, part, intervention).float()  # (rows, key tokens + 1, vocab_size)
        wanted = model.ids(np.stack([np.concatenate([item.key_ids, ending]) for item in part]))
        scored = logits[:, : wanted.shape[1]]
        each = F.cross_entropy(scored.flatten(0, 1), wanted.flatten(), reduction="none")
        bits += (each.double() / math.log(2)).tolist()
        best, key = logits.argmax(-1).cpu().numpy(), np.stack([item.key_ids for item in part])
        right += ((best[:, :-1] == key).all(1) & ~np.isin(best[:, -1], digits)).tolist()
    return float(np.mean(bits)), float(np.mean(right))


def _alike(items: list[Example], batch: int) -> Iterator[list[Example]]:
    for tokens in sorted({len(item.key_ids) for item in items}):
        same = [item for item in items if len(item.key_ids) == tokens]
        yield from (same[first : first + batch] for first in range(0, len(same), batch))
