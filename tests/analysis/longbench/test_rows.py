"""Test ``mambascope.analysis.longbench.rows``: averages add up, intervals and p-values are the textbook's."""

import itertools

import numpy as np
import pytest
import scipy.stats

from mambascope.analysis.evaluate.intervals import interval
from mambascope.analysis.longbench.rows import AVERAGE, average_rows, pair_rows, printed, task_row
from mambascope.analysis.longbench.tasks import TASKS


def row(method, task, scores):
    n = len(scores)
    return task_row(
        method, TASKS[task], scores, prompt_tokens=[10] * n, answer_tokens=[3] * n, truncated=1, ended=2, broken=0,
        ready_made=False,
    )  # fmt: skip


def drawn(rng, sizes):
    return {task: rng.random(n).tolist() for task, n in zip(TASKS, sizes, strict=False)}


def test_a_score_is_rounded_to_hundredths_of_a_hundred():
    assert printed([1, 1, 0]) == 66.67
    assert printed([0.12345]) == 12.35
    assert printed([0, 0]) == 0


def test_a_row_tells_what_was_asked():
    found = row("none", "trec", [1, 0, 1, 1])
    assert (found.score, found.samples, found.metric, found.answer_limit) == (75.0, 4, "class", 64)
    assert (found.prompt_tokens, found.answer_tokens, found.truncated, found.prompts) == (10, 3, 1, "official")
    inside = [0.25, 0.5, 0.75, 0.5, 0.5, 0.25, 0.5, 0.75]
    own, found = interval(100 * np.array(inside)), row("none", "trec", inside)
    assert (found.ci_low, found.ci_high) == (own.low, own.high)


def test_an_interval_holds_scores_that_there_can_be():
    one, other = row("none", "trec", [1, 0, 1, 1]), row("none", "lcc", [0.0, 0.0, 0.0, 0.1, 0.0])
    assert (one.ci_high, other.ci_low) == (100, 0)
    assert 0 <= one.ci_low < 75
    assert 2 < other.ci_high < 100
    (average,) = average_rows([one], {("none", "trec"): [1, 0, 1, 1]})
    assert (average.ci_low, average.ci_high) == (0, 100)


@pytest.mark.parametrize("score", [0.0, 1.0, 0.5])
def test_samples_that_all_score_the_same_have_no_interval(score):
    """[0, 0] around a score of 0 from 6 samples would say that no other sample could be answered."""
    scores = {("none", "qasper"): [score] * 6, ("none", "lcc"): [0.25, 0.5, 1.0]}
    rows = [row(method, task, each) for (method, task), each in scores.items()]
    assert (rows[0].score, rows[0].ci_low, rows[0].ci_high) == (100 * score, None, None)
    assert rows[1].ci_low is not None
    for some in (rows, rows[:1]):
        (average,) = average_rows(some, scores)
        assert (average.ci_low, average.ci_high) == (None, None)
    assert average_rows(rows[1:], scores)[0].ci_low is not None


def test_averages_are_the_mean_of_what_is_printed():
    rng = np.random.default_rng(0)
    for seed in range(200):
        by_task = drawn(rng, [1 + seed % 5, 3, 4, 5, 6, 7, 3])
        rows = [row("none", task, scores) for task, scores in by_task.items()]
        (average,) = average_rows(rows, {("none", task): scores for task, scores in by_task.items()})
        assert average.tasks == 7
        assert average.score * 7 == pytest.approx(sum(each.score for each in rows), abs=1e-9)
        shown = [f"{each.score:.2f}" for each in rows]
        assert abs(sum(map(float, shown)) / 7 - float(f"{average.score:.2f}")) <= 0.005 + 1e-9


def test_the_interval_of_one_task_is_students_and_of_two_welchs():
    rng = np.random.default_rng(1)
    by_task = drawn(rng, [9, 25])
    a, b = (100 * np.array(scores) for scores in by_task.values())
    one = average_rows([row("none", "qasper", by_task["qasper"])], {("none", "qasper"): by_task["qasper"]})[0]
    expected = scipy.stats.t.interval(0.95, 8, a.mean(), scipy.stats.sem(a))
    assert (one.ci_low, one.ci_high) == pytest.approx(expected, abs=0.01)  # around the rounded mean
    rows = [row("none", task, scores) for task, scores in by_task.items()]
    (two,) = average_rows(rows, {("none", task): scores for task, scores in by_task.items()})
    welch = scipy.stats.ttest_ind(a, -b, equal_var=False).confidence_interval()
    assert two.ci_high - two.ci_low == pytest.approx((welch.high - welch.low) / 2)


def test_a_task_of_one_sample_has_no_interval():
    scores = {("none", "qasper"): [0.5], ("none", "lcc"): [0.25, 0.5]}
    rows = [row("none", "qasper", [0.5]), row("none", "lcc", [0.25, 0.5])]
    (average,) = average_rows(rows, scores)
    assert (average.score, average.ci_low, average.ci_high) == (43.75, None, None)
    assert average_rows([rows[0]], scores)[0].score == 50


def test_differences_are_by_sample_with_each_task_weighing_alike():
    scores = {
        ("none", "qasper"): [0.0, 0.5, 0.25], ("none", "lcc"): [0.5, 0.5],
        ("spectrum", "qasper"): [1.0, 1.0, 0.5], ("spectrum", "lcc"): [0.0, 1.0],
    }  # fmt: skip
    qasper, lcc, average = pair_rows(["none", "spectrum"], scores, "none")
    assert [each.task for each in (qasper, lcc, average)] == ["qasper", "lcc", AVERAGE]
    assert {each.method for each in (qasper, lcc, average)} == {"spectrum"}
    assert qasper.difference == pytest.approx(175 / 3)
    assert lcc.difference == 0
    assert average.difference == pytest.approx(175 / 6)
    assert (qasper.samples, average.samples) == (3, 5)
    differences, weights = np.array([1, 0.5, 0.25, -0.5, 0.5]), np.array([1 / 3] * 3 + [1 / 2] * 2)
    flips = np.array(list(itertools.product([1, -1], repeat=5)))
    means = abs((flips * weights * differences).sum(1))
    assert average.p == pytest.approx((means >= abs((weights * differences).sum()) - 1e-12).mean())
    assert average.p == 0.375  # it is 0.3125 where all samples weigh alike
    assert pair_rows(["none", "spectrum"], scores, None) == []
    assert [each.method for each in pair_rows(["none", "spectrum"], scores, "spectrum")] == ["none"] * 3


def test_methods_that_write_the_same_do_not_differ():
    scores = {(method, "lcc"): [0.5, 0.25, 1.0] for method in ("none", "constant:a:1")}
    lcc, average = pair_rows(["none", "constant:a:1"], scores, "none")
    for each in (lcc, average):
        assert (each.difference, each.ci_low, each.ci_high, each.p) == (0, 0, 0, 1)


def test_samples_that_all_differ_alike_have_no_interval():
    scores = {
        ("none", "lcc"): [0.0, 0.0, 0.0], ("spectrum", "lcc"): [1.0, 1.0, 1.0],
        ("none", "qasper"): [0.0, 0.5], ("spectrum", "qasper"): [1.0, 0.5],
    }  # fmt: skip
    lcc, qasper, average = pair_rows(["none", "spectrum"], scores, "none")
    assert (lcc.difference, lcc.ci_low, lcc.ci_high) == (100, None, None)
    assert qasper.ci_low < qasper.difference < qasper.ci_high
    assert (average.difference, average.ci_low, average.ci_high) == (75, None, None)
