"""The seven tasks: prompt, longest answer, metric, as LongBench fixes them.

Source: LongBench (Bai et al., arXiv 2308.14508), ``config/dataset2prompt.json``, ``config/dataset2maxlen.json`` and
``eval.py`` of its repository (THUDM/LongBench); which tasks: Mamba Modulation (arXiv 2509.19633), Table 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest

Metric = Literal["f1", "class", "edit"]
"""``f1``: token F1; ``class``: class in the answer; ``edit``: similarity of the first line of code."""


@dataclass(frozen=True, slots=True)
class LongBenchTask:
    """One task."""

    name: str
    """Name of its file, without suffix."""
    title: str
    """Name in tables."""
    group: str
    """What it asks for."""
    prompt: str
    """The official prompt, with places for ``{context}`` and ``{input}``."""
    answer_tokens: int
    """Tokens of an answer at most."""
    metric: Metric
    """How an answer is scored."""
    first_line: bool = False
    """Only the first line of an answer is scored."""

    def filled(self, context: str, question: str) -> str:
        """Return the prompt of a sample."""
        return self.prompt.format(context=context, input=question)


_UNANSWERABLE = (
    "Answer the question {based}as concisely as you can, using a single phrase or sentence if possible. If the "
    'question cannot be answered based on the information in the article, write "unanswerable". If the question is a '
    'yes/no question, answer "yes", "no", or "unanswerable". Do not provide any explanation.\n\n'
)
_ONLY_THE_ANSWER = (
    "Answer the question based on the given passages. Only give me the answer and do not output any other words.\n\n"
)
_PASSAGES = _ONLY_THE_ANSWER + (
    "The following are given passages.\n{context}\n\n" + _ONLY_THE_ANSWER + "Question: {input}\nAnswer:"
)
_QASPER = (
    "You are given a scientific article and a question. "
    + _UNANSWERABLE.replace("{based}", "")
    + "Article: {context}\n\n "
    + _UNANSWERABLE.replace("{based}", "based on the above article ")
    + "Question: {input}\n\nAnswer:"
)
_TREC = "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n{input}"
_TRIVIA = (
    "Answer the question based on the given passage. Only give me the answer and do not output any other words. The "
    "following are some examples.\n\n{context}\n\n{input}"
)
_CODE = "Please complete the code given below. \n{context}Next line of code:\n"

TASKS: dict[str, LongBenchTask] = {
    task.name: task
    for task in (
        LongBenchTask("qasper", "Qasper", "questions on one document", _QASPER, 128, "f1"),
        LongBenchTask("hotpotqa", "HotpotQA", "questions on several documents", _PASSAGES, 32, "f1"),
        LongBenchTask("2wikimqa", "2WikiMQA", "questions on several documents", _PASSAGES, 32, "f1"),
        LongBenchTask("trec", "TREC", "learning from examples", _TREC, 64, "class", first_line=True),
        LongBenchTask("triviaqa", "TriviaQA", "learning from examples", _TRIVIA, 32, "f1", first_line=True),
        LongBenchTask("lcc", "LCC", "code", _CODE, 64, "edit"),
        LongBenchTask("repobench-p", "RepoBench-P", "code", _CODE.replace("{context}", "{context}{input}"), 64, "edit"),
    )
}
"""In the order of the paper's Table 2."""


def find_tasks(names: Sequence[str]) -> tuple[LongBenchTask, ...]:
    """Return tasks by name.

    Args:
        names: names of files without suffix, such as ``qasper``.

    Returns:
        Each once, in the order of the paper's table.

    Raises:
        RefusedInputError: an unknown name, with the nearest that there is.
    """
    for name in names:
        if name not in TASKS:
            hint = nearest(name, TASKS)
            near = f"{hint} " if hint else ""
            raise RefusedInputError(f"LongBench task {name!r}: {near}Expected some of {', '.join(TASKS)}")
    return tuple(task for name, task in TASKS.items() if name in names)
