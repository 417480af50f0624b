"""Test ``mambascope.analysis.evaluate.position_sums``: sums equal the means of all bits, whatever is asked for."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from mambascope.analysis.evaluate.bits import fresh_window_bits, last_bits, token_bits
from mambascope.analysis.evaluate.passages import Passages, cut_passages
from mambascope.analysis.evaluate.position_sums import (
    PositionSums,
    curve_edges,
    edges_for,
    score,
    score_fresh,
    score_last,
)
from mambascope.analysis.methods.decimation import Decimation
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document

LENGTHS = (16, 130, 700, 1501)


def passages(count=5, length=1501):
    return Passages.of_tokens(np.random.default_rng(0).integers(0, 50, (count, length)))


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_means_are_those_of_all_bits(make_model, arch):
    model, read, how = make_model(arch), passages(), scaling("a", 3.0)
    edges = edges_for(LENGTHS)
    batches = [read.tokens[:3], read.tokens[3:]]
    bits = np.concatenate([token_bits(model, ids, how) for ids in batches])
    pairs = [
        (score(model, read, edges, how, batch=3), bits),
        (score_fresh(model, read, edges, 64), fresh_window_bits(model, read.tokens, 64)),
    ]
    for sums, direct in pairs:
        for first, stop in [*itertools.combinations(edges.tolist(), 2)]:
            np.testing.assert_allclose(sums.mean(first, stop), direct[:, first - 1 : stop - 1].mean(1), rtol=1e-12)
        for n in LENGTHS:
            np.testing.assert_allclose(sums.whole(n), direct[:, : n - 1].mean(1), rtol=1e-12)
            np.testing.assert_allclose(sums.tail(n), direct[:, n // 2 - 1 : n - 1].mean(1), rtol=1e-12)
            np.testing.assert_allclose(sums.last(n), direct[:, max(1, n - 100) - 1 : n - 1].mean(1), rtol=1e-12)
        np.testing.assert_allclose(PositionSums.of_bits(direct, edges).sums, sums.sums, rtol=1e-12)


def test_passages_that_end_before_have_no_mean_and_change_no_other(make_model):
    model = make_model("mamba2")
    ids = np.random.default_rng(1).integers(0, 50, (2, 1501))
    read = cut_passages([Document("long", ids[0]), Document("short", ids[1, :800])], 1501, shorter=LENGTHS)
    edges = edges_for(LENGTHS)
    for scored in (score(model, read, edges), score_fresh(model, read, edges, 64)):
        assert np.isnan(scored.whole(1501)).tolist() == [False, True]
        assert np.isfinite(scored.whole(700)).all()
    alone = score(model, Passages.of_tokens(ids[:1]), edges)
    np.testing.assert_array_equal(score(model, read, edges).sums[0], alone.sums[0])


def test_last_tokens_are_filed_where_they_stand(make_model):
    model, read, rule = make_model("mamba2"), passages(2, 300), Decimation((1,), (50,), 101)
    ticks = []
    found = score_last(model, read, edges_for([300]), rule, ticks.append)
    np.testing.assert_allclose(found.last(300), last_bits(model, read.tokens, rule, 100).mean(1), rtol=1e-5)
    assert np.isnan(found.whole(300)).all()
    assert np.isnan(score_last(model, passages(2, 200), edges_for([200, 300]), rule, ticks.append).sums).all()
    assert ticks == [300, 300]


def test_edges_hold_every_start_and_end():
    edges = edges_for([1000, 64])
    assert {1, 64, 32, 1000, 500, 900, *curve_edges(1000)} <= set(edges.tolist())
    assert edges.tolist() == sorted(set(edges.tolist()))
    assert edges_for([2]).tolist() == [1, 2]
    for wrong in ([], [1, 8]):
        with pytest.raises(ValueError, match="at least 2"):
            edges_for(wrong)


def test_a_position_that_is_no_edge_is_refused(make_model):
    sums = PositionSums.of_bits(np.ones((2, 63)), edges_for([64]))
    for first, stop in ((2, 64), (1, 63), (1, 65)):
        with pytest.raises(ValueError, match="is no edge"):
            sums.mean(first, stop)
    with pytest.raises(ValueError, match="at least one between"):
        sums.mean(32, 32)
    with pytest.raises(ValueError, match="passages of 60 tokens: expected their length among"):
        score(make_model("mamba"), passages(1, 60), edges_for([64]))


def test_a_mean_is_the_same_to_the_last_digit_whatever_it_was_added_from():
    bits = np.random.default_rng(2).exponential(4, (3, 3000))
    whole = PositionSums.of_bits(bits, np.array([1, 3001]))
    fine = PositionSums.of_bits(bits, np.arange(1, 3002))
    blocks = PositionSums.filled(3, edges_for([3001]))
    for first in range(0, 3000, 77):
        blocks.add(slice(None), first + 1, bits[:, first : first + 77])
    for sums in (fine, blocks):
        np.testing.assert_array_equal(sums.whole(3001), whole.whole(3001))
    exact = np.array([math.fsum(row) / 3000 for row in bits])
    np.testing.assert_allclose(whole.whole(3001), exact, rtol=2e-16)
    assert (bits.cumsum(1)[:, -1] != bits[:, ::-1].cumsum(1)[:, -1]).any()  # plain sums depend on the order


def test_arrays_come_back_as_they_were():
    sums = PositionSums.of_bits(np.random.default_rng(0).random((3, 63)), edges_for([64]))
    again = PositionSums.of_arrays(sums.arrays())
    np.testing.assert_array_equal(again.sums, sums.sums)
    np.testing.assert_array_equal(again.rest, sums.rest)
    np.testing.assert_array_equal(again.edges, sums.edges)


def test_nothing_of_the_size_of_the_text_is_kept(make_model):
    model = make_model("mamba2", d_model=8, n_layer=1, d_inner=16)
    peaks = []
    for length in (2**13, 2**16):
        read = Passages.of_tokens(np.zeros((1, length), np.uint8))
        edges = edges_for([length])
        tracemalloc.start()
        score(model, read, edges)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2 * 2**16  # all bits as float64 would be 8 bytes a token
