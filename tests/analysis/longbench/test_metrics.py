"""Test ``mambascope.analysis.longbench.metrics``: values by hand, and definitions written a second time."""

import collections
import random
import re
import unicodedata

import pytest

from mambascope.analysis.longbench.metrics import class_score, code_line, edit_similarity, score, token_f1, words
from mambascope.analysis.longbench.tasks import TASKS

F1 = [
    ("Paris", "Paris", 1),
    ("paris.", "PARIS", 1),
    ("the Paris", "Paris", 1),
    ("", "Paris", 0),
    ("Paris", "", 0),
    ("", "", 0),
    ("the", "a", 0),  # nothing is left of either
    ("...!?", "?", 0),
    ("the city of Paris", "Paris", 1 / 2),  # 1 of 3 and 1 of 1
    ("Paris Paris", "Paris", 2 / 3),  # a word counts as often as it stands in both
    ("Paris Paris", "Paris Paris", 1),
    ("in 1984", "1984, in summer", 4 / 5),  # 2 of 2 and 2 of 3
    ("Eiffel-Tower", "Eiffel Tower", 0),  # punctuation goes without a blank
    ("U.S.A.", "USA", 1),
    ("don't know", "dont know", 1),
    ("Zürich", "zürich", 1),
    ("Zürich", "Zurich", 0),
    ("naïve “answer”", "naïve answer", 1 / 2),  # quotation marks beyond ASCII stay
    ("東京 Tokyo", "Tokyo", 2 / 3),
    ("one\ttwo\nthree", "three two one", 1),
    ("an apple a day", "apple the day", 1),  # articles go, inside a text as well
    ("theatre", "atre", 0),  # not inside a word
    ("yes", "no", 0),
    ("A B C D", "c d e f", 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),  # A is an article
]

CLASSES = ["City", "Date", "Other entity", "entity", "Order, rank", "Number of something", "Number", "Café", "Color"]
CLASS = [
    ("City", "City", 1),
    ("Type: City", "City", 1),
    ("city", "City", 0),  # letters count as they are
    ("", "City", 0),
    ("Nothing of these", "City", 0),
    ("City or Date", "City", 1 / 2),
    ("City, Date, Color", "Color", 1 / 3),
    ("Date", "City", 0),
    ("Other entity", "Other entity", 1),  # `entity` is a part of the right one
    ("entity", "Other entity", 0),
    ("Other entity", "entity", 1 / 2),  # here the longer one is another class
    ("Number of something", "Number of something", 1),
    ("Number", "Number of something", 0),
    ("Number of something", "Number", 1 / 2),
    ("Order, rank", "Order, rank", 1),
    ("Order,rank", "Order, rank", 0),
    ("Café", "Café", 1),
    ("Cafe", "Café", 0),
    ("Cafe\u0301", "Café", 0),  # the same letter in two signs
    ("CityCityCity", "City", 1),  # named three times is named
    ("Color!?.", "Color", 1),
    ("City\nDate", "City", 1 / 2),  # which line is scored is for the task to say
]

EDIT = [
    ("x = 1", "x = 1", 1),
    ("", "", 1),
    ("", "x = 1", 0),
    ("x = 1", "", 0),
    ("\n\nx = 1\ny", "x = 1", 1),  # empty lines before it go
    ("  \nx = 1", "x = 1", 0.57),  # a line of blanks is a line, and both blanks match: 2 * 2 / 7
    ("# note\nx = 1", "x = 1", 1),
    ("// note\nx = 1;", "x = 1;", 1),
    ("```python\nx = 1\n```", "x = 1", 1),
    ("# only a note", "x = 1", 0),
    ("# only a note", "", 1),
    ("x = 1  # note", "x = 1", 0),  # a comment behind it takes the line away
    ("abcd", "bcde", 0.75),
    ("ab", "ba", 0.5),
    ("abc", "xyz", 0),
    ("return a", "return b", 0.88),  # 2 * 7 / 16 = 0.875
    ("abcdefgh", "abcdefghijklmnop", 0.67),  # 2 * 8 / 24
    ("Return A", "return a", 0.75),  # letters count as they are
    ("größe = 1", "größe = 2", 0.89),  # 2 * 8 / 18
    ("name = '東京'", "name = '京都'", 0.91),  # `name = '`, 京 and the last quotation mark: 2 * 10 / 22
    ("a.b(c, d)", "a.b(c,d)", 0.94),  # 2 * 8 / 17
    ("\t\tpass", "    pass", 0.57),  # 2 * 4 / 14
    ("x=1\n# note\ny=2", "y=2", 0.33),  # the first line that will do
    ("qabxcd", "abycdz", 0.67),  # blocks ab and cd: 2 * 4 / 12
]


