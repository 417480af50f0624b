"""Greedy answers to several prompts, written side by side: each prompt is read on its own, single steps are one batch.

The answers are those of ``generation.generate``, which writes one alone, token by token. Prompts have states of one
size whatever their length, so nothing is padded; a row leaves once its answer has met its end, its stop or its limit.
A matrix product with more rows rounds its sums otherwise, so a row whose two likeliest tokens come close to that
rounding leaves as well, and is written again alone from the end of its prompt. In half precision nearly every token is
that close to another, and every answer is written alone. So it is where what rewrites the dynamics is more than scales
that act alike at every position behind the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.block import Block
from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import NonFiniteStateError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import StreamState

from .generation import Generated, generate
from .state_rows import join_rows, take_rows
from .texts import Tick, token_counter

ROWS = 16
"""Answers side by side. Ours: on one CPU core mamba2-tiny wrote 330, 630, 990, 1,570, 2,360 and 2,790 tokens a second
with 1, 2, 4, 8, 16 and 32 rows, mamba-tiny 370, 650, 1,300, 2,500, 4,350 and 6,160; a stopped run reads the prompts of
so many rows again."""
CLOSE = 256.0
"""How close the two largest logits of a row may come, in units of the weights' epsilon times its largest logit. Ours:
rows side by side moved a logit of the bundled models by 27 units at most, over 64 steps; 13 of 768 answers were
written again, and none of them would have come out otherwise."""

Written = Generated | NonFiniteStateError
"""An answer, or what broke down before there was one."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and when its answer ends."""

    prompt: npt.NDArray[np.integer]
    """Ids, (length,), at least one."""
    limit: int
    """Tokens to write at most."""
    stop: Callable[[list[int]], bool] | None = None
    """Says of all ids so far whether they are enough."""


@dataclass(slots=True)
class _Row:
    """An answer that is being written."""

    number: int
    """Of its question."""
    question: Question
    """What it answers."""
    read: StreamState
    """The state after the prompt."""
    ids: list[int] = field(default_factory=list)
    """Written so far."""

    def add(self, token: int, end: Collection[int]) -> Generated | None:
        """Take in the likeliest token; return the answer if that was all of it."""
        if token in end:
            return Generated(tuple(self.ids), ended=True)
        self.ids.append(token)
        if self.question.stop is not None and self.question.stop(self.ids):
            return Generated(tuple(self.ids), ended=True)
        return Generated(tuple(self.ids), ended=False) if len(self.ids) == self.question.limit else None


@dataclass(frozen=True)
class SideBySide:
    """A model that answers several questions at a time."""

    model: Model
    """A loaded model."""
    end: Collection[int] = ()
    """Ids that end an answer."""
    intervention: Intervention | None = None
    """Rewrites the dynamics, in the prompts and in every step."""
    state: StreamState | None = None
    """Before every prompt, of one row; None for zeros."""
    tick: Tick | None = None
    """Called with tokens as they pass through the model; not for those of an answer that is written again."""
    rows: int = ROWS
    """Answers side by side; no effect on any of them."""

    @torch.no_grad()
    def answers(self, questions: Iterable[Question]) -> Iterator[tuple[int, Written]]:
        """Write all answers.

        Args:
            questions: what is asked; no more of them are taken at a time than are answered side by side.

        Yields:
            A question's number, counted from 0, and its answer, as soon as that is written.

        Raises:
            TextError: a prompt is empty.
        """
        waiting: list[tuple[int, Question]] = []
        for number, question in enumerate(questions):
            if not self._shares(question):
                yield number, self._alone(question)
                continue
            waiting.append((number, question))
            if len(waiting) == self.rows:
                yield from self._batch(waiting)
                waiting = []
        yield from self._batch(waiting)

    def _shares(self, question: Question) -> bool:
        """Whether every token behind the prompt is treated like every other, in a dtype whose rounding is fine."""
        if self.rows == 1 or self.model.dtype.itemsize < 4 or not len(question.prompt) or question.limit < 1:
            return False
        before = 0 if self.state is None else self.state.position
        if isinstance(self.intervention, Scales):
            return before + len(question.prompt) >= max(self.intervention.boundaries(), default=0)
        return self.intervention is None

    def _alone(self, question: Question) -> Written:
        try:
            return generate(
                self.model, question.prompt, question.limit, end=self.end, stop=question.stop,
                intervention=self.intervention, state=self.state, tick=self.tick,
            )  # fmt: skip
        except NonFiniteStateError as broken:
            return broken

    def _batch(self, asked: Sequence[tuple[int, Question]]) -> Iterator[tuple[int, Written]]:
        rows = []
        for number, question in asked:
            try:
                block = self._last(question.prompt[None], self.state)
            except NonFiniteStateError as broken:
                yield number, broken
                continue
            row = _Row(number, question, block.state)
            if answer := row.add(int(_logits(block).argmax()), self.end):
                yield number, answer
            else:
                rows.append(row)
        yield from self._steps(rows)

    def _steps(self, rows: list[_Row]) -> Iterator[tuple[int, Written]]:
        """Go on side by side, until every row has left."""
        state = self._joined([row.read for row in rows]) if rows else None
        while state is not None and rows:
            latest = torch.tensor([[row.ids[-1]] for row in rows])
            try:
                block = self._last(latest, state)
            except NonFiniteStateError:  # one of the rows; the others are sound
                break
            tokens, close = _likeliest(block)
            stay = []
            for place, row in enumerate(rows):
                answer = self._again(row) if close[place] else row.add(tokens[place], self.end)
                if answer is None:
                    stay.append(place)
                else:
                    yield row.number, answer
            state = take_rows(block.state, stay, block.state.position) if len(stay) < len(rows) else block.state
            rows = [rows[place] for place in stay]
        for row in rows:
            yield row.number, self._again(row)

    def _last(self, ids: Tensor | npt.NDArray[np.integer], state: StreamState | None) -> Block:
        """Run tokens and return the last block."""
        observers = () if self.tick is None else (token_counter(self.tick),)
        block: Block | None = None
        for each in self.model.stream(ids, state=state, intervention=self.intervention, observers=observers):
            block = each
        assert block is not None
        return block

    def _joined(self, states: list[StreamState]) -> StreamState:
        return join_rows(states, min(state.position for state in states))  # behind every onset, as ``_shares`` saw to

    def _again(self, row: _Row) -> Written:
        """Write an answer from its second token on as if there were no other; the first is the prompt's."""
        first, stop = row.ids[:1], row.question.stop
        try:
            rest = generate(
                self.model, np.array(first), row.question.limit - 1, end=self.end,
                stop=None if stop is None else lambda ids: stop(first + ids),
                intervention=self.intervention, state=row.read,
            )  # fmt: skip
        except NonFiniteStateError as broken:
            return broken
        return Generated((*first, *rest.ids), rest.ended)


def _logits(block: Block) -> Tensor:
    """Compute the logits behind the last token, (rows, vocab_size)."""
    return (block.hidden[:, -1:] @ block.head.T)[:, 0]  # a product of three axes, as in ``Model.greedy``


def _likeliest(block: Block) -> tuple[list[int], list[bool]]:
    """Return each row's likeliest token, and whether rounding may have chosen it."""
    logits = _logits(block)
    best, tokens = logits.topk(2)
    unit = torch.finfo(logits.dtype).eps * logits.abs().amax(-1)
    close = best[:, 0] - best[:, 1] <= CLOSE * unit
    return tokens[:, 0].tolist(), close.tolist()
