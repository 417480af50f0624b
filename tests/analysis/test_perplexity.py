"""Test ``mambascope.analysis.evaluate.perplexity``: bits, the control's windows, tails, intervals."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.perplexity import (
    Perplexity,
    fresh_window_bits,
    perplexity,
    rows_by_length,
    stack_documents,
    token_bits,
)
from mambascope.spectra.errors import TextError
from mambascope.spectra.scales import scaling

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def bits_of_whole(model, ids, how=None):
    (block,) = model.stream(ids, intervention=how, block_length=10_000)
    log_p = block.logits().double().log_softmax(-1)
    return -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].numpy() / math.log(2)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bits_equal_the_softmax_of_the_logits(arch):
    model, ids = tiny.tiny_model(arch), torch.randint(0, 50, (3, 2100))
    np.testing.assert_allclose(token_bits(model, ids), bits_of_whole(model, ids), rtol=1e-4, atol=1e-4)
    how = scaling("a", 3.0)
    np.testing.assert_allclose(token_bits(model, ids, how), bits_of_whole(model, ids, how), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [16, 17, 23, 24, 25, 40, 100])
def test_the_control_scores_each_token_in_a_window_that_started_before_it(length):
    """By the definition: token t belongs to the window that starts at the largest multiple of T/2 at most t - T/2."""
    T, model = 16, tiny.tiny_model("mamba2")
    ids = torch.randint(0, 50, (2, length))
    found = fresh_window_bits(model, ids, T, windows_at_once=3)
    for t in range(1, length):
        start = max(0, (t - T // 2) // (T // 2) * (T // 2))
        assert start == 0 or T // 2 <= t - start < T
        direct = bits_of_whole(model, ids[:, start : t + 1])[:, -1]
        np.testing.assert_allclose(found[:, t - 1], direct, rtol=1e-4, atol=1e-4)


def test_inside_the_training_length_the_control_is_the_model_itself():
    model, ids = tiny.tiny_model("mamba"), torch.randint(0, 50, (2, 16))
    np.testing.assert_allclose(fresh_window_bits(model, ids, 16), token_bits(model, ids), rtol=1e-5, atol=1e-5)


def test_rows_by_hand():
    """Bits 1..7 of tokens 1..7; length 8: mean 4, tail tokens 4..7: 5.5; length 4: mean 2, tail tokens 2, 3: 2.5."""
    bits = np.arange(1.0, 8.0)[None, :]
    eight, four = rows_by_length("m", bits, [8, 4], control=bits - 1)
    assert (eight.bits_per_token, eight.tail_bits_per_token, eight.tokens) == (4.0, 5.5, 7)
    assert (four.bits_per_token, four.tail_bits_per_token, four.tokens) == (2.0, 2.5, 3)
    assert eight.perplexity == 16
    assert eight.harm == 1.0
    assert eight.ci_low is None
    assert eight.harm_ci_low is None


def test_intervals_are_students_over_documents():
    """Document means 1, 2, 3: mean 2, sd 1, t(.975, 2) = 4.3027, half width 4.3027/sqrt(3) = 2.4842."""
    bits = np.repeat([[1.0], [2.0], [3.0]], 5, axis=1)
    (row,) = rows_by_length("m", bits, [6], control=None)
    assert (row.ci_low, row.ci_high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert row.harm is None


def test_shorter_lengths_come_from_the_same_pass():
    model, ids = tiny.tiny_model("mamba2"), torch.randint(0, 50, (2, 64)).numpy()
    table = perplexity(model, ids, lengths=[20, 64], train_length=16)
    alone = perplexity(model, ids[:, :20], lengths=[20])
    assert table.rows[0].bits_per_token == pytest.approx(alone.rows[0].bits_per_token, rel=1e-6)
    assert [r.method for r in table.rows] == ["none", "none", "fresh-window", "fresh-window"]
    assert "fresh-window" in str(table)


def test_a_uniform_model_needs_the_logarithm_of_the_vocabulary():
    model = tiny.tiny_model("mamba")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    table = perplexity(model, torch.randint(0, 50, (1, 30)), lengths=[30])
    assert table.rows[0].perplexity == pytest.approx(50, rel=1e-5)


def test_documents_too_short_are_left_out_and_none_is_refused():
    documents = [np.arange(5), np.arange(9), np.arange(7)]
    assert stack_documents(documents, 7).shape == (2, 7)
    with pytest.raises(TextError, match=r"0 of 3 documents reach 10 tokens \(the longest has 9\)"):
        stack_documents(documents, 10)
    with pytest.raises(TextError, match="expected 2 to 30"):
        perplexity(tiny.tiny_model("mamba"), torch.zeros(1, 30, dtype=torch.long), lengths=[31])


def test_a_perplexity_that_overflows_is_none():
    (row,) = rows_by_length("m", np.full((1, 7), 2000.0), [8], control=None)
    assert row.perplexity is None
    assert row.bits_per_token == 2000
    assert "inf" in str(Perplexity((row,)))
