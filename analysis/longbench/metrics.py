"""The metrics of the seven tasks, from 0 to 1, written from their definitions.

* ``token_f1``: F1 of the bags of words of both texts, in lower case, without ASCII punctuation and the words a, an,
  the. Source: SQuAD (arXiv 1606.05250), as LongBench uses it.
* ``class_score``: 1 / n where the right class is one of the n classes whose names stand in the answer, else 0. Names
  that are a part of the right one do not count.
* ``edit_similarity``: 2 M / (characters of both lines), M the characters in matching blocks, rounded to hundredths. The
  line is the first of an answer with none of the signs of a comment or a fence. Source: Ratcliff and Metzener (1988) as
  ``difflib`` has it, which is what ``fuzzywuzzy.fuzz.ratio`` uses where python-Levenshtein is not installed; with that
  it is the indel similarity, which is never below.

Source of all: ``metrics.py`` and ``eval.py`` of THUDM/LongBench.
"""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Sequence

from .tasks import LongBenchTask

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_CODE = ("`", "#", "//")


def words(text: str) -> list[str]:
    """Return what is compared of a text.

    >>> words("The  Eiffel-Tower, a tower.")
    ['eiffeltower', 'tower']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def token_f1(answer: str, truth: str) -> float:
    """Return the F1 of two texts' words.

    Args:
        answer: what the model wrote.
        truth: a right answer.

    Returns:
        0 where they have no word in common, so also where one of them has none.

    >>> token_f1("the red fox", "A fox!")
    0.6666666666666666
    """
    ours, theirs = words(answer), words(truth)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def class_score(answer: str, truth: str, classes: Sequence[str]) -> float:
    """Return the share of the right class among the classes that an answer names.

    Args:
        answer: what the model wrote.
        truth: the right class.
        classes: names of all of them.

    Returns:
        1, a fraction, or 0.

    >>> class_score("Date or City", "City", ["City", "Date", "Food"])
    0.5
    """
    named = [name for name in classes if name in answer]
    place = 0
    while place < len(named):  # the released code removes from the list that it walks: the one behind is passed over
        if named[place] != truth and named[place] in truth:
            named.remove(named[place])
        place += 1
    return 1 / len(named) if truth in named else 0.0


def code_line(answer: str) -> str:
    """Return the first line of an answer that is neither comment nor fence; empty where there is none."""
    lines = answer.lstrip("\n").split("\n")
    return next((line for line in lines if not any(sign in line for sign in _NO_CODE)), "")


def edit_similarity(answer: str, truth: str) -> float:
    r"""Return how alike the first line of code and the right one are.

    Args:
        answer: what the model wrote.
        truth: the right line.

    Returns:
        A number of hundredths.

    >>> edit_similarity("x = 1\ny = 2", "x = 2")
    0.8
    """
    line = code_line(answer)
    return round(100 * difflib.SequenceMatcher(None, line, truth).ratio()) / 100


def score(task: LongBenchTask, answer: str, truths: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Score an answer.

    Args:
        task: which metric, and whether of the first line alone.
        answer: what the model wrote.
        truths: right answers.
        classes: names of all classes, where the task has some.

    Returns:
        The best over the right answers, from 0 to 1.
    """
    read = answer.lstrip("\n").split("\n")[0] if task.first_line else answer
    if task.metric == "f1":
        found = [token_f1(read, truth) for truth in truths]
    elif task.metric == "class":
        found = [class_score(read, truth, classes) for truth in truths]
    else:
        found = [edit_similarity(read, truth) for truth in truths]
    return max(found, default=0.0)
