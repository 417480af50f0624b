"""Test ``mambascope.spectra.published_norms``: which text and model the row is of, and what is said of others."""

from pathlib import Path

import numpy as np
import pytest

from mambascope.spectra import published_norms
from mambascope.spectra.config import Config
from mambascope.spectra.layouts import parse_config
from mambascope.spectra.norms import Table1Cell
from mambascope.spectra.published_norms import PG19_ROW, beside_the_paper, same_shape, same_tokens

RAW = {"d_model": 2048, "n_layer": 48, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"}}
LARGE, _ = parse_config(RAW | {"pad_vocab_size_multiple": 16}, Path("config.json"))
SMALL = Config(arch="mamba2", d_model=64, n_layer=2, vocab_size=50288, d_inner=128, d_state=16)


def cell(length, largest=317.5312):
    return Table1Cell(length, largest, 0.5, 3, "ssm", 1)


def test_the_row_is_the_printed_one():
    """Checked against the table of the paper: maxima jump 5.27-fold from 4k to 8k, where the layer changes."""
    printed = [158.7656, 160.8465, 166.3788, 876.0833, 1241.3979, 1201.5530, 1242.7589]
    assert [c.max for c in PG19_ROW] == printed
    assert [c.length_tokens for c in PG19_ROW] == [2**k for k in range(10, 17)]
    assert [c.layer for c in PG19_ROW] == [8] * 3 + [32] * 4


def test_ours_stands_beside_theirs_and_other_lengths_stand_alone():
    rows, told = beside_the_paper([cell(1024), cell(5000)], np.arange(6000, dtype=np.uint16), SMALL)
    assert (rows[0]["max"], rows[0]["paper_max"], rows[0]["paper_min"], rows[0]["paper_layer"]) == (
        317.5312,
        158.7656,
        0.0033,
        8,
    )
    assert rows[0]["max_over_paper"] == pytest.approx(2)
    assert rows[0]["same_tokens"] is False
    assert [rows[1][f"paper_{name}"] for name in ("max", "min", "layer")] == [None] * 3
    assert rows[1]["same_tokens"] is None
    assert "not comparable: the tokens are not the paper's" in told
    assert "another shape" in told


def test_a_text_counts_as_the_papers_by_its_first_tokens_in_any_integer_type(monkeypatch):
    ids = np.arange(2000, dtype=np.uint16)
    own = published_norms.PublishedCell(1024, 158.7656, 0.0033, 8, "")
    import hashlib

    digest = hashlib.sha256(ids[:1024].astype("<u4").tobytes()).hexdigest()[:16]
    own = published_norms.PublishedCell(1024, 158.7656, 0.0033, 8, digest)
    monkeypatch.setattr(published_norms, "PG19_ROW", (own,))
    for dtype in (np.uint16, np.int64, np.uint32):
        assert same_tokens(ids.astype(dtype), own)
    assert not same_tokens(ids[1:], own)
    assert "so max should agree" in beside_the_paper([cell(1024)], ids, LARGE)[1]
    told = beside_the_paper([cell(1024)], ids, LARGE, ["it ran in bfloat16", "with factors"])[1]
    assert "should agree" not in told
    assert told.endswith("not comparable: it ran in bfloat16 and with factors")
    assert "the model has another shape" in beside_the_paper([cell(1024)], ids, SMALL)[1]


def test_the_shape_is_that_of_mamba2_1_3b():
    assert same_shape(LARGE)
    assert not same_shape(SMALL)
    assert not same_shape(parse_config(RAW | {"n_layer": 64}, Path("config.json"))[0])


def test_lengths_that_the_paper_does_not_have_are_told():
    assert "none of these lengths" in beside_the_paper([cell(5000)], np.zeros(6000, int), LARGE)[1]
