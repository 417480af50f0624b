"""Test ``mambascope.analysis.evaluate.intervals``: coverage, sign flips, and that a document counts once."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from mambascope.analysis.evaluate.intervals import by_document, interval, paired, sign_flip_p
from mambascope.analysis.evaluate.passages import Passages

FALSE_ALARM = 1e-6


def test_intervals_of_eight_documents_hold_the_mean_as_often_as_they_say():
    rng, trials = np.random.default_rng(0), 1000
    found = [interval(rng.normal(size=8)) for _ in range(trials)]
    hits = sum(each.low <= 0 <= each.high for each in found)
    lowest, highest = (scipy.stats.binom.ppf(q, trials, 0.95) for q in (FALSE_ALARM, 1 - FALSE_ALARM))
    assert lowest <= hits <= highest  # a percentile bootstrap has 890 of them


def test_skewed_documents_are_held_better_than_by_students_interval():
    rng = np.random.default_rng(1)
    draws = [rng.exponential(size=8) - 1 for _ in range(600)]
    ours = np.mean([(found := interval(x)).low <= 0 <= found.high for x in draws])
    half = [scipy.stats.t.ppf(0.975, 7) * x.std(ddof=1) / math.sqrt(8) for x in draws]
    students = np.mean([abs(x.mean()) <= h for x, h in zip(draws, half, strict=True)])
    assert ours > students + 0.02


def test_an_interval_moves_and_stretches_with_its_values():
    x = np.random.default_rng(2).exponential(size=9)
    found, other = interval(x), interval(3 - 2 * x)
    assert (other.low, other.high) == pytest.approx((3 - 2 * found.high, 3 - 2 * found.low), rel=1e-3)
    assert interval(x) == found  # the same resamples each time
    assert found.low < found.mean < found.high
    assert found.high - found.mean > found.mean - found.low  # a long tail above


@pytest.mark.parametrize("n", [5, 7])
def test_the_interval_is_the_studentised_bootstrap_that_is_described(n):
    x = np.random.default_rng(6).exponential(size=n)
    error = x.std(ddof=1) / math.sqrt(n)
    drawn = x[np.random.default_rng(0).integers(0, n, (9999, n), dtype=np.int32)]
    spread = np.sqrt(0.95 * np.square(drawn - drawn.mean(1, keepdims=True)).sum(1) / (n - 1) / n + 0.05 * error**2)
    t = np.sort((drawn.mean(1) - x.mean()) / spread)
    found = interval(x)  # 2.5 % of 9,999 are 250 on either side
    assert (found.low, found.high) == pytest.approx((x.mean() - t[9748] * error, x.mean() - t[250] * error), rel=1e-12)


def test_few_documents_get_students_interval_and_one_none():
    """Values 1, 2, 3: mean 2, sd 1, t(.975, 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.4842."""
    found = interval(np.array([1.0, 2.0, 3.0]))
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert interval(np.array([2.0])).to_dict() == {"mean": 2.0, "low": None, "high": None, "documents": 1}
    assert paired(np.array([2.0]), np.array([1.0])).p is None
    with pytest.raises(ValueError, match="0 documents"):
        interval(np.array([]))
    for same in (np.zeros(8), np.full(5, 2.0)):
        assert (interval(same).low, interval(same).high) == (same[0], same[0])
    lone = interval(np.array([0.0] * 7 + [1.0]))  # many resamples hold zeros alone
    assert math.isfinite(lone.low)
    assert math.isfinite(lone.high)
    many = np.random.default_rng(3).normal(size=300)
    half = scipy.stats.t.ppf(0.975, 299) * many.std(ddof=1) / math.sqrt(300)
    assert interval(many).high == pytest.approx(many.mean() + half)


def test_sign_flips_are_counted_exactly():
    d = np.array([0.3, -0.1, 0.25, 0.2])
    means = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=4)]
    assert sign_flip_p(d) == np.mean([m >= abs(d.sum()) - 1e-12 for m in means])
    assert sign_flip_p(np.arange(1.0, 9.0)) == 2 / 2**8
    assert sign_flip_p(np.zeros(5)) == 1
    assert sign_flip_p(-d) == sign_flip_p(d)


def test_random_flips_agree_with_all_of_them():
    x = np.random.default_rng(4).normal(0.3, 1, 17)
    signs = 1.0 - 2 * (np.arange(2**17)[:, None] >> np.arange(17) & 1)
    exact = (abs(signs @ x) >= abs(x.sum()) - 1e-12).mean()
    spread = math.sqrt(exact * (1 - exact) / 16_384)
    assert sign_flip_p(x) == pytest.approx(exact, abs=5 * spread)
    assert sign_flip_p(np.ones(40)) == 1 / 16_384


def test_paired_differences_forget_what_documents_have_in_common():
    rng = np.random.default_rng(5)
    common = rng.normal(0, 10, 8)
    a, b = common + rng.normal(0.5, 0.01, 8), common + rng.normal(0, 0.01, 8)
    found = paired(a, b)
    assert 0.45 < found.low < found.mean < found.high < 0.55
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert (found.p, found.documents) == (2 / 2**8, 8)


def test_a_document_counts_once_however_many_passages_it_has():
    read = Passages(np.zeros((5, 2), int), np.array([0, 0, 0, 1, 2]), ("a", "b", "c"))
    values = np.array([1.0, 2.0, 6.0, 5.0, 7.0])
    assert by_document(values, read).tolist() == [3.0, 5.0, 7.0]
    assert by_document(values, read.document).tolist() == [3.0, 5.0, 7.0]
    short = np.array([1.0, np.nan, 6.0, np.nan, 7.0])  # a passage of the first, and the second altogether
    assert by_document(short, read).tolist() == [3.5, 7.0]
    repeated = by_document(np.repeat(values, 10), np.repeat(read.document, 10))
    assert interval(repeated) == interval(np.array([3.0, 5.0, 7.0]))  # more passages, no narrower
