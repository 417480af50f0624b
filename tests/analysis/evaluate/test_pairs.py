"""Test ``mambascope.analysis.evaluate.pairs`` and ``curve``: differences by document, bins of position."""

import numpy as np
import pytest

from mambascope.analysis.evaluate.curve import curve_rows
from mambascope.analysis.evaluate.pairs import pair_rows
from mambascope.analysis.evaluate.position_sums import PositionSums, edges_for
from mambascope.analysis.study import bits_by_position


def sums_of(bits, lengths):
    return PositionSums.of_bits(np.array(bits, float), edges_for(lengths))


def test_pairs_are_differences_of_tail_bits_by_document():
    rng = np.random.default_rng(0)
    common = rng.normal(3, 1, (6, 1)) + np.zeros(31)
    more = np.arange(1, 7)[:, None] / 10
    found = {"best": sums_of(common, [8, 32]), "other": sums_of(common + more, [8, 32])}
    document = np.array([0, 0, 1, 2, 3, 4])  # the first document has two passages: 0.1 and 0.2 more
    short, long = pair_rows(found, document, [8, 32], "best")
    assert (short.method, short.reference, short.length, long.length) == ("other", "best", 8, 32)
    assert long.difference == pytest.approx(np.mean([0.15, 0.3, 0.4, 0.5, 0.6]))
    assert 0 < long.ci_low < long.difference < long.ci_high
    assert (long.p, long.documents, long.passages) == (2 / 2**5, 5, 6)


def test_a_curve_is_the_mean_of_each_bin():
    bits = np.random.default_rng(1).random((5, 127))
    edges = edges_for([128])
    control = PositionSums.of_bits(bits - np.arange(5)[:, None], edges)
    rows = curve_rows("m", PositionSums.of_bits(bits, edges), np.arange(5), control)
    by_hand = bits_by_position(bits)
    assert [row.start for row in rows] == by_hand["start"]
    assert [row.stop for row in rows] == by_hand["stop"]
    assert [row.bits_per_token for row in rows] == pytest.approx(by_hand["mean"], rel=1e-12)
    for row in rows:
        assert row.above_control == pytest.approx(2)
        assert row.ci_low < row.bits_per_token < row.ci_high
        assert row.above_ci_low < 2 < row.above_ci_high
        assert row.documents == 5


def test_a_curve_without_a_control_or_with_one_document_says_no_more():
    (first, *_) = curve_rows("m", sums_of(np.ones((1, 63)), [64]), np.arange(1))
    assert first.to_dict() == {
        "method": "m", "start": 1, "stop": 16, "bits_per_token": 1.0, "ci_low": None, "ci_high": None,
        "above_control": None, "above_ci_low": None, "above_ci_high": None, "documents": 1,
    }  # fmt: skip
