"""Greedy answers of any length, one token at a time, through the same layers and the same rule as the prompt.

What rewrites the dynamics acts in the prompt and in every single step alike. Source: the released code of LongBench and
lm-evaluation-harness both decode greedily; that of Mamba Modulation drops its factors in single steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import TextError
from mambascope.spectra.loading import tokenizer_file
from mambascope.spectra.model import Model
from mambascope.spectra.state import StreamState

from .texts import Tick, token_counter

Kind = TypeVar("Kind")

END_OF_TEXT = re.compile(r"<\|endoftext\|>|</s>|<eos>")
"""Tokens that end a text where no file says which one does: those of GPT-NeoX, Llama and Gemma."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote."""

    ids: tuple[int, ...]
    """Token ids, without the end token."""
    ended: bool
    """True where an end token or a stop rule ended it, False where the limit did."""


@torch.no_grad()
def generate(
    model: Model,
    prompt: npt.NDArray[np.integer],
    limit: int,
    *,
    end: Collection[int] = (),
    stop: Callable[[list[int]], bool] | None = None,
    intervention: Intervention | None = None,
    state: StreamState | None = None,
    tick: Tick | None = None,
) -> Generated:
    """Continue a prompt greedily.

    Args:
        model: a loaded model.
        prompt: ids, (length,), at least one.
        limit: tokens to write at most.
        end: ids that end an answer.
        stop: says of all ids so far whether they are enough.
        intervention: rewrites the dynamics, in the prompt and in every step.
        state: before the prompt, of one row; None for zeros.
        tick: called with tokens as they pass through the model.

    Returns:
        The answer; of the limit's length unless something ended it.

    Raises:
        TextError: the prompt is empty.
    """
    observers = () if tick is None else (token_counter(tick),)
    written: list[int] = []
    for ids in islice(model.greedy(prompt[None], state=state, intervention=intervention, observers=observers), limit):
        if int(ids) in end:
            return Generated(tuple(written), ended=True)
        written.append(int(ids))
        if stop is not None and stop(written):
            return Generated(tuple(written), ended=True)
    return Generated(tuple(written), ended=False)


class _TokenizerConfig(msgspec.Struct):
    eos_token: str | dict[str, object] | None = None


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def end_tokens(checkpoint: Checkpoint, tokenizer: str | Path | None = None) -> frozenset[int]:
    """Return the ids that end a text for a model.

    Args:
        checkpoint: the model's checkpoint.
        tokenizer: a ``tokenizer.json`` to use instead of the one in the checkpoint's folder.

    Returns:
        The added tokens named as ``eos_token`` in the ``tokenizer_config.json`` beside the tokenizer, else those that
        are called as end tokens usually are; empty where there are none.

    Raises:
        TextError: a file is there and cannot be read.
    """
    path = tokenizer_file(checkpoint, tokenizer)
    if path is None:
        return frozenset()
    added = _decoded(path, _Tokenizer).added_tokens
    beside = path.with_name("tokenizer_config.json")
    named = _decoded(beside, _TokenizerConfig).eos_token if beside.is_file() else None
    name = named.get("content") if isinstance(named, dict) else named
    usual = [each.id for each in added if END_OF_TEXT.fullmatch(each.content)]
    return frozenset([each.id for each in added if each.content == name] if name else usual)


def _decoded(path: Path, kind: type[Kind]) -> Kind:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise TextError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TextError(f"{path}: not a tokenizer's file: {error}") from error
