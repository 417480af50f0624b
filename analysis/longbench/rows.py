"""Scores as LongBench prints them, averages that are the mean of what is printed, intervals, and paired differences.

A score is 100 times the mean over samples, rounded to hundredths as ``eval.py`` of THUDM/LongBench does; an average is
the mean of the rounded scores, so that whoever adds a table up gets it. Intervals are over samples: within a task as
``evaluate.intervals`` has them; of an average Student's t with the degrees of freedom of Welch and Satterthwaite, tasks
weighing alike. An interval of scores ends at 0 and 100, and there is none where all samples score the same: their
spread says nothing of other samples. The p-value of an average is of sign flips by sample, each sample weighing
1 / (samples of its task). Source: Satterthwaite, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.stats

from ..evaluate.bits import Floats
from ..evaluate.intervals import LEVEL, interval, sign_flip_p
from .tasks import LongBenchTask

AVERAGE = "average"
"""In the place of a task's name."""
Scores = Mapping[tuple[str, str], Sequence[float]]
"""From 0 to 1, one a sample, by method and task."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A method on a task."""

    method: str
    """Name of the method."""
    task: str
    """Name of the task."""
    metric: str
    """``f1``, ``class`` or ``edit``."""
    samples: int
    """Questions asked."""
    score: float
    """100 times the mean, rounded to hundredths."""
    ci_low: float | None
    """Lower end of the 95 % interval over samples; None for fewer than two, or where all score the same."""
    ci_high: float | None
    """Upper end."""
    prompt_tokens: float
    """Tokens read, the mean."""
    truncated: int
    """Prompts with tokens cut from their middle."""
    answer_limit: int
    """Tokens of an answer at most."""
    answer_tokens: float
    """Tokens written, the mean."""
    ended: int
    """Answers that an end token ended before the limit."""
    broken: int
    """Samples on which a state overflowed; they score 0."""
    prompts: str
    """``official``, or ``ready-made`` where the file holds whole prompts."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AverageRow:
    """A method over all tasks that were run."""

    method: str
    """Name of the method."""
    tasks: int
    """How many."""
    score: float
    """Mean of the tasks' scores as they are printed."""
    ci_low: float | None
    """Lower end of the 95 % interval over samples; None where a task has none."""
    ci_high: float | None
    """Upper end."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairRow:
    """A method against the reference on the same samples."""

    method: str
    """Name of the method."""
    reference: str
    """Name of what it is compared with."""
    task: str
    """Name of the task, or ``average``."""
    difference: float
    """Score of the method less that of the reference, not rounded; above 0 the method is better."""
    ci_low: float | None
    """Lower end of the 95 % interval over samples; None for fewer than two of a task, or where all differ alike."""
    ci_high: float | None
    """Upper end."""
    p: float | None
    """p-value of sign flips by sample; None for fewer than two."""
    samples: int
    """Samples behind it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def task_row(
    method: str,
    task: LongBenchTask,
    scores: Sequence[float],
    *,
    prompt_tokens: Sequence[int],
    answer_tokens: Sequence[int],
    truncated: int,
    ended: int,
    broken: int,
    ready_made: bool,
) -> TaskRow:
    """Return a method's row of a task.

    Args:
        method: its name.
        task: the task.
        scores: from 0 to 1, one a sample.
        prompt_tokens: tokens read, one a sample.
        answer_tokens: tokens written, one a sample.
        truncated: samples with a cut prompt.
        ended: answers that an end token ended.
        broken: samples on which a state overflowed.
        ready_made: whether the prompts were in the file.

    Returns:
        The row.
    """
    found = interval(100 * np.array(scores))
    low, high = (None, None) if len(set(scores)) == 1 else _bounded(found.low, found.high)
    return TaskRow(
        method=method,
        task=task.name,
        metric=task.metric,
        samples=len(scores),
        score=printed(scores),
        ci_low=low,
        ci_high=high,
        prompt_tokens=float(np.mean(prompt_tokens)),
        truncated=truncated,
        answer_limit=task.answer_tokens,
        answer_tokens=float(np.mean(answer_tokens)),
        ended=ended,
        broken=broken,
        prompts="ready-made" if ready_made else "official",
    )


def printed(scores: Sequence[float]) -> float:
    """Return a task's score as it is printed.

    >>> printed([1, 0, 0])
    33.33
    """
    return round(100 * sum(scores) / len(scores), 2)


def average_rows(rows: Sequence[TaskRow], scores: Scores) -> list[AverageRow]:
    """Average over tasks.

    Args:
        rows: all rows.
        scores: of the same methods and tasks.

    Returns:
        One row a method, in their order.
    """
    found = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        mean = sum(row.score for row in own) / len(own)
        told = all(row.ci_low is not None for row in own)
        spread = _margin([100 * np.array(scores[method, row.task]) for row in own]) if told else None
        low, high = (None, None) if spread is None else _bounded(mean - spread, mean + spread)
        found.append(AverageRow(method, len(own), mean, low, high))
    return found


def _bounded(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (None if low is None else max(0.0, low)), (None if high is None else min(100.0, high))


def pair_rows(methods: Sequence[str], scores: Scores, reference: str | None) -> list[PairRow]:
    """Compare every method with the reference, sample by sample.

    Args:
        methods: in the order of the rows.
        scores: of all of them, on the same samples.
        reference: name of the reference; None for no comparison.

    Returns:
        One row a task and the average for each other method.
    """
    rows: list[PairRow] = []
    tasks = list(dict.fromkeys(task for _, task in scores))
    for method in methods:
        if reference is None or method == reference:
            continue
        by_task = [100 * (np.array(scores[method, t]) - np.array(scores[reference, t])) for t in tasks]
        for task, here in zip(tasks, by_task, strict=True):
            found = interval(here)
            low, high = (None, None) if _without_spread(here) else (found.low, found.high)
            p = sign_flip_p(here) if len(here) > 1 else None
            rows.append(PairRow(method, reference, task, found.mean, low, high, p, len(here)))
        mean = float(np.mean([here.mean() for here in by_task]))
        spread = None if any(map(_without_spread, by_task)) else _margin(by_task)
        low, high = (None, None) if spread is None else (mean - spread, mean + spread)
        weighted = np.concatenate([here / len(here) for here in by_task])
        p = sign_flip_p(weighted) if len(weighted) > 1 else None
        rows.append(PairRow(method, reference, AVERAGE, mean, low, high, p, len(weighted)))
    return rows


def _without_spread(differences: Floats) -> bool:
    """Return whether all differ alike, which says nothing of other samples; answers that are the same everywhere do."""
    return bool(differences[0]) and len(set(differences.tolist())) == 1


def _margin(by_task: Sequence[Floats]) -> float | None:
    """Return half the width of the 95 % interval of the mean of means; None where a mean has no spread."""
    if min(len(here) for here in by_task) < 2:
        return None
    own = np.array([here.var(ddof=1) / len(here) for here in by_task])  # variance of each task's mean
    if not own.any():
        return 0.0
    freedom = own.sum() ** 2 / sum(v**2 / (len(here) - 1) for v, here in zip(own, by_task, strict=True))
    return float(scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(own.sum()) / len(by_task)
