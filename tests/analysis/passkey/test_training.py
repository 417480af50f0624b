"""Test ``mambascope.analysis.passkey.training`` and its place in ``mambascope.analysis.train``."""

import itertools

import msgspec
import numpy as np
import pytest
import torch

from mambascope.analysis.passkey.keys import part_of
from mambascope.analysis.passkey.recipe import PasskeyShare
from mambascope.analysis.passkey.training import Forgetting, noise_cap, passkey_rows
from mambascope.analysis.recipe import RateInit, Recipe, read_recipe
from mambascope.analysis.train import CHECKPOINT_EVERY, train
from mambascope.spectra.model import Model
from tests.analysis.passkey.conftest import TEXT

SHARE = PasskeyShare(first_noise=4, steps_per_token=2.0)


def rows(task, step, count=40, length=401):
    drawn = passkey_rows(task, SHARE, np.random.default_rng(step), step, (count, length))
    assert drawn.ids.shape == drawn.known.shape == drawn.forgets.shape == (count, length)
    assert not drawn.forgets.any()
    return [bytes(row) for row in drawn.ids.numpy().astype(np.uint8)], drawn.known.numpy()


def test_known_digits_are_second_mentions_and_answers_of_training_keys(byte_task):
    for step in (0, 100, 2000):
        for text, known in zip(*rows(byte_task, step), strict=True):
            found = bytes(np.frombuffer(text, np.uint8)[known]).decode()
            asked = [part[:5].decode() for part in text.split(b"\nAnswer: ")[1:]]
            assert asked
            assert found == "".join(key * 2 for key in asked)
            assert {part_of(int(key)) for key in asked} == {"train"}
            for key in asked:
                assert f"Answer: {key}\n".encode() in text + b"\n"


def test_the_distance_grows_and_fills_the_sequence_in_the_end(byte_task):
    assert [noise_cap(SHARE, step, 100) for step in (0, 1, 2, 10, 192, 1000)] == [4, 4, 5, 9, 100, 100]
    few = [text.count(b"Answer") for text in rows(byte_task, 0)[0]]
    many = [text.count(b"Answer") for text in rows(byte_task, 10_000)[0]]
    assert min(few) == 2
    assert 0.3 < np.mean([text.rfind(b"Answer: ") == 401 - 6 - 8 for text in rows(byte_task, 10_000)[0]]) < 0.9
    assert min(many) == 1


def test_states_are_made_smaller_just_behind_each_needle(byte_task):
    share = PasskeyShare(first_noise=4, steps_per_token=2.0, least_kept=0.1)
    for step, most in ((0, 0.02), (2000, 1.0)):
        drawn = passkey_rows(byte_task, share, np.random.default_rng(step), step, (40, 401))
        found = []
        for row, forgets in zip(drawn.ids.numpy().astype(np.uint8), drawn.forgets.numpy(), strict=True):
            text, places = bytes(row), np.flatnonzero(forgets)
            assert len(places) == text.count(b"Answer: ")
            assert all(text[:place].endswith(b" is the pass key. ") for place in places)
            found += forgets[places].tolist()
        found = np.array(found) / np.log(10)
        assert 0 < found.min() < 0.1 * most
        assert 0.8 * most < found.max() <= most * 1.001  # 4 of some 230 tokens of noise in the first step


def test_forgetting_takes_a_share_of_the_state_and_nothing_of_the_write():
    config = recipe(n_layer=2).config()
    model, nats = Model(config).double(), torch.tensor([[0.7], [0.0]], dtype=torch.float64)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    seen = []

    class Steps:
        def boundaries(self):
            return ()

        def update(self, observation):
            seen.append(observation.dynamics.dt[:, 0] * observation.dynamics.A)

    with torch.no_grad():
        before = model(torch.tensor([[65, 66, 67]] * 2)).state
        plain = model(torch.tensor([[68]] * 2), before, observers=[Steps()]).state
        weak = model(torch.tensor([[68]] * 2), before, Forgetting(nats)).state
    held = seen[0].exp()[..., None, None] * before.layers[0].ssm  # what the first layer still has of the tokens before
    lost = plain.layers[0].ssm - weak.layers[0].ssm
    assert torch.allclose(lost[0], (1 - np.exp(-0.7)) * held[0], rtol=1e-9, atol=1e-15)
    assert held[0].abs().max() > 1e-3
    assert torch.equal(plain.layers[1].ssm[1], weak.layers[1].ssm[1])