def f1_again(answer, truth):
    """Precision and recall of matched words, matched one by one."""
    strip, left_out = set(r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""), {"", "a", "an", "the"}
    bare = ("".join(c for c in text.lower() if c not in strip) for text in (answer, truth))
    ours, theirs = ([word for word in re.split(r"\s+", text) if word not in left_out] for text in bare)
    rest, matched = list(theirs), 0
    for word in ours:
        if word in rest:
            rest.remove(word)
            matched += 1
    if not matched:
        return 0.0
    precision, recall = matched / len(ours), matched / len(theirs)
    return 2 / (1 / precision + 1 / recall)


def class_again(answer, truth, classes):
    """Without a class that is passed over: those named, less those that are parts of the right one."""
    named = {name for name in classes if name in answer}
    named -= {name for name in named if name in truth and name != truth}
    return 1 / len(named) if truth in named else 0.0


def matched(a, b):
    """Characters in matching blocks: the longest common piece, then left and right of it."""
    best = (0, 0, 0)
    for i in range(len(a)):
        for j in range(len(b)):
            k = 0
            while i + k < len(a) and j + k < len(b) and a[i + k] == b[j + k]:
                k += 1
            if k > best[0]:
                best = (k, i, j)
    k, i, j = best
    return 0 if not k else matched(a[:i], b[:j]) + k + matched(a[i + k :], b[j + k :])


def edit_again(answer, truth):
    lines = [line for line in re.sub(r"^\n+", "", answer).split("\n") if not re.search(r"`|#|//", line)]
    line = lines[0] if lines else ""
    if line == truth:
        return 1.0
    return round(200 * matched(line, truth) / (len(line) + len(truth))) / 100


@pytest.mark.parametrize(("answer", "truth", "expected"), F1)
def test_token_f1(answer, truth, expected):
    assert token_f1(answer, truth) == pytest.approx(expected)
    assert f1_again(answer, truth) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "truth", "expected"), CLASS)
def test_class_score(answer, truth, expected):
    assert class_score(answer, truth, CLASSES) == pytest.approx(expected)
    assert class_again(answer, truth, CLASSES) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "truth", "expected"), EDIT)
def test_edit_similarity(answer, truth, expected):
    assert edit_similarity(answer, truth) == expected
    assert edit_again(answer, truth) == expected


def test_there_are_enough_cases():
    for cases in (F1, CLASS, EDIT):
        assert len(cases) >= 20
        texts = [text for answer, truth, _ in cases for text in (answer, truth)]
        assert "" in texts
        assert any(not text.isascii() for text in texts)
        assert any(unicodedata.category(sign).startswith("P") for text in texts for sign in text)
        assert len({round(value, 3) for _, _, value in cases}) >= 4  # not all right or wrong


def test_random_texts_score_as_the_second_definitions_say():
    rng = random.Random(0)
    vocabulary = ["the", "a", "Fox", "fox.", "dog", "é", "x=1", "#", "\n", "City", "Date", "京"]
    found = collections.Counter()
    for _ in range(300):
        answer, truth = (" ".join(rng.choices(vocabulary, k=rng.randrange(7))) for _ in range(2))
        assert token_f1(answer, truth) == pytest.approx(f1_again(answer, truth))
        assert edit_similarity(answer, truth) == edit_again(answer, truth)
        assert class_score(answer, "City", CLASSES) == class_again(answer, "City", CLASSES)
        found["f1"] += 0 < token_f1(answer, truth) < 1
        found["edit"] += 0 < edit_similarity(answer, truth) < 1
    assert min(found.values()) > 50


def test_a_class_behind_a_removed_one_is_passed_over_as_in_the_released_code():
    """``big red`` and ``red fox`` are parts of the right class: the first is removed, and the second then not seen."""
    classes = ["big red", "red fox", "big red fox"]
    assert class_score("big red fox", "big red fox", classes) == 1 / 2
    assert class_again("big red fox", "big red fox", classes) == 1


def test_the_best_of_several_right_answers_counts():
    assert score(TASKS["qasper"], "the dog", ["cat", "dog", "a dog house"]) == 1
    assert score(TASKS["qasper"], "dog", ["cat", "dog house"]) == pytest.approx(2 / 3)
    assert score(TASKS["lcc"], "x = 1", ["y", "x = 1"]) == 1
    assert score(TASKS["qasper"], "dog", []) == 0


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        ("trec", "\n\nCity\nDate", 1),
        ("trec", "City Date\nCity", 1 / 2),
        ("trec", "\nDate\nCity", 0),
        ("triviaqa", "\nCity\nanother question", 1),
        ("triviaqa", "none\nCity", 0),
        ("hotpotqa", "City\nanother question", 1 / 2),  # all lines count: 1 of 3 and 1 of 1
        ("qasper", "none\nCity", 2 / 3),
        ("repobench-p", "City\nDate", 1),
    ],
)
def test_which_lines_are_scored(task, answer, expected):
    assert score(TASKS[task], answer, ["City"], CLASSES) == pytest.approx(expected)


def test_words_and_code_lines():
    assert words("An Answer: the\u00a0end!") == ["answer", "end"]
    assert code_line("\n\n  x\ny") == "  x"
    assert code_line("#\n//\n`") == ""
