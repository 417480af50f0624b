"""Test ``mambascope.analysis.evaluate.bits``: bits, and the control's windows."""

import math

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import fresh_window_bits, stream_fresh_bits, token_bits
from mambascope.spectra.scales import scaling


def bits_of_whole(model, ids, how=None):
    (block,) = model.stream(ids, intervention=how, block_length=10_000)
    log_p = block.logits().double().log_softmax(-1)
    return -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].numpy() / math.log(2)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bits_equal_the_softmax_of_the_logits(make_model, arch):
    model, ids = make_model(arch), torch.randint(0, 50, (3, 2100))
    np.testing.assert_allclose(token_bits(model, ids), bits_of_whole(model, ids), rtol=1e-4, atol=1e-4)
    how = scaling("a", 3.0)
    np.testing.assert_allclose(token_bits(model, ids, how), bits_of_whole(model, ids, how), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [16, 17, 23, 24, 25, 40, 100])
def test_the_control_scores_each_token_in_a_window_that_started_before_it(make_model, length):
    """By the definition: token t belongs to the window that starts at the largest multiple of T/2 at most t - T/2."""
    T, model = 16, make_model("mamba2")
    ids = torch.randint(0, 50, (2, length))
    found = fresh_window_bits(model, ids, T, windows_at_once=3)
    for t in range(1, length):
        start = max(0, (t - T // 2) // (T // 2) * (T // 2))
        assert start == 0 or T // 2 <= t - start < T
        direct = bits_of_whole(model, ids[:, start : t + 1])[:, -1]
        np.testing.assert_allclose(found[:, t - 1], direct, rtol=1e-4, atol=1e-4)


def test_the_windows_of_a_row_follow_each_other(make_model):
    ids = torch.randint(0, 50, (2, 70))
    expected = [1, 1]
    for row, first, bits in stream_fresh_bits(make_model("mamba"), ids, 16, windows_at_once=2):
        assert first == expected[row]
        expected[row] += len(bits)
    assert expected == [70, 70]


def test_inside_the_training_length_the_control_is_the_model_itself(make_model):
    model, ids = make_model("mamba"), torch.randint(0, 50, (2, 16))
    np.testing.assert_allclose(fresh_window_bits(model, ids, 16), token_bits(model, ids), rtol=1e-5, atol=1e-5)
