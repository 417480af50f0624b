"""Every method on LongBench: fitted once, then asked each question, stopped and resumed sample by sample.

All methods read the same tokens and write up to the same number, with what they do to the dynamics acting in the prompt
and in every token written. Questions are answered side by side, which changes no answer, and each is kept as soon as it
is written. Methods are fitted on calibration and validation text, never on the questions (the paper's released code
calibrates on 20 of them, for the score itself).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError

from ..methods import Fitted, Method, Setup, Task, fit, setup_of
from ..methods.plain import FRESH
from ..side_by_side import ROWS, Question, SideBySide, Written
from .metrics import score
from .prompts import Asked
from .rows import AverageRow, PairRow, TaskRow, average_rows, pair_rows, task_row

Decode = Callable[[list[int]], str]
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method's model wrote to one question."""

    id: str
    """Name of the sample."""
    prediction: str
    """The text; empty where a state overflowed."""
    score: float
    """From 0 to 1; 0 where a state overflowed."""
    tokens: int
    """Tokens written."""
    ended: bool
    """True where an end token ended it, False where the task's limit did."""
    broken: bool
    """True where a state overflowed."""
    prompt_tokens: int
    """Tokens read."""
    truncated: bool
    """True where tokens were cut from the prompt's middle."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A method's answers to a task."""

    method: str
    """Its name."""
    asked: Asked
    """The task and its samples."""
    items: tuple[Answer, ...]
    """One a sample."""

    def predictions(self) -> list[dict[str, Any]]:
        """Return one JSON object a sample, as LongBench's own ``eval.py`` reads them, with more fields behind."""
        return [
            {
                "pred": item.prediction,
                "answers": list(sample.answers),
                "all_classes": list(sample.classes) or None,
                "length": sample.words,
            }
            | {name: value for name, value in asdict(item).items() if name != "prediction"}
            for sample, item in zip(self.asked.samples, self.items, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class LongBenchFound:
    """An evaluation on LongBench."""

    model: str
    """Model's name."""
    max_length: int | None
    """Tokens of a prompt at most, where it was cut; None for whole prompts."""
    bos: int | None
    """Id before each prompt; None for none."""
    rows: tuple[TaskRow, ...]
    """One a method and task."""
    averages: tuple[AverageRow, ...]
    """One a method."""
    pairs: tuple[PairRow, ...]
    """Each other method against a reference, one a task and the average."""
    fitted: tuple[Fitted, ...]
    """One a method."""
    answers: tuple[Answers, ...]
    """Like ``rows``."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the answers' texts left out."""
        return {
            "max_length": self.max_length,
            "bos": self.bos,
            "truncation": self.truncation(),
            "rows": [row.to_dict() for row in self.rows],
            "averages": [row.to_dict() for row in self.averages],
            "pairs": [row.to_dict() for row in self.pairs],
            "methods": [{"method": f.method, "how": f.how, "passes": f.passes, "bakes": f.bakes} for f in self.fitted],
        }

    def truncation(self) -> str:
        """Say what was cut."""
        before = "no token comes before a prompt" if self.bos is None else f"token {self.bos} comes before each prompt"
        if self.max_length is None:
            return f"none, every prompt is read whole; {before}"
        first = self.answers[: len({row.task for row in self.rows})]  # those of one method, like all others'
        cut = sum(item.truncated for each in first for item in each.items)
        every = sum(len(each.items) for each in first)
        return (
            f"prompts of more than {self.max_length} tokens keep their first and last {self.max_length // 2}; "
            f"{cut} of {every} were cut, the same for every method; {before}"
        )


@dataclass(frozen=True, slots=True)
class LongBenchJob:
    """What is asked of all methods alike."""

    fits: Task
    """What methods are fitted to; its run folder keeps the answers, too."""
    asked: tuple[Asked, ...]
    """Tasks with their samples, in the order of the result."""
    decode: Decode
    """Turns ids into text."""
    end: frozenset[int]
    """Ids that end an answer."""
    max_length: int | None = None
    """At which prompts were cut."""
    bos: int | None = None
    """Id that was put before each prompt."""
    reference: str | None = None
    """Method that the others are compared with. Default: ``none`` where it is run, else no comparison."""
    rows: int = ROWS
    """Questions answered side by side; no effect on any answer."""

    def run(self, methods: Sequence[Method], tick: Tick = lambda _: None) -> LongBenchFound:
        """Fit, and ask every question.

        Args:
            methods: in the order of the result.
            tick: called with tokens as they pass through the model.

        Returns:
            The result.

        Raises:
            RefusedInputError: a method that answers nothing, or the reference is not among the methods.
        """
        names = [method.name for method in methods]
        reference = check_names(names, self.reference)
        task = replace(self.fits, tick=tick)
        fitted = tuple(fit(method, task) for method in methods)
        answers = [self._answers(each, asked, tick) for each in fitted for asked in self.asked]
        rows = [_row(each) for each in answers]
        scores = {(each.method, each.asked.task.name): [item.score for item in each.items] for each in answers}
        return LongBenchFound(
            self.fits.model.name, self.max_length, self.bos, tuple(rows),
            tuple(average_rows(rows, scores)), tuple(pair_rows(names, scores, reference)), fitted, tuple(answers),
        )  # fmt: skip

    def prompt_tokens(self) -> int:
        """Return the tokens of all prompts."""
        return sum(len(prompt.ids) for asked in self.asked for prompt in asked.prompts)

    def answer_tokens(self) -> int:
        """Return the tokens of all answers at most."""
        return sum(len(asked.prompts) * asked.task.answer_tokens for asked in self.asked)

    def fit_tokens(self, methods: Sequence[Method]) -> float:
        """Estimate the tokens that fitting reads."""
        return sum(method.expected_tokens(self.fits) for method in methods)

    def _answers(self, fitted: Fitted, asked: Asked, tick: Tick) -> Answers:
        items = []
        for sample, prompt, kept in zip(asked.samples, asked.prompts, self._kept(fitted, asked, tick), strict=True):
            right = score(asked.task, kept["prediction"], sample.answers, sample.classes)
            items.append(
                Answer(
                    id=sample.id,
                    score=0.0 if kept["broken"] else right,
                    prompt_tokens=len(prompt.ids),
                    truncated=prompt.truncated,
                    **kept,
                )
            )
        return Answers(fitted.method, asked, tuple(items))

    def _kept(self, fitted: Fitted, asked: Asked, tick: Tick) -> list[dict[str, Any]]:
        """Return what was written to each question; neighbours that are run alike are asked side by side."""
        setups = (setup_of(fitted, self.fits.model, len(prompt.ids)) for prompt in asked.prompts)
        found: list[dict[str, Any]] = []
        for _, group in groupby(setups, key=lambda setup: setup.name):
            ((count, setup),) = deque(enumerate(group, 1), maxlen=1)  # one name is one thing to do: the last is kept
            found += self._ask(setup, asked, range(len(found), len(found) + count), tick)
        return found

    def _ask(self, setup: Setup, asked: Asked, numbers: range, tick: Tick) -> list[dict[str, Any]]:
        """Answer the questions that no earlier session has answered; each is a cell of the run folder."""
        keys = {number: f"longbench/{setup.name}/{asked.task.name}/{asked.samples[number].index}" for number in numbers}
        found = {number: self.fits.cell(key, dict) for number, key in keys.items() if self._has(key)}
        missing = [number for number in numbers if number not in found]
        limit = asked.task.answer_tokens
        together = SideBySide(setup.model, self.end, setup.intervention, setup.start(1), tick, self.rows)
        for place, written in together.answers([Question(asked.prompts[number].ids, limit) for number in missing]):
            number = missing[place]
            found[number] = self.fits.cell(keys[number], partial(self._stored, written))
        return [found[number] for number in numbers]

    def _has(self, key: str) -> bool:
        run = self.fits.run
        return run is not None and ("cell", self.fits.prefix + key) in run.journal

    def _stored(self, written: Written) -> dict[str, Any]:
        if isinstance(written, NonFiniteStateError):
            return {"prediction": "", "tokens": 0, "ended": False, "broken": True}
        return {
            "prediction": self.decode(list(written.ids)),
            "tokens": len(written.ids),
            "ended": written.ended,
            "broken": False,
        }


def check_names(methods: Sequence[str], reference: str | None) -> str | None:
    """Return the method that the others are compared with.

    Args:
        methods: names of those that are run.
        reference: the one asked for.

    Returns:
        Its name. Default: ``none`` where it is run, else no method.

    Raises:
        RefusedInputError: a method that answers nothing, or the reference is not among the methods.
    """
    if FRESH in methods:
        raise RefusedInputError(f"{FRESH} scores texts and answers no question; leave it out of --task longbench")
    if reference is not None and reference not in methods:
        raise RefusedInputError(f"reference {reference!r}: expected one of the methods, {', '.join(methods)}")
    return reference or ("none" if "none" in methods else None)


def _row(answers: Answers) -> TaskRow:
    task, items = answers.asked.task, answers.items
    return task_row(
        answers.method,
        task,
        [item.score for item in items],
        prompt_tokens=[item.prompt_tokens for item in items],
        answer_tokens=[item.tokens for item in items],
        truncated=sum(item.truncated for item in items),
        ended=sum(item.ended for item in items),
        broken=sum(item.broken for item in items),
        ready_made=any(sample.ready_made for sample in answers.asked.samples),
    )
