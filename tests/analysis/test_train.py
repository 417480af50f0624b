"""Test ``mambascope.analysis.train`` and ``recipe``: the same weights whether stopped or not."""

import hashlib
import itertools
import json

import numpy as np
import pytest
import torch

from mambascope.analysis.journal import Journal
from mambascope.analysis.recipe import RateInit, Recipe, read_recipe
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.train import (
    CHECKPOINT_EVERY,
    batch_of,
    initialise,
    learning_rate,
    read_corpus,
    train,
    train_in_folder,
)
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import load
from mambascope.spectra.model import Model
from mambascope.spectra.zoo import text_files


def recipe(arch="mamba2", **changes):
    base = {"A_init": RateInit("log_uniform", 1e-3, 1.0)}
    base |= {"d_model": 16, "n_layer": 2, "d_state": 4, "headdim": 8, "train_length": 16, "batch": 2, "warmup": 5}
    return Recipe(name="small", arch=arch, why="test", **(base | changes))


def corpus():
    return [np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("calibration")[:2]]


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("muon", [False, True])
def test_a_stopped_training_takes_the_same_steps(tmp_path, arch, muon):
    plan = recipe(arch, steps=CHECKPOINT_EVERY + 7, muon=muon)
    whole = Model(plan.config())
    (tmp_path / "a").mkdir()
    straight = [s.bits for s in train(whole, plan, corpus(), tmp_path / "a")]
    assert straight[-1] < straight[0]  # it learns
    (tmp_path / "b").mkdir()
    for _ in itertools.islice(train(Model(plan.config()), plan, corpus(), tmp_path / "b"), CHECKPOINT_EVERY + 3):
        pass  # stopped three steps after a checkpoint
    resumed = Model(plan.config())
    rest = list(train(resumed, plan, corpus(), tmp_path / "b"))
    assert rest[0].step == CHECKPOINT_EVERY + 1
    assert [s.bits for s in rest] == straight[CHECKPOINT_EVERY:]
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_trained_folder_is_a_checkpoint(tmp_path):
    plan = recipe(steps=3)
    with RunFolder.open(tmp_path / "run", command={"t": 1}, seed=0) as run:
        bits = train_in_folder(plan, read_corpus(text_files("calibration")[:1], [plan]), run, lambda _: None)
    model = load(tmp_path / "run/model")
    assert (model.name, model.train_length) == ("small", 16)
    assert read_recipe(tmp_path / "run/model/recipe.json") == plan
    assert 4 < bits < 9
    hashes = set()
    for folder in ("again", "third"):
        with RunFolder.open(tmp_path / folder, command={"t": 1}, seed=0) as run:
            train_in_folder(plan, read_corpus(text_files("calibration")[:1], [plan]), run, lambda _: None)
        data = (tmp_path / folder / "model/model.safetensors").read_bytes()
        hashes.add(hashlib.sha256(data).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("lost", ["1", "3"])
def test_a_step_that_was_not_written_down_is_taken_again(tmp_path, monkeypatch, lost):
    """The state behind a step is stored after its line, so that no kill between the two loses the line."""
    plan, texts, append = recipe(steps=3), read_corpus(text_files("calibration")[:1], [recipe(steps=3)]), Journal.append

    def killed(self, kind, key, value):
        if key == lost:
            raise KeyboardInterrupt
        append(self, kind, key, value)

    def run(folder):
        with RunFolder.open(folder, command={"t": 1}, seed=0) as opened:
            train_in_folder(plan, texts, opened, lambda _: None)
        return (folder / "journal.jsonl").read_bytes(), (folder / "model/model.safetensors").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    assert run(tmp_path / "stopped") == run(tmp_path / "calm")


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_initial_rates_and_steps_follow_the_recipe(arch):
    plan = recipe(arch, d_model=64, d_state=16, headdim=1)
    model = Model(plan.config())
    initialise(model, plan)
    for layer in model.layers():
        rates = layer.mixer.A_log.detach().exp().numpy()
        assert np.all((rates >= 1e-3 * 0.999) & (rates <= 1.001))
        assert abs(np.median(np.log10(rates)) + 1.5) < 0.4
        bias = layer.mixer.dt_bias if arch == "mamba2" else layer.mixer.dt_proj.bias
        dt = torch.nn.functional.softplus(bias.detach()).numpy()
        assert np.all((dt >= 1e-3 * 0.999) & (dt <= 0.1 * 1.001))
    usual = recipe(arch, d_model=64, d_state=16, headdim=1, A_init=RateInit("uniform", 1.0, 16.0))
    model = Model(usual.config())
    initialise(model, usual)
    rates = model.layers()[0].mixer.A_log.detach().exp().numpy()
    assert np.all((rates >= 0.999) & (rates <= 16.001))
    assert abs(np.median(rates) - 8.5) < 3


def test_rates_that_are_not_trained_stay_and_steps_keep_their_floor(tmp_path):
    moved = []
    for trained in (True, False):
        plan = recipe(steps=3, A_init=RateInit("log_uniform", 0.5, 2.0, trained), dt_floor=0.04, muon=True)
        assert read_again(plan, tmp_path) == plan
        model = Model(plan.config())
        initialise(model, plan)
        drawn = [layer.mixer.A_log.detach().clone() for layer in model.layers()]
        (tmp_path / str(trained)).mkdir()
        list(train(model, plan, corpus(), tmp_path / str(trained)))
        moved.append(any(not torch.equal(d, m.mixer.A_log) for d, m in zip(drawn, model.layers(), strict=True)))
        least = min(float(dt.min()) for dt in step_sizes(model))
        assert least == pytest.approx(0.04, rel=1e-6)  # float32
    assert moved == [True, False]
    assert "dt_floor" not in recipe().to_dict()
    assert "trained" not in recipe().to_dict()["A_init"]
    with pytest.raises(ValueError, match="dt_floor"):
        recipe("mamba", dt_floor=0.1)


def read_again(plan, folder):
    (folder / "recipe.json").write_text(json.dumps(plan.to_dict()))
    return read_recipe(folder / "recipe.json")


def step_sizes(model):
    seen = []

    class Steps:
        def boundaries(self):
            return ()

        def update(self, observation):
            seen.append(observation.dynamics.dt)

    with torch.no_grad():
        model(torch.arange(200)[None], observers=[Steps()])
    return seen


def test_a_training_of_two_stages_goes_on_from_the_first_ones_weights(tmp_path):
    before = recipe(steps=4, batch=3)
    plan = recipe(steps=3, learning_rate=1e-3, seed=1, begins_with=before)
    assert read_again(plan, tmp_path) == plan
    assert [stage.steps for stage in plan.stages()] == [4, 3]
    assert plan.tokens_seen() == 16 * (4 * 3 + 3 * 2)
    for name in ("whole", "first", "stopped"):
        (tmp_path / name).mkdir()
    whole, first = Model(plan.config()), Model(plan.config())
    steps = list(train(whole, plan, corpus(), tmp_path / "whole"))
    assert [s.step for s in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert list(train(first, before, corpus(), tmp_path / "first")) == steps[:4]
    alone = Model(plan.config())
    second = list(train(alone, recipe(steps=3, learning_rate=1e-3, seed=1), corpus(), tmp_path))
    assert second[0].bits > steps[4].bits + 0.05  # what fresh weights lack
    for _ in itertools.islice(train(Model(plan.config()), plan, corpus(), tmp_path / "stopped"), 6):
        pass
    resumed = Model(plan.config())
    assert list(train(resumed, plan, corpus(), tmp_path / "stopped")) == steps[4:]
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(ValueError, match="same shape"):
        recipe(d_model=32, begins_with=before)


def test_windows_come_from_all_texts_in_proportion():
    plan = recipe(batch=4000)
    texts = [np.full(1016, 1, np.uint8), np.full(3016, 2, np.uint8)]
    tokens = batch_of(texts, plan, step=0)
    assert tokens.shape == (4000, 17)
    assert abs(float((tokens == 2).float().mean()) - 0.75) < 0.04  # 6 sigma of a binomial
    assert torch.equal(tokens, batch_of(texts, plan, step=0))
    assert not torch.equal(tokens, batch_of(texts, plan, step=1))


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    plan = recipe(steps=105)
    rates = [learning_rate(plan, step) for step in range(105)]
    assert rates[:5] == pytest.approx([plan.learning_rate * k / 5 for k in range(1, 6)])
    assert rates[5] == pytest.approx(plan.learning_rate)
    assert rates[-1] == pytest.approx(plan.learning_rate / 10, rel=0.01)
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_bad_recipes_and_texts_are_refused(tmp_path):
    with pytest.raises(RefusedInputError, match="neither a bundled model"):
        read_recipe("no-such-model")
    (tmp_path / "r.json").write_text('{"name": "x"}')
    with pytest.raises(RefusedInputError, match="not a recipe"):
        read_recipe(tmp_path / "r.json")
    with pytest.raises(RefusedInputError, match="longer than the training length of 16"):
        next(train(Model(recipe().config()), recipe(), [np.zeros(16, np.uint8)], tmp_path))
    assert read_recipe("mamba2-tiny", steps=5).steps == 5
