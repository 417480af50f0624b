"""What a model answers to a passkey prompt, and whether that is the key.

``generate`` is the protocol: greedy, one token at a time, with scales acting in the prompt and in each step alike.
``forced`` reads the same verdict off one forward over prompt and key: a greedy answer starts with the key if and only
if the key's token is the likeliest at every position of it, given the ones before. That holds where a key has one way
to be written, so for bytes; it is refused elsewhere. ``tests/analysis/passkey/test_answers.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.dynamics import Intervention, WholePrompt
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.loading import encoder_of, tokenizer_file
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import StreamState
from mambascope.spectra.tokens import encode_bytes

from .task import Example, Examples

Decode = Callable[[list[int]], str]
Solve = Callable[[Examples], npt.NDArray[np.bool_]]
"""Says which keys of a cell are found."""
Criterion = Literal["first", "word"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
"""``first``: the answer starts with the key and no further digit follows. ``word``: the key is one of the answer's
words, as the released code of DeciMamba scores."""

ANSWER_TOKENS = 10
"""Tokens of an answer. Source: the released code of DeciMamba."""
BATCH = 20
"""Examples that run side by side. Ours: of 1, 5, 10, 20, 50 and 100 none was more than 6 % faster than this with the
bundled models at 512 and 4,096 bytes on one CPU core; one at a time took up to twice as long."""
BATCH_ON_GPU = 100
"""The same on a GPU, which has room for all examples of a cell: the default of a plan."""


WHOLE_TOKENS = 16_384
"""Tokens side by side of prompts that must be seen whole, at most, but for a single prompt. Ours: their memory
grows with them."""


def decode_bytes(ids: list[int]) -> str:
    """Return the text of byte ids; ids that are no bytes, such as the end of text, end it."""
    stop = next((k for k, i in enumerate(ids) if i > 255), len(ids))
    return bytes(ids[:stop]).decode("utf-8", "replace")


def decoder_of(checkpoint: Checkpoint, tokenizer: str | Path | None = None) -> Decode:
    """Return the function that turns a model's ids into text.

    Args:
        checkpoint: the model's checkpoint.
        tokenizer: a ``tokenizer.json`` to use instead of the one in the checkpoint's folder.

    Returns:
        The decoder.

    Raises:
        TextError: there is no tokenizer to decode with.
    """
    path = tokenizer_file(checkpoint, tokenizer)
    if path is None:
        raise TextError("the answers cannot be read without a tokenizer.json; lay one into the folder of the model")
    if encoder_of(checkpoint, tokenizer) is encode_bytes:
        return decode_bytes
    import tokenizers

    made = tokenizers.Tokenizer.from_file(str(path))
    return lambda ids: str(made.decode(ids))


def is_solved(answer: str, key: str, criterion: Criterion = "first") -> bool:
    """Say whether an answer is right.

    Args:
        answer: what the model wrote.
        key: the key's digits.
        criterion: how it is read.

    Returns:
        True for the right key.

    >>> is_solved("12345. Then", "12345"), is_solved("123456", "12345"), is_solved("is 12345 .", "12345", "word")
    (True, False, True)
    """
    if criterion == "word":
        return key in answer.split()
    return answer.startswith(key) and not answer[len(key) : len(key) + 1].isdigit()


def batch_for(model: Model) -> int:
    """Return how many examples run side by side where nothing else is asked for."""
    return BATCH_ON_GPU if model.device.type == "cuda" else BATCH


def solver(
    model: Model,
    decode: Decode,
    *,
    criterion: Criterion = "first",
    intervention: Intervention | None = None,
    state: StreamState | None = None,
    batch: int | None = None,
) -> Solve:
    """Return what says which keys a model finds: by one forward where that is exact, else by generation.

    Args:
        model: a loaded model.
        decode: its decoder.
        criterion: when an answer is right.
        intervention: rewrites the dynamics.
        state: before the first token, of one row; None for zeros.
        batch: examples that run side by side, fewer of prompts that must be seen whole. Default: by the device.

    Returns:
        A function of the examples of a cell.
    """
    at_once = batch or batch_for(model)
    alike_everywhere = intervention is None or isinstance(intervention, Scales)  # others may look at the whole prompt
    if decode is decode_bytes and criterion == "first" and alike_everywhere:
        return lambda examples: forced_solved(model, examples, intervention=intervention, state=state, batch=at_once)

    def solve(examples: Examples) -> npt.NDArray[np.bool_]:
        most = max(1, WHOLE_TOKENS // examples.prompt_tokens) if isinstance(intervention, WholePrompt) else at_once
        answers = generate_answers(
            model, examples, decode, intervention=intervention, state=state, batch=min(at_once, most)
        )
        pairs = zip(answers, examples.items, strict=True)
        return np.array([is_solved(answer, item.key, criterion) for answer, item in pairs])

    return solve


@torch.no_grad()
def generate_answers(
    model: Model,
    examples: Examples,
    decode: Decode,
    *,
    intervention: Intervention | None = None,
    state: StreamState | None = None,
    batch: int = BATCH,
) -> list[str]:
    """Let a model answer.

    Args:
        model: a loaded model.
        examples: one cell.
        decode: turns ids into text.
        intervention: rewrites the dynamics, in the prompt and in every step.
        state: before the first token, of one row; None for zeros.
        batch: examples that run side by side.

    Returns:
        The answers' texts, in order.
    """
    tokens, found = examples.tokens(), []
    for first in range(0, len(tokens), batch):
        rows = tokens[first : first + batch]
        before = None if state is None else state.repeated(len(rows))
        added = model.generate(rows, ANSWER_TOKENS, intervention=intervention, state=before)
        found += [decode(row) for row in added.tolist()]
    return found


def answer_logits(
    model: Model, items: list[Example], intervention: Intervention | None = None, state: StreamState | None = None
) -> Tensor:
    """Compute the logits at every position of the key, and at the one after it, each given the key so far.

    Args:
        model: a loaded model.
        items: examples with prompts and keys of the same number of tokens.
        intervention: rewrites the dynamics.
        state: before the first token, of one row; None for zeros.

    Returns:
        Logits, (examples, key tokens + 1, vocab_size), with gradients where those are on.
    """
    tokens = np.stack([np.concatenate([item.ids, item.key_ids]) for item in items])
    wanted, kept, head = len(items[0].ids) - 1, [], model.lm_head.weight
    before = None if state is None else state.repeated(len(items))
    wanted += 0 if state is None else state.position
    for block in model.stream(tokens, state=before, intervention=intervention):
        if block.stop > wanted:
            kept.append(block.hidden[:, max(0, wanted - block.start) :])
    return torch.cat(kept, dim=1) @ head.T


@torch.no_grad()
def forced_solved(
    model: Model,
    examples: Examples,
    *,
    intervention: Intervention | None = None,
    state: StreamState | None = None,
    batch: int = BATCH,
) -> npt.NDArray[np.bool_]:
    """Say which keys greedy generation would give, from one forward each; for byte-level models.

    Args:
        model: a loaded byte-level model.
        examples: one cell.
        intervention: rewrites the dynamics.
        state: before the first token, of one row; None for zeros.
        batch: examples that run side by side.

    Returns:
        What ``is_solved`` says of ``generate_answers``, with the criterion ``first``.

    Raises:
        RefusedInputError: the examples are not bytes.
    """
    if any(item.key_ids.tolist() != list(item.key.encode()) for item in examples.items):
        raise RefusedInputError("one forward scores byte-level models alone; generate the answers instead")
    found = np.zeros(len(examples), bool)
    for rows in _alike(examples, batch):
        items = [examples.items[k] for k in rows]
        best = answer_logits(model, items, intervention, state).argmax(-1).cpu().numpy()  # (rows, key tokens + 1)
        right = (best[:, :-1] == np.stack([item.key_ids for item in items])).all(1)
        found[rows] = right & ~np.isin(best[:, -1], list(b"0123456789"))
    return found


def _alike(examples: Examples, batch: int) -> Iterator[list[int]]:
    """Go through the examples in batches with keys of the same number of tokens."""
    for tokens in sorted({len(item.key_ids) for item in examples.items}):
        rows = [k for k, item in enumerate(examples.items) if len(item.key_ids) == tokens]
        yield from (rows[first : first + batch] for first in range(0, len(rows), batch))
