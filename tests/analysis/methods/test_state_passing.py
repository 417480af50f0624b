"""analysis/methods/state_passing.py: a text goes on from another's state, or starts from noise of its size."""

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import stream_bits, token_bits
from mambascope.analysis.methods import find_method, fit, setup_of
from mambascope.analysis.methods import state_passing as module
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import TextError

ARCHS = ["mamba", "mamba2"]


def ids_of(task, length):
    return np.stack([d.ids[:length] for d in task.texts.test])


@pytest.mark.parametrize("arch", ARCHS)
def test_a_text_has_the_bits_that_it_has_after_the_other(make_task, arch):
    task = make_task(arch)
    setup = setup_of(fit(find_method("state-passing"), task), task.model, 64)
    before, ids = task.texts.calibration[-1].ids[-16:], ids_of(task, 64)
    joined = token_bits(task.model, np.concatenate([np.stack([before] * 2), ids], axis=1))
    got = np.concatenate(list(stream_bits(task.model, ids, state=setup.start(2))), axis=1)
    # entry k of the joined bits scores token k + 1; the text's second token is number 17
    np.testing.assert_allclose(got, joined[:, 16:], rtol=2e-5, atol=2e-5)
    assert np.abs(got - token_bits(task.model, ids)).max() > 1e-3
    assert setup.state.position == 0
    assert setup.intervention is None
    assert not setup.by_length


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ["state-passing", "state-passing:noise"])
def test_generating_starts_from_the_state_and_does_not_change_it(make_task, arch, name):
    task = make_task(arch)
    setup = setup_of(fit(find_method(name), task), task.model, 64)
    kept = [layer.ssm.clone() for layer in setup.state.layers]
    prompt = torch.from_numpy(ids_of(task, 20).astype(np.int64))
    added = task.model.generate(prompt, 4, state=setup.start(2), intervention=setup.intervention)
    by_hand = prompt
    for _ in range(4):
        *_, block = task.model.stream(by_hand, state=setup.start(2))
        by_hand = torch.cat([by_hand, block.logits()[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(added, by_hand[:, 20:])
    assert all(torch.equal(a, layer.ssm) for a, layer in zip(kept, setup.state.layers, strict=True))


@pytest.mark.parametrize("arch", ARCHS)
def test_noise_has_the_moments_of_final_states(make_task, arch):
    task = make_task(arch, seed=7)
    found = fit(find_method("state-passing:noise"), task)
    starts = [k * (300 - 16) // 17 for k in range(18)]  # 18 windows of 16 spread over 300 tokens
    windows = np.stack([d.ids[s : s + 16] for d in task.texts.calibration for s in starts])
    *_, block = task.model.stream(windows)
    rng = np.random.default_rng(7)
    for k, layer in enumerate(block.state.layers):
        final = layer.ssm.double().numpy()  # (36, heads, ...)
        axes = (0, *range(2, final.ndim))
        mean, deviation = final.mean(axes, keepdims=True), final.std(axes, keepdims=True)
        wanted = mean + deviation * rng.standard_normal((1, *final.shape[1:]))
        np.testing.assert_allclose(found.arrays[f"ssm_{k}"], wanted, rtol=1e-4, atol=1e-6)
        assert not found.arrays[f"conv_{k}"].any()
    other = fit(find_method("state-passing:noise"), make_task(arch, seed=8))
    assert setup_of(other, task.model, 64).name != setup_of(found, task.model, 64).name


@pytest.mark.parametrize("name", ["state-passing", "state-passing:noise"])
def test_it_is_read_again_and_not_made_again(make_task, tmp_path, monkeypatch, name):
    ticks = []
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        first = fit(find_method(name), make_task(run=run, tick=ticks.append))
    assert first.passes == sum(ticks) / 32 > 0
    monkeypatch.setattr(module, "final_state", lambda *_: pytest.fail("made again"))
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        again = fit(find_method(name), make_task(run=run))
    assert again.to_dict() == first.to_dict()
    for key, array in first.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)
    model = make_task().model
    assert setup_of(again, model, 64).name == setup_of(first, model, 64).name
    assert first.bakes.startswith("no: ")


def test_a_narrow_model_gets_its_own_convolution_state_back(make_task):
    task = make_task("mamba2")
    task.model.bfloat16()
    setup = setup_of(fit(find_method("state-passing"), task), task.model, 64)
    *_, block = task.model.stream(task.texts.calibration[-1].ids[None, -16:])
    for got, wanted in zip(setup.state.layers, block.state.layers, strict=True):
        assert got.conv.dtype == torch.bfloat16
        assert torch.equal(got.conv, wanted.conv)
        assert torch.equal(got.ssm, wanted.ssm)


@pytest.mark.parametrize("name", ["state-passing", "state-passing:noise"])
def test_text_shorter_than_training_is_refused(make_task, name):
    with pytest.raises(TextError, match="1000"):
        fit(find_method(name), make_task(train_length=1000, fit_length=2000))
    assert "needs no training" in str(find_method(name).describe())
