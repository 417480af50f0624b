"""Test ``mambascope.analysis.study``, ``arrays`` and ``evaluate.methods`` on small random models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.arrays import kept_arrays
from mambascope.analysis.evaluate.methods import Evaluation, check_methods
from mambascope.analysis.evaluate.perplexity import fresh_window_bits, token_bits
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import CONSTANTS, Texts, bits_by_position, planned_tokens, run_study, token_counter
from mambascope.spectra.errors import RefusedInputError, TextError
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


def test_methods_by_name(tmp_path):
    model = tiny.tiny_model("mamba2")
    ids = np.stack([d.ids[:L] for d in documents(3)])
    scales = scaling("a", 5.0)
    job = Evaluation(model, ids, [32, L], T, documents(1), scales, batch=2)
    watched = []
    methods = ["none", "scales", "constant:5", "fresh-window"]
    found = job.run(methods, observers=[token_counter(watched.append)])
    rows = {(r.method, r.length): r for r in found.rows}
    assert len(rows) == 8
    assert rows["scales", L].bits_per_token == pytest.approx(rows["constant:5", L].bits_per_token, rel=1e-6)
    assert rows["none", L].bits_per_token == pytest.approx(token_bits(model, ids).mean(), rel=1e-6)
    assert rows["fresh-window", L].harm == 0
    assert sum(watched) > 3 * ids.size
    with folder(tmp_path / "run") as run:
        assert job.run(methods, folder=run).to_dict() == found.to_dict()
        watched.clear()
        assert job.run(methods, folder=run, observers=[token_counter(watched.append)]).to_dict() == found.to_dict()
        assert not watched


def test_a_kill_between_the_bits_and_the_reason_loses_no_reason(tmp_path):
    ids = np.stack([d.ids[:L] for d in documents(3)])
    with folder(tmp_path / "whole") as run:
        whole = Evaluation(tiny.tiny_model("mamba2"), ids, [L], T, documents(1))
        whole.run(["spectrum"], folder=run)
    with folder(tmp_path / "killed") as run:
        bits = Evaluation(tiny.tiny_model("mamba2"), ids, [L], T, documents(1))
        kept_arrays(run, "bits-spectrum", lambda: {"bits": bits._bits("spectrum", ())})
    resumed = Evaluation(tiny.tiny_model("mamba2"), ids, [L], T, documents(1))
    with folder(tmp_path / "killed") as run:
        resumed.run(["spectrum"], folder=run)
    assert resumed.notes == whole.notes
    assert len(whole.notes) == 1
    journals = [(tmp_path / name / "journal.jsonl").read_bytes() for name in ("whole", "killed")]
    assert journals[0] == journals[1]


def test_what_methods_need_is_said():
    ids = np.stack([d.ids[:L] for d in documents(3)])
    job = Evaluation(tiny.tiny_model("mamba"), ids, [L])
    for method, message in [
        ("fresh-window", "--train-length"),
        ("spectrum", "--train-length"),
        ("scales", "--scales FILE"),
        ("constant:x", "constant:2"),
        ("magic", "expected some of"),
    ]:
        with pytest.raises(RefusedInputError, match=message):
            job.run([method])
    check_methods(["none", "constant:2", "spectrum"], tiny.tiny_config("mamba"))
    with pytest.raises(TextError, match="twice the training length"):
        Evaluation(tiny.tiny_model("mamba"), ids, [L], 400, documents(1)).run(["spectrum"])
