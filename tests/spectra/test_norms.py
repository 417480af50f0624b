"""Test ``mambascope.spectra.norms``: Table 1's definition by hand, and one pass against many runs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.spectra.errors import TextError
from mambascope.spectra.norms import StateNormObserver, StateNorms, state_norms, table1, trajectory_lengths
from mambascope.spectra.scales import scaling

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def test_table_1_on_states_worked_by_hand():
    """Layer 0: vectors (3,4) and (0,1), norms 5 and 1, range 4. Layer 1: (6,8), (0,7.5): 10 and 7.5, range 2.5.

    Convolution of layer 0: norms 2 and 0, range 2. So the pair is (5, 1) of layer 0 although the largest norm of all
    is 10 and the smallest 0; runner-up is layer 1.
    """
    ssm = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[6.0, 8.0], [0.0, 7.5]]]).norm(dim=-1).numpy()
    vector = ssm[None, :, None, None, :]  # (1 length, 2 layers, 1 row, 1 head, 2 channels)
    conv = np.array([[[[2.0, 0.0]], [[1.0, 1.0]]]])
    (cell,) = table1(StateNorms("m", (7,), vector, conv))
    assert (cell.length_tokens, cell.max, cell.min, cell.layer, cell.cache) == (7, 5.0, 1.0, 0, "ssm")
    assert cell.runner_up_layer == 1


def test_table_1_may_be_won_by_a_convolution_cache():
    vector = np.array([[[[[5.0, 4.5]]]]])
    conv = np.array([[[[9.0, 1.0]]]])
    (cell,) = table1(StateNorms("m", (7,), vector, conv))
    assert (cell.max, cell.min, cell.cache, cell.runner_up_layer) == (9.0, 1.0, "conv", 0)


def test_table_1_reads_the_last_row_of_a_batch():
    vector = np.array([[[[[9.0, 1.0]], [[4.0, 3.0]]]]])  # (1 length, 1 layer, 2 rows, 1 head, 2 channels)
    conv = np.array([[[[7.0, 0.0], [2.0, 1.5]]]])
    (cell,) = table1(StateNorms("m", (7,), vector, conv))
    assert (cell.max, cell.min, cell.cache) == (4.0, 3.0, "ssm")


def test_norms_of_heads_layers_and_batches_by_hand():
    """Two heads of two channels: norms 3 and 4 make a head of 5, 0 and 12 one of 12, both a layer of 13."""
    vector = np.array([[[[[3.0, 4.0], [0.0, 12.0]], [[1.0, 0.0], [0.0, 0.0]]]]])
    norms = StateNorms("m", (7,), vector, np.ones((1, 1, 2, 1)))
    assert norms.head_l2().tolist() == [[[[5.0, 12.0], [1.0, 0.0]]]]
    assert norms.layer_l2().tolist() == [[[13.0, 1.0]]]
    assert norms.rms() == pytest.approx(np.sqrt((13**2 + 1) / 2))  # over the two rows


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_one_pass_equals_a_run_for_each_length(arch):
    model = tiny.tiny_model(arch)
    ids = torch.randint(0, 50, (2, 90))
    lengths = [1, 3, 40, 90]
    found = state_norms(model, ids, lengths)
    assert found.lengths_tokens == tuple(lengths)
    for k, length in enumerate(lengths):
        (block,) = model.stream(ids[:, :length])
        for layer, state in enumerate(block.state.layers):
            direct = state.ssm.norm(dim=-1).reshape(found.vector_l2[k, layer].shape)
            np.testing.assert_allclose(found.vector_l2[k, layer], direct, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.conv_l2[k, layer], state.conv.norm(dim=1), rtol=1e-4, atol=1e-6)
            heads = state.ssm.flatten(2).norm(dim=2)
            np.testing.assert_allclose(found.head_l2()[k, layer], heads, rtol=1e-4, atol=1e-6)
            whole = state.ssm.flatten(1).norm(dim=1)
            np.testing.assert_allclose(found.layer_l2()[k, layer], whole, rtol=1e-4)


def test_rows_name_the_place_of_the_maximum():
    vector = np.ones((1, 1, 2, 3, 4))
    vector[0, 0, 1, 2, 3] = 5
    (row,) = StateNorms("m", (8,), vector, np.ones((1, 1, 2, 1))).rows()
    assert (row["layer"], row["length"], row["max"], row["min"]) == (0, 8, 5.0, 1.0)
    assert (row["max_head"], row["max_channel"]) == (2, 3)
    assert row["mean"] == pytest.approx((23 + 5) / 24)
    assert row["layer_l2"] == pytest.approx(np.sqrt((12 + 11 + 25) / 2))


def test_rows_have_the_quantiles_that_they_name():
    vector = np.arange(101.0).reshape(1, 1, 1, 1, 101)
    (row,) = StateNorms("m", (8,), vector, np.ones((1, 1, 1, 1))).rows()
    assert [row[f"q{q}"] for q in (5, 25, 50, 75, 95)] == [5, 25, 50, 75, 95]


def test_scales_change_the_norms():
    model, ids = tiny.tiny_model("mamba2"), torch.randint(0, 50, (1, 60))
    plain = state_norms(model, ids, [60]).rms()
    faster = state_norms(model, ids, [60], intervention=scaling("a", 100.0)).rms()
    assert np.all(faster[0, 0] < plain[0, 0])


def test_lengths_beyond_the_text_are_refused():
    model, ids = tiny.tiny_model("mamba"), torch.randint(0, 50, (1, 60))
    for lengths in ([61], [0], []):
        with pytest.raises(TextError, match="this one has 60"):
            state_norms(model, ids, lengths)


def test_the_observer_keeps_only_its_lengths():
    model, ids = tiny.tiny_model("mamba"), torch.randint(0, 50, (1, 60))
    observer = StateNormObserver([20, 50])
    stops = [block.stop for block in model.stream(ids, observers=[observer], block_length=30)]
    assert stops == [20, 50, 60]
    assert observer.result().lengths_tokens == (20, 50)


def test_trajectory_lengths_grow_to_the_end():
    assert trajectory_lengths(100) == [16, 23, 32, 45, 64, 91, 100]
    assert trajectory_lengths(10) == [10]
