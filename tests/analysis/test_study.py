"""Test ``mambascope.analysis.study`` and ``arrays`` on small random models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.arrays import kept_arrays
from mambascope.analysis.breakdown import breakdown
from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.evaluate.perplexity import fresh_window_bits, token_bits
from mambascope.analysis.evidence import Evidence
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import CONSTANTS, Texts, bits_by_position, planned_tokens, run_study
from mambascope.analysis.study_arrays import diagnosis_arrays, diagnosis_of
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, L = 16, 128


def documents(seed, count=3, length=600):
    rng = np.random.default_rng(seed)
    return tuple(Document(f"d{seed}-{k}", rng.integers(0, 50, length).astype(np.uint8)) for k in range(count))


def texts():
    return Texts(documents(1), documents(2), documents(3))


def folder(path):
    return RunFolder.open(path, command={"test": "study"}, seed=0)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_study_says_what_its_parts_say(tmp_path, arch):
    model = tiny.tiny_model(arch)
    counted = []
    with folder(tmp_path / "run") as run:
        study = run_study(model, texts(), run, train_length=T, target_length=L, tick=counted.append)
    assert sum(counted) == pytest.approx(planned_tokens(texts(), T, L), rel=0.2)
    test = np.stack([d.ids[:L] for d in texts().test])
    validation = np.stack([d.ids[:L] for d in texts().validation])
    np.testing.assert_allclose(study.bits["none"], token_bits(model, test), rtol=1e-6)
    np.testing.assert_allclose(study.bits["fresh-window"], fresh_window_bits(model, test, T), rtol=1e-6)
    scaled = token_bits(model, test, study.proposal.scales)
    np.testing.assert_allclose(study.bits["spectrum"], scaled, rtol=1e-6)
    for s in CONSTANTS:
        direct = token_bits(model, validation, scaling("a", s))[:, L // 2 - 1 :].mean()
        assert study.constants[s] == pytest.approx(direct, rel=1e-6)
    assert study.best_constant == min(CONSTANTS, key=study.constants.get)
    constant = token_bits(model, test, scaling("a", study.best_constant))
    np.testing.assert_allclose(study.bits["constant"], constant, rtol=1e-6)
    row = study.row("none", L)
    tail = slice(L // 2 - 1, None)
    assert row.harm == pytest.approx((study.bits["none"] - study.bits["fresh-window"])[:, tail].mean(), abs=1e-9)
    assert study.norms.lengths_tokens == study.scaled_norms.lengths_tokens
    assert {T, L} <= set(study.norms.lengths_tokens)


def test_a_resumed_study_runs_nothing_again_and_is_the_same(tmp_path):
    model = tiny.tiny_model("mamba2")
    with folder(tmp_path / "run") as run:
        first = run_study(model, texts(), run, train_length=T, target_length=L)
    counted = []
    with folder(tmp_path / "run") as run:
        again = run_study(model, texts(), run, train_length=T, target_length=L, tick=counted.append)
    assert not counted
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.norms.vector_l2, first.norms.vector_l2)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_diagnosis_comes_back_from_arrays_with_its_writes(arch):
    model = tiny.tiny_model(arch)
    ids = np.stack([d.ids for d in documents(1)])
    for writes in (True, False):
        found = diagnose(model, ids, train_length=T, target_length=L, writes=writes)
        back = diagnosis_of(diagnosis_arrays(found), model, T, L)
        assert back.rows() == found.rows()
        assert (back.writes is not None) == writes
        if writes:
            np.testing.assert_array_equal(breakdown(back).predicted, breakdown(found).predicted)
            np.testing.assert_array_equal(Evidence.of(back).layers[1].kappa, Evidence.of(found).layers[1].kappa)


def test_a_study_measures_writes_where_the_training_length_allows(tmp_path):
    with folder(tmp_path / "run") as run:
        study = run_study(tiny.tiny_model("mamba2"), texts(), run, train_length=T, target_length=L)
        short = run_study(tiny.tiny_model("mamba2"), texts(), run, train_length=3, target_length=12, key="short")
    assert breakdown(study.proposal.diagnosis).target_length == L
    assert short.proposal.diagnosis.writes is None
    assert study.harm("calibrated") is None
    assert study.harm("none") == study.row("none", L).harm


def test_a_damaged_array_file_is_computed_again(tmp_path):
    with folder(tmp_path / "run") as run:
        kept_arrays(run, "a/b", lambda: {"x": np.arange(3)})
        (tmp_path / "run/data/a/b.safetensors").write_bytes(b"damaged")
        again = kept_arrays(run, "a/b", lambda: {"x": np.arange(4)})
    assert again["x"].tolist() == [0, 1, 2, 3]


def test_the_same_text_in_two_sets_is_refused():
    one = documents(1)
    renamed = (Document("other-name", one[0].ids.astype(np.uint32)),)
    with pytest.raises(RefusedInputError, match="same content as d1-0"):
        Texts(one, documents(2), renamed).check()
    assert Texts(one, documents(2), documents(3)).check()
    with pytest.raises(RefusedInputError, match="give it once"):
        Texts((*one, Document("copy", one[0].ids)), documents(2), documents(3)).check()


def test_bits_by_position_by_hand():
    bits = np.array([[1.0] * 15 + [2.0] * 7 + [4.0] * 2, [3.0] * 15 + [2.0] * 7 + [4.0] * 2])
    curve = bits_by_position(bits)  # tokens 1..15, 16..22, 23..24
    assert curve["start"] == [1, 16, 23]
    assert curve["stop"] == [16, 23, 25]
    assert curve["mean"] == [2.0, 2.0, 4.0]
    assert curve["low"] == [1.0, 2.0, 4.0]  # two documents at 1 and 3: standard error 1
    assert curve["high"] == [3.0, 2.0, 4.0]
