"""Test ``mambascope.analysis.evaluate.rows``: the three protocols by hand, documents, perplexity."""

import numpy as np
import pytest

from mambascope.analysis.evaluate.position_sums import PositionSums, edges_for
from mambascope.analysis.evaluate.rows import rows_by_length, rows_of


def test_rows_by_hand():
    """Bits 1..7 of tokens 1..7; length 8: mean 4, tail tokens 4..7: 5.5; length 4: mean 2, tail tokens 2, 3: 2.5."""
    bits = np.arange(1.0, 8.0)[None, :]
    eight, four = rows_by_length("m", bits, [8, 4], control=bits - 1)
    assert (eight.bits_per_token, eight.tail_bits_per_token, eight.tokens) == (4.0, 5.5, 7)
    assert (four.bits_per_token, four.tail_bits_per_token, four.tokens) == (2.0, 2.5, 3)
    assert eight.perplexity == 16
    assert eight.harm == 1.0
    assert (eight.documents, eight.passages) == (1, 1)
    assert eight.ci_low is None
    assert eight.harm_ci_low is None


def test_the_last_tokens_by_hand():
    """Tokens 1..299 have as many bits each: the last 100 of 300 are 200..299, those of 50 all of 1..49."""
    bits = np.arange(1.0, 300.0)[None, :] / 100
    whole, short = rows_by_length("m", bits, [300, 50], control=None)
    assert whole.last_bits_per_token == pytest.approx(2.495)
    assert whole.last_perplexity == pytest.approx(2**2.495)
    assert short.last_bits_per_token == pytest.approx(short.bits_per_token)
    assert whole.harm is None


def test_three_documents_have_students_interval():
    """Document means 1, 2, 3: mean 2, sd 1, t(.975, 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.4842."""
    bits = np.repeat([[1.0], [2.0], [3.0]], 5, axis=1)
    (row,) = rows_by_length("m", bits, [6], control=None)
    assert (row.ci_low, row.ci_high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)


def test_documents_weigh_the_same_however_many_passages_they_have():
    """Three passages of 1 bit and one of 5, of two documents: mean 3, perplexity 2^3 and not 2^2."""
    bits = np.repeat([[1.0], [1.0], [1.0], [5.0]], 7, axis=1)
    (row,) = rows_by_length("m", bits, [8], control=bits / 2, document=np.array([0, 0, 0, 1]))
    assert (row.bits_per_token, row.tail_bits_per_token, row.last_bits_per_token) == (3, 3, 3)
    assert (row.perplexity, row.harm) == (8, 1.5)
    assert (row.documents, row.passages, row.tokens) == (2, 4, 28)


def test_each_length_counts_what_reaches_it():
    edges = edges_for([8, 16])
    sums = PositionSums.of_bits(np.ones((3, 15)), edges)
    sums.sums[2, np.searchsorted(edges, 8) :] = np.nan
    short, long = rows_of("m", sums, np.arange(3), [8, 16], sums)
    assert (short.documents, short.tokens, long.documents, long.tokens) == (3, 21, 2, 30)
    assert (short.bits_per_token, long.bits_per_token, long.harm) == (1, 1, 0)


def test_a_perplexity_that_overflows_is_none():
    (row,) = rows_by_length("m", np.full((1, 7), 2000.0), [8], control=None)
    assert row.perplexity is None
    assert row.last_perplexity is None
    assert row.bits_per_token == 2000
