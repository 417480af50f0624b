"""analysis/methods/finetune.py: all weights move, the loss on kept-aside text falls, and the original is untouched."""

import dataclasses

import numpy as np
import pytest
import torch

from mambascope.analysis.calibration.objective import window_bits
from mambascope.analysis.calibration.windows import spread_windows
from mambascope.analysis.methods import find_method, fit, setup_of
from mambascope.analysis.methods import finetune as module
from mambascope.analysis.methods.method import Fitted, OwnSetup
from mambascope.analysis.passkey.weights import row_bits
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.tokens import Document

METHOD = find_method("full-finetuning")


def skewed():
    """Texts of which three ids of fifty make up most: a model has something to learn in a few steps."""
    rng = np.random.default_rng(1)
    law = np.full(50, 0.2 / 47)
    law[:3] = 0.8 / 3
    return Texts(*(tuple(Document(f"{role}{k}", rng.choice(50, 400, p=law)) for k in range(2)) for role in range(3)))


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(module, "RATES", (1e-4, 1e-2))


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_every_weight_moves_the_loss_falls_and_the_original_stays(make_task, fast, arch):
    given = dataclasses.replace(make_task(arch), texts=skewed(), steps=10)
    before = {name: p.clone() for name, p in given.model.named_parameters()}
    found = fit(METHOD, given)
    setup = setup_of(found, given.model, 4096)
    assert found.scales is None
    assert found.bakes == "yes: it is a checkpoint of its own"
    assert "learning rate 0.01, out of 0.0001, 0.01" in found.how
    assert setup.model is not given.model
    assert (setup.intervention, setup.state, setup.by_length, setup.last_only) == (None, None, False, False)
    trained = dict(setup.model.named_parameters())
    for name, p in given.model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert bool((trained[name] != p).any()), name
        assert not trained[name].requires_grad
    windows = spread_windows([d.ids for d in given.texts.validation], given.fit_length, module.CHOSEN_ON, "validation")
    was, now = (window_bits(model, windows, None, 16).whole for model in (given.model, setup.model))
    # the best that any model can do without reading is the entropy of the law: 3 ids with .8/3, 47 with .2/47 each,
    # -.8 log2(.8/3) - .2 log2(.2/47) = 3.10 bits
    assert 3.0 < now < was - 0.5
    assert f"{was:.4f} -> {now:.4f}" in found.how
    assert METHOD.expected_tokens(given) == pytest.approx(found.passes * given.fit_length, rel=0.1)


def test_it_trains_on_windows_of_calibration_text_of_the_fit_length(make_task, fast):
    given = make_task(fit_length=48)
    reads = module.TextReads(given.texts, 16, given.fit_length, 0)
    ((weight, rows),) = reads.rows(3)
    assert (weight, rows.first, rows.ids.shape) == (1.0, 0, (module.BATCH, 48))
    inside = [np.array_equal(d.ids[k : k + 48], rows.ids[0]) for d in given.texts.calibration for k in range(253)]
    assert sum(inside) == 1
    look = reads.look(given.model, None, lambda _: None)
    windows = spread_windows([d.ids for d in given.texts.validation], 48, module.CHOSEN_ON, "validation")
    assert windows.shape == (8, 48)
    assert look.objective == pytest.approx(float(row_bits(given.model, module.AnswerRows(windows, 0))), rel=1e-6)
    assert look.objective == look.text_bits
    assert look.key_bits is None


def test_a_resumed_fit_is_the_same_and_is_not_made_again(make_task, fast, tmp_path, monkeypatch):
    alone = fit(METHOD, make_task(steps=4))
    calls = []
    trained = module.train_weights

    def stopped(model, reads, plan, *, path, tick):
        calls.append(path.name)
        if len(calls) == 3:

            def stop(step):
                if step.step == 2:
                    raise KeyboardInterrupt

            return trained(model, reads, plan, path=path, tick=tick, watch=stop)
        return trained(model, reads, plan, path=path, tick=tick)

    with monkeypatch.context() as patch, RunFolder.open(tmp_path / "r", command={"v": 1}, seed=0) as run:
        patch.setattr(module, "train_weights", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(METHOD, make_task(run=run, steps=4))
    assert calls == ["trial-0.0001.safetensors", "trial-0.01.safetensors", "training.safetensors"]
    with RunFolder.open(tmp_path / "r", command={"v": 1}, seed=0) as run:
        found = fit(METHOD, make_task(run=run, steps=4))
        with monkeypatch.context() as patch:
            patch.setattr("mambascope.spectra.model.Model.stream", None)
            again = fit(METHOD, make_task(run=run, steps=4))
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(array, found.arrays[name])
        np.testing.assert_array_equal(array, again.arrays[name])
    assert alone.to_dict() == found.to_dict() == again.to_dict()


def test_setups_of_the_same_weights_have_the_same_name_and_one_copy(make_task, fast):
    given = make_task(steps=2)
    found = fit(METHOD, given)
    one, two = setup_of(found, given.model, 64), setup_of(found, given.model, 128)
    assert one.model is two.model
    assert one.name == two.name != "none"
    arrays = {name: array + 1 for name, array in found.arrays.items()}
    other = setup_of(Fitted("full-finetuning", None, "", arrays=arrays), given.model, 64)
    assert other.name != one.name
    name = "backbone.norm_f.weight"
    np.testing.assert_allclose(dict(other.model.named_parameters())[name].numpy(), found.arrays[f"w/{name}"] + 1)
    assert isinstance(METHOD, OwnSetup)