def recipe(**changes):
    base = {"d_model": 16, "n_layer": 1, "d_state": 4, "headdim": 8, "train_length": 180, "batch": 2, "warmup": 5}
    rates = RateInit("log_uniform", 1e-3, 1.0)
    return Recipe(name="small", arch="mamba2", why="test", A_init=rates, **(base | changes))


def test_a_stopped_training_takes_the_same_steps(tmp_path):
    plan, corpus = recipe(steps=CHECKPOINT_EVERY + 4, passkey=SHARE), [np.frombuffer(TEXT, np.uint8)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    straight = list(train(Model(plan.config()), plan, corpus, tmp_path / "a"))
    for _ in itertools.islice(train(Model(plan.config()), plan, corpus, tmp_path / "b"), CHECKPOINT_EVERY + 2):
        pass
    assert list(train(Model(plan.config()), plan, corpus, tmp_path / "b")) == straight[CHECKPOINT_EVERY:]
    assert straight[-1].digit_bits < 0.9 * straight[0].digit_bits


def test_digits_weigh_as_much_as_the_recipe_says(tmp_path):
    def first_step(**changes):
        plan, folder = recipe(steps=2, passkey=PasskeyShare(**changes)), tmp_path / "unused"  # stopped before it saves
        return next(train(Model(plan.config()), plan, [np.frombuffer(TEXT, np.uint8)], folder))

    light, heavy = first_step(digit_weight=1.0), first_step(digit_weight=100.0)
    assert (light.bits, light.digit_bits) == (heavy.bits, heavy.digit_bits)  # reported without weights
    assert heavy.gradient_norm > 2 * light.gradient_norm


def test_a_training_that_forgets_is_another_one(tmp_path):
    def second_step(**changes):
        plan = recipe(steps=3, passkey=PasskeyShare(first_noise=4, **changes))
        steps = train(Model(plan.config()), plan, [np.frombuffer(TEXT, np.uint8)], tmp_path)
        return list(itertools.islice(steps, 2))[-1]

    assert second_step(least_kept=0.01) != second_step(least_kept=1.0)
    assert second_step(least_kept=0.01) == second_step(least_kept=0.01)


def test_text_windows_stay_where_they_are(byte_task):
    from mambascope.analysis.passkey.task import PasskeyTask
    from mambascope.analysis.train import _batch, batch_of

    plan = recipe(batch=8, passkey=PasskeyShare(share=0.25))
    assert isinstance(byte_task, PasskeyTask)
    corpus = [np.frombuffer(TEXT, np.uint8)]
    plain = batch_of(corpus, plan, 3)
    mixed, known = _batch(corpus, byte_task, plan, 3)
    assert torch.equal(plain[:6], mixed[:6])
    assert not known[:6].any()
    assert known[6:].any(dim=1).all()
    assert not torch.equal(plain[6:], mixed[6:])


def test_recipes_without_passkeys_read_as_before():
    assert "passkey" not in read_recipe("mamba2-tiny").to_dict()
    stored = recipe(passkey=SHARE).to_dict()
    assert msgspec.convert(stored, type=Recipe) == recipe(passkey=SHARE)
    for bad in ({"share": 0.0}, {"share": 1.1}, {"digit_weight": 0.0}, {"first_noise": -1}, {"steps_per_token": 0.0}):
        with pytest.raises(ValueError, match="passkey: share must be"):
            PasskeyShare(**bad)
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match="least_kept must be"):
            PasskeyShare(least_kept=bad)
    with pytest.raises(ValueError, match="one rate each"):
        msgspec.structs.replace(recipe(passkey=PasskeyShare(least_kept=0.5)), arch="mamba").__post_init__()
