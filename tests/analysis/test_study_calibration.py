"""Test ``mambascope.analysis.study_calibration`` and ``run_parts`` on small random models."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.evaluate.perplexity import token_bits
from mambascope.analysis.memory import memory_change
from mambascope.analysis.proposal import propose
from mambascope.analysis.run_parts import PartOfRun
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import run_study
from mambascope.analysis.study_calibration import refine, refining_plan, refining_tokens
from mambascope.analysis.texts import Texts
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, L, STEPS = 16, 128, 4


def documents(seed, count=3, length=600):
    rng = np.random.default_rng(seed)
    return tuple(Document(f"d{seed}-{k}", rng.integers(0, 50, length).astype(np.uint8)) for k in range(count))


TEXTS = Texts(documents(1), documents(2), documents(3))
PLAN = refining_plan(T, L, STEPS)


def folder(path):
    return RunFolder.open(path, command={"test": "refine"}, seed=0)


def studied(run, arch, *, always=True):
    model = tiny.tiny_model(arch)
    study = run_study(model, TEXTS, run, train_length=T, target_length=L)
    assert study.proposal.acts == always
    return model, study


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_refined_scales_are_scored_beside_the_start(tmp_path, arch):
    counted = []
    with folder(tmp_path / "run") as run:
        model, study = studied(run, arch)
        found = refine(study, model, TEXTS, run, PLAN, tick=counted.append)
        assert (run.folder / f"data/{model.name}/calibration/scales.json").is_file()
    refined = found.refined
    assert refined.found.start.to_dict() == study.proposal.scales.to_dict()
    assert sum(counted) == pytest.approx(refining_tokens(PLAN, 3 * L), rel=0.02)
    test = np.stack([d.ids[:L] for d in TEXTS.test])
    direct = token_bits(model, test, refined.found.scales)
    np.testing.assert_allclose(found.bits["calibrated"], direct, rtol=1e-6)
    tail = slice(L // 2 - 1, None)
    gain = (direct - token_bits(model, test, study.proposal.scales))[:, tail].mean()
    assert refined.gain(L).harm == pytest.approx(gain, abs=1e-6)
    assert found.harm("calibrated") == pytest.approx(found.harm("spectrum") + gain, abs=1e-6)
    assert list(found.bits) == ["none", "constant", "spectrum", "calibrated", "fresh-window"]
    assert found.rows[: len(study.rows)] == study.rows
    expected = memory_change(study.proposal.diagnosis, refined.found.scales, length=L)
    np.testing.assert_array_equal(refined.memory.energy_after, expected.energy_after)
    assert [row["length"] for row in refined.rows()] == sorted({row.length for row in study.rows})


def test_a_stopped_refinement_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    with folder(tmp_path / "whole") as run:
        model, study = studied(run, "mamba2")
        whole = refine(study, model, TEXTS, run, PLAN)
    seen = []

    def stop(tokens):
        seen.append(tokens)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with folder(tmp_path / "stopped") as run:
        model, study = studied(run, "mamba2")
        with pytest.raises(KeyboardInterrupt):
            refine(study, model, TEXTS, run, PLAN, tick=stop)
    before = (tmp_path / "stopped/journal.jsonl").read_bytes()
    with folder(tmp_path / "stopped") as run:
        model, study = studied(run, "mamba2")
        again = refine(study, model, TEXTS, run, PLAN)
    names = ("journal.jsonl", f"data/{model.name}/calibration/scales.json")
    files = [[(tmp_path / which / name).read_bytes() for name in names] for which in ("whole", "stopped")]
    assert files[0] == files[1]
    assert files[1][0].startswith(before)
    assert again.rows == whole.rows
    with folder(tmp_path / "stopped") as run:
        monkeypatch.setattr("mambascope.analysis.calibration.problem.loss_and_gradient", None)  # nothing runs again
        assert refine(study, model, TEXTS, run, PLAN).rows == whole.rows


def test_a_model_left_alone_is_not_refined(tmp_path):
    with folder(tmp_path / "run") as run:
        model, study = studied(run, "mamba2")
        study = replace(study, proposal=propose(study.proposal.diagnosis, rule="none"))
        assert refine(study, model, TEXTS, run, PLAN) is study


def test_windows_are_sixteen_training_lengths_or_as_long_as_the_texts_go():
    assert refining_plan(16, 1024).target_length == 256
    assert refining_plan(16, 64).target_length == 64
    assert refining_plan(16, 64, 7).steps == 7


def test_parts_of_a_run_do_not_meet(tmp_path):
    with folder(tmp_path / "run") as run:
        parts = [PartOfRun(run, name) for name in ("a/x", "b/x")]
        assert [part.cell("k", lambda n=n: n) for n, part in enumerate(parts)] == [0, 1]
        assert [part.cell("k", lambda: None) for part in parts] == [0, 1]
        assert run.journal.get("cell", "a/x/k") == 0
        parts[1].output("s.json").write_text(Scales().to_dict().__repr__())
        assert "data/b/x/s.json" in run.manifest.outputs
        assert not parts[0].output("s.json").exists()
        assert parts[0].made_by() == run.made_by()
