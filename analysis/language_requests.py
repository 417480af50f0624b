"""What an evaluation harness asks of a language model: how likely a continuation is, a whole text is, and an answer.

The model runs as everywhere here, so scales act in the context, in the continuation and in every token written alike.
A context that several continuations share is read once: its state is all that is left of it. No text is cut unless a
length is asked for, as the state has no window.

Source: lm-evaluation-harness, ``lm_eval/api/model.py`` (what is asked, and where contexts end) and
``lm_eval/models/huggingface.py`` (what is cut, where something must be).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.block import Block
from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import StreamState
from mambascope.spectra.tokens import Encode

from .evaluate.bits import positions_at_once
from .generation import Generated
from .passkey.answers import Decode
from .side_by_side import ROWS, Question, SideBySide

Ids = npt.NDArray[np.int64]
Truncation = Literal["left", "middle"]
"""What is cut of a text that is too long: its beginning, as the harness does, or its middle, as LongBench does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An answer that is asked for."""

    context: str
    """Comes before."""
    limit: int
    """Tokens at most."""
    until: tuple[str, ...] = ()
    """Texts that end it; the first of them that comes up is not part of the answer, nor what is behind it."""


@dataclass
class LanguageModel:
    """A model with its tokenizer, as a harness sees it."""

    model: Model
    """A loaded model."""
    encode: Encode
    """Its encoder."""
    decode: Decode
    """Its decoder."""
    end: frozenset[int] = frozenset()
    """Ids that end an answer."""
    prefix: int | None = None
    """Id before a text that has no context. Default: the smallest of ``end``."""
    scales: Scales | None = None
    """What the model runs with."""
    max_length: int | None = None
    """Tokens that the model reads at once at most; None for any number."""
    truncation: Truncation = "left"
    """What is cut of contexts where there is a ``max_length``."""
    rows: int = ROWS
    """Answers written side by side; no effect on any of them."""
    truncated: int = field(default=0, init=False)
    """Requests that were cut so far."""
    _read: tuple[bytes, Tensor, StreamState] | None = field(default=None, init=False)
    """The latest context, with the output at its last token and the state after it."""

    def __post_init__(self) -> None:
        """Fill in the prefix, and refuse lengths that no text fits in."""
        if self.prefix is None and self.end:
            self.prefix = min(self.end)
        if self.max_length is not None and self.max_length < 2:
            raise RefusedInputError(f"max_length {self.max_length}: expected at least 2 tokens, or None for no limit")

    def loglikelihood(self, context: str, continuation: str) -> tuple[float, bool]:
        """Return how likely a continuation is.

        Args:
            context: comes before; blanks at its end are counted with the continuation, as the harness does.
            continuation: what is scored.

        Returns:
            The natural logarithm of its probability, and whether greedy decoding would write it.

        Raises:
            RefusedInputError: the continuation alone is longer than ``max_length``.
        """
        before, after = self._split(context, continuation)
        if not len(after):
            return 0.0, True
        if not len(before):
            first = self._prefix_id()
            before, after = (after[:1], after[1:]) if int(after[0]) == first else (np.array([first]), after)
        if self.max_length is not None and len(after) > self.max_length:
            raise RefusedInputError(
                f"a continuation of {len(after)} tokens does not fit into max_length {self.max_length}; give a longer "
                "one, or None for no limit"
            )
        # the last token of a continuation is scored, and not read
        room = None if self.max_length is None else self.max_length + 1 - len(after)
        return self._continued(self._cut(before, room), after)

    def rolling(self, text: str) -> float:
        """Return how likely a text is, its first token after the prefix.

        Args:
            text: read in one pass, or where there is a ``max_length`` in windows of that, each token scored once.

        Returns:
            The natural logarithm of its probability; 0 for an empty text.
        """
        ids = self._ids(text)
        windows = [(0, len(ids))] if self.max_length is None else rolling_windows(len(ids), self.max_length)
        self.truncated += len(windows) > 1
        whole, total = np.concatenate([[self._prefix_id()], ids]), 0.0  # entry k is read to score entry k of ids
        for start, stop in windows:
            first = start if self.max_length is None else max(0, stop - self.max_length)
            total += self._scored(whole[first:stop], ids[start:stop])[0]
        return total

    def answer(self, context: str, limit: int, until: tuple[str, ...] = ()) -> str:
        """Write an answer greedily.

        Args:
            context: comes before.
            limit: tokens at most.
            until: texts that end it, as in ``Wanted``.

        Returns:
            The answer.

        Raises:
            RefusedInputError: no context fits beside the answer into ``max_length``.
        """
        ((_, found),) = self.answers([Wanted(context, limit, until)])
        return found

    def answers(self, wanted: Sequence[Wanted]) -> Iterator[tuple[int, str]]:
        """Write answers greedily, several side by side.

        Args:
            wanted: what is asked for.

        Yields:
            A number, counted from 0, and the answer of that number, as soon as it is written.

        Raises:
            RefusedInputError: no context fits beside an answer into ``max_length``.
            NonFiniteStateError: a state became NaN or infinite.
        """
        together = SideBySide(self.model, self.end, self.scales, rows=self.rows)
        for number, written in together.answers(map(self._question, wanted)):
            if isinstance(written, NonFiniteStateError):
                raise written
            yield number, self._until_stopped(written, wanted[number])

    def _question(self, wanted: Wanted) -> Question:
        limit, ids = wanted.limit, self._ids(wanted.context)
        if self.max_length is not None and limit >= self.max_length:
            raise RefusedInputError(f"an answer of {limit} tokens does not fit into max_length {self.max_length}")
        ids = ids if len(ids) else np.array([self._prefix_id()])
        ids = self._cut(ids, None if self.max_length is None else self.max_length - limit)
        stops = tuple(filter(None, wanted.until))

        def has_stopped(written: list[int]) -> bool:
            text = self.decode(written)
            return any(stop in text for stop in stops)

        return Question(ids, limit, has_stopped if stops else None)

    def _until_stopped(self, written: Generated, wanted: Wanted) -> str:
        text = self.decode(list(written.ids))
        return text[: min([text.index(stop) for stop in wanted.until if stop and stop in text], default=len(text))]

    def _ids(self, text: str) -> Ids:
        return self.encode(text.encode("utf-8", "replace"), "a request").astype(
            np.int64
        )  # data sets hold what they hold

    def _prefix_id(self) -> int:
        if self.prefix is None:
            raise RefusedInputError(
                "the tokenizer names no token that ends or begins a text; say which id comes before a text that has no "
                "context (prefix_token)"
            )
        return self.prefix

    def _split(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        bare = context.rstrip()
        whole, before = self._ids(context + continuation), self._ids(bare)
        return before, whole[len(before) :]

    def _cut(self, ids: Ids, room: int | None) -> Ids:
        if room is None or len(ids) <= room:
            return ids
        self.truncated += 1
        if self.truncation == "left":
            return ids[-room:]
        return np.concatenate([ids[: room // 2], ids[len(ids) - (room - room // 2) :]])

    @torch.no_grad()
    def _after(self, context: Ids) -> tuple[Tensor, StreamState]:
        """Read a context, unless it is the one that was read last."""
        key = context.tobytes()
        if self._read is None or self._read[0] != key:
            block: Block | None = None
            for each in self.model.stream(context[None], intervention=self.scales):
                block = each
            assert block is not None
            self._read = (key, block.hidden[:, -1:].clone(), block.state)
        return self._read[1], self._read[2]

    @torch.no_grad()
    def _continued(self, context: Ids, continuation: Ids) -> tuple[float, bool]:
        hidden, state = self._after(context)
        total, greedy = self._score(hidden, continuation[:1])
        for scored, here in self._blocks(continuation[:-1], continuation[1:], state):
            total, greedy = total + scored, greedy and here
        return total, greedy

    def _scored(self, read: Ids, scored: Ids) -> tuple[float, bool]:
        """Score the last of what follows the tokens that are read, from a fresh state."""
        parts = list(self._blocks(read, scored, None))
        return sum(part for part, _ in parts), all(here for _, here in parts)

    @torch.no_grad()
    def _blocks(self, read: Ids, scored: Ids, state: StreamState | None) -> Iterator[tuple[float, bool]]:
        if not len(read):
            return
        start = (0 if state is None else state.position) + len(read) - len(scored)  # what comes before is context
        for block in self.model.stream(read[None], state=state, intervention=self.scales):
            skip = max(0, start - block.start)
            if block.stop - block.start > skip:
                wanted = scored[block.start + skip - start : block.stop - start]
                yield self._score(block.hidden[:, skip:], wanted)

    def _score(self, hidden: Tensor, wanted: Ids) -> tuple[float, bool]:
        """Return the log-probability of tokens, and whether each is the likeliest; logits live slice by slice."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        head, targets = self.model.lm_head.weight.to(wide), self.model.ids(wanted[None])
        step = positions_at_once(1, len(head))
        total, greedy = 0.0, True
        for first in range(0, len(wanted), step):
            logits = hidden[:, first : first + step].to(wide) @ head.T  # (1, positions, vocab_size)
            here = targets[:, first : first + step]
            total += float(logits.log_softmax(-1).gather(-1, here[..., None]).double().sum())
            greedy = greedy and bool((logits.argmax(-1) == here).all())
        return total, greedy


def rolling_windows(tokens: int, max_length: int) -> list[tuple[int, int]]:
    """Return which tokens are scored window by window: disjoint, each window reading up to ``max_length`` tokens.

    The last window is as long as the others and scores what they have left. Source: ``get_rolling_token_windows`` of
    lm-evaluation-harness, with a context of 1.

    Args:
        tokens: of the text.
        max_length: tokens that are read at once.

    Returns:
        Start and stop of the tokens that each window scores.

    >>> rolling_windows(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(start + max_length, tokens)) for start in range(0, tokens, max_length)]
