"""Samples of a task, read strictly from JSON Lines: a line that is not as it should be is named and refused.

A line is an object of LongBench's own schema, or one of ready-made prompts: ``task``, ``id``, ``prompt``, ``answers``.
Source of the schema: the README of THUDM/LongBench, section Data Format.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mambascope.spectra.errors import TextError

from .tasks import LongBenchTask


@dataclass(frozen=True, slots=True)
class Sample:
    """One question."""

    index: int
    """Place in the file, from 0, empty lines not counted."""
    id: str
    """Its own name."""
    prompt: str
    """All that the model reads."""
    answers: tuple[str, ...]
    """Right answers."""
    classes: tuple[str, ...]
    """Names of all classes, where the task has some."""
    words: int
    """Length as the file states it; for a ready-made prompt, its words."""
    ready_made: bool = False
    """True where the prompt was in the file, and is not LongBench's own."""


class _Official(msgspec.Struct, forbid_unknown_fields=True):
    input: str
    context: str
    answers: list[str]
    length: int
    dataset: str
    language: str
    all_classes: list[str] | None
    id: str = msgspec.field(name="_id")


class _ReadyMade(msgspec.Struct, forbid_unknown_fields=True):
    task: str
    id: str
    prompt: str
    answers: list[str]


class _Kind(msgspec.Struct):
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_samples(data: bytes, task: LongBenchTask, where: str) -> tuple[Sample, ...]:
    """Read a task's file.

    Args:
        data: its bytes.
        task: whose file it is.
        where: its name, for messages.

    Returns:
        The samples in order, at least one.

    Raises:
        TextError: a line is not JSON, lacks or adds a field, is of another task, has no prompt, no answer, or no
            classes where the task needs some, or has the name of an earlier line; the message says which line.
    """
    found: list[Sample] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            sample = _sample(line, task, len(found))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise TextError(f"{where}: line {number}: {error}; expected LongBench's fields for {task.name}") from error
        if seen.setdefault(sample.id, number) != number:
            raise TextError(
                f"{where}: line {number}: has the same _id as line {seen[sample.id]} ({sample.id}); the same sample "
                "twice would count as two: give it once"
            )
        found.append(sample)
    if not found:
        raise TextError(f"{where}: empty; expected one sample a line")
    return tuple(found)


def _sample(line: bytes, task: LongBenchTask, index: int) -> Sample:
    if msgspec.json.decode(line, type=_Kind).prompt is not msgspec.UNSET:
        ready = msgspec.json.decode(line, type=_ReadyMade)
        sample = Sample(
            index, ready.id, ready.prompt, tuple(ready.answers), (), len(ready.prompt.split()), ready_made=True
        )
        named = ready.task
    else:
        read = msgspec.json.decode(line, type=_Official)
        prompt = task.filled(read.context, read.input)
        sample = Sample(index, read.id, prompt, tuple(read.answers), tuple(read.all_classes or ()), read.length)
        named = read.dataset
    if named not in {task.name, f"{task.name}_e"}:
        raise ValueError(f"is of the data set {named!r}")
    if not sample.prompt:
        raise ValueError("has an empty prompt")
    if not sample.answers:
        raise ValueError("has no answer")
    if task.metric == "class" and not set(sample.answers) <= set(sample.classes):
        raise ValueError("has an answer that is not among all_classes")
    return sample
