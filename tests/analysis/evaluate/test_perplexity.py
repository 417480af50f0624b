"""Test ``mambascope.analysis.evaluate.perplexity`` and ``table_text``: one call, and what a terminal shows."""

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import fresh_window_bits, token_bits
from mambascope.analysis.evaluate.pairs import pair_rows
from mambascope.analysis.evaluate.perplexity import Perplexity, perplexity, rows_by_length
from mambascope.analysis.evaluate.position_sums import PositionSums, edges_for
from mambascope.spectra.errors import TextError
from mambascope.spectra.scales import scaling


def test_shorter_lengths_come_from_the_same_pass(make_model):
    model, ids = make_model("mamba2"), torch.randint(0, 50, (2, 64)).numpy()
    table = perplexity(model, ids, lengths=[20, 64], train_length=16)
    alone = perplexity(model, ids[:, :20], lengths=[20])
    assert table.rows[0].bits_per_token == pytest.approx(alone.rows[0].bits_per_token, rel=1e-6)
    assert [r.method for r in table.rows] == ["none", "none", "fresh-window", "fresh-window"]
    assert "fresh-window" in str(table)


def test_rows_are_of_the_scaled_model_and_of_windows_of_the_training_length(make_model):
    model, ids, how = make_model("mamba2"), torch.randint(0, 50, (2, 64)).numpy(), scaling("a", 5.0)
    scaled, control = perplexity(model, ids, lengths=[64], scales=how, train_length=16).rows
    for row, bits in ((scaled, token_bits(model, ids, how)), (control, fresh_window_bits(model, ids, 16))):
        assert row.bits_per_token == pytest.approx(bits.mean(), rel=1e-9)
        assert row.tail_bits_per_token == pytest.approx(bits[:, 31:].mean(), rel=1e-9)
    assert scaled.method == "scales"
    assert abs(token_bits(model, ids).mean() / scaled.bits_per_token - 1) > 1e-3  # negative control


def test_a_uniform_model_needs_the_logarithm_of_the_vocabulary(make_model):
    model = make_model("mamba")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    table = perplexity(model, torch.randint(0, 50, (1, 30)), lengths=[30])
    assert table.rows[0].perplexity == pytest.approx(50, rel=1e-5)
    assert table.rows[0].last_perplexity == pytest.approx(50, rel=1e-5)


def test_a_length_outside_the_text_is_refused(make_model):
    with pytest.raises(TextError, match="expected 2 to 30"):
        perplexity(make_model("mamba"), torch.zeros(1, 30, dtype=torch.long), lengths=[31])


def test_the_text_has_a_cell_for_every_number():
    sums = {
        name: PositionSums.of_bits(bits + np.zeros((3, 15)), edges_for([16]))
        for name, bits in {"spectrum": np.array([[1.0], [2.0], [4.0]]), "none": np.array([[2.0], [3.5], [4.5]])}.items()
    }
    pairs = pair_rows(sums, np.arange(3), [16], "spectrum")
    rows = rows_by_length("none", np.full((3, 15), 2000.0), [16], np.full((3, 15), 1.0))
    rows += rows_by_length("one", np.full((1, 15), 3.0), [16], None)
    text = str(Perplexity(tuple(rows), tuple(pairs)))
    table, differences = text.split("\n\n")
    head, overflowing, one = (line.split("  ") for line in table.splitlines())
    assert [cell.strip() for cell in head if cell.strip()][-2:] == ["documents", "passages"]
    assert "inf" in "".join(overflowing)
    assert "+1999.0000" in "".join(overflowing)
    assert [cell.strip() for cell in one if cell.strip()] == [
        "one", "16", "3.0000", "-", "3.0000", "3.0000", "8", "-", "-", "1", "1",
    ]  # fmt: skip
    assert "tail bits more than spectrum" in differences
    assert "+1.0000" in differences
    assert len({len(line) for line in table.splitlines()}) == 1  # aligned
    assert "tail bits more" not in str(Perplexity(tuple(rows)))
