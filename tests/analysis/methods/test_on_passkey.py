"""analysis/methods/on_passkey.py: methods trained on the task are what tuning and weight training make of it."""

import dataclasses

import numpy as np
import pytest
import torch

from mambascope.analysis.methods import METHODS, SETS, find_method, fit, setup_of
from mambascope.analysis.methods import finetune as weights_module
from mambascope.analysis.methods.on_passkey import PasskeyFits
from mambascope.analysis.passkey.curriculum import Curriculum
from mambascope.analysis.passkey.horizons import measured
from mambascope.analysis.passkey.problem import PasskeyTexts, StepsOnPasskey
from mambascope.analysis.passkey.task import PasskeyTask
from mambascope.analysis.passkey.tuning import BATCH, TuningPlan, tune
from mambascope.analysis.passkey.weights import WeightPlan
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Document, encode_bytes
from mambascope.spectra.zoo import text_files
from tests.spectra.tiny import tiny_model

KINDS = {"passkey:a": "a", "passkey:dt": "dt", "passkey:a+dt": "joint", "passkey:a_power": "a_power"}


@pytest.fixture
def fits():
    parts = {split: text_files(split)[0].read_bytes()[:20_000] for split in ("calibration", "validation")}
    prompts = PasskeyTexts(
        PasskeyTask.of_texts([parts["calibration"]], encode_bytes, part="train"),
        PasskeyTask.of_texts([parts["validation"]], encode_bytes, part="validation"),
        *((Document(split, encode_bytes(text, "")),) for split, text in parts.items()),
    )
    texts = Texts(prompts.calibration_documents, prompts.validation_documents, ())
    model = tiny_model("mamba2", vocab_size=264, n_layer=1)
    return PasskeyFits(model, texts, 170, (170, 340), 340, steps=2, prompts=prompts, longest=340, rates=(1e-3,))


def test_the_set_has_the_goals_rules_and_everything_trained_on_the_task():
    assert SETS["passkey"][:3] == ("none", "spectrum", "rule:hard-clip:4")
    assert {"rule:onset", "passkey:full", *KINDS} < set(SETS["passkey"])
    assert not {name for name in SETS["all"] if name.startswith("passkey:")}


@pytest.mark.parametrize("name", [*KINDS, "passkey:full", "full-finetuning"])
def test_each_says_what_it_does_and_whom_it_follows(name):
    told = METHODS[name].describe()
    assert told.words
    assert all(setting.value and setting.origin for setting in told.settings)
    assert METHODS[name].cite()


@pytest.mark.parametrize("name", [*KINDS, "passkey:full"])
def test_without_prompts_they_are_refused(name, fits):
    plain = {f.name: getattr(fits, f.name) for f in dataclasses.fields(fits)[:10]}
    from mambascope.analysis.methods import Task

    with pytest.raises(RefusedInputError, match="evaluate --task passkey"):
        fit(find_method(name), Task(**plain))


@pytest.mark.parametrize("name", KINDS)
def test_scales_are_those_of_tuning(name, fits, monkeypatch):
    monkeypatch.setattr("mambascope.analysis.methods.on_passkey.STARTS", dict.fromkeys(KINDS.values(), ""))
    found = fit(find_method(name), fits)
    wanted = tune(fits.model, fits.prompts, TuningPlan(170, 340, KINDS[name], rates=(1e-3,), steps=2))
    assert found.scales.to_dict() == wanted.scales.to_dict()
    assert found.passes == wanted.tokens / 340
    assert found.how == wanted.note()
    assert setup_of(found, fits.model, 500).intervention is found.scales


def test_scales_may_start_from_a_rule(fits, monkeypatch):
    monkeypatch.setattr("mambascope.analysis.methods.on_passkey.STARTS", {"a": "hard-clip:0.01"})
    task = dataclasses.replace(fits, rates=(1e-9,), steps=1)
    found = fit(find_method("passkey:a"), task).scales.factors[-1].values
    theory = measured(fits.model, fits.texts.calibration, 170)
    tau = theory.layers[0].horizon_tokens
    wanted = np.maximum(1, tau / 1.7)  # horizons beyond a hundredth of T = 170 are drawn in to it
    assert wanted.max() > 2
    np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-6)
    by_rule = fit(find_method("rule:hard-clip:0.01"), task).scales.factors[0].values
    torch.testing.assert_close(found, by_rule, rtol=0.05, atol=0)  # the same rule on other windows of the same text


def test_all_weights_learn_the_same_lengths_and_the_end_of_the_answer(fits, monkeypatch):
    seen = {}

    def finetune(model, reads, plan, *, rates, folder, tick):
        seen.update(reads=reads, plan=plan, rates=rates, folder=folder)
        return weights_module.Finetuned({}, "how", 680)

    with monkeypatch.context() as patch:
        patch.setattr(weights_module, "finetune", finetune)
        assert find_method("passkey:full").fit(fits).passes == 2
    assert seen["reads"] == StepsOnPasskey(fits.prompts, Curriculum(170, 340, 2), BATCH, 0)
    assert seen["plan"] == WeightPlan(1e-3, 0.0, 2)
    assert (seen["rates"], seen["folder"]) == ((1e-3,), None)
    far = seen["reads"].rows(0)[0][1]
    assert bytes(far.ids[0][-1:].astype("u1")) == b"\n"


def test_all_weights_of_the_task_come_back_from_the_run_folder(fits, tmp_path, monkeypatch):
    with RunFolder.open(tmp_path / "r", command={"v": 1}, seed=0) as run:
        task = dataclasses.replace(fits, run=run, steps=1)
        found = fit(find_method("passkey:full"), task)
        with monkeypatch.context() as patch:
            patch.setattr("mambascope.spectra.model.Model.stream", None)
            again = fit(find_method("passkey:full"), task)
        assert setup_of(again, fits.model, 9).name == setup_of(found, fits.model, 9).name
        fit(find_method("passkey:dt"), task)
    kept = sorted(path.relative_to(tmp_path / "r/data").as_posix() for path in (tmp_path / "r/data").rglob("*.*"))
    assert kept == [
        "fit/passkey-full.safetensors", "train/passkey-dt/tuning.safetensors",
        "train/passkey-full/training.safetensors",
    ]  # fmt: skip
