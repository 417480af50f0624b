"""Test ``mambascope.analysis.passkey.tuning``: scales move at every rate, the model stays, a stop changes no byte."""

import dataclasses

import numpy as np
import pytest
import torch

from mambascope.analysis.passkey.curriculum import Curriculum
from mambascope.analysis.passkey.keys import part_of
from mambascope.analysis.passkey.problem import Look, PasskeyTexts, StepsOnPasskey
from mambascope.analysis.passkey.record import TunedHistory, TunedStep
from mambascope.analysis.passkey.task import PasskeyTask
from mambascope.analysis.passkey.tuning import RATES, TuningPlan, outputs, planned_tokens, tune
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document, encode_bytes
from mambascope.spectra.zoo import text_files
from tests.spectra.tiny import tiny_model

PLAN = TuningPlan(180, 400, "joint", learning_rate=0.05, steps=4, batch=2, look_every=2, looks=2)


@pytest.fixture(scope="module")
def texts():
    parts = {split: text_files(split)[0].read_bytes()[:30_000] for split in ("calibration", "validation")}
    tasks = [
        PasskeyTask.of_texts([parts[split]], encode_bytes, part=part)
        for split, part in (("calibration", "train"), ("validation", "validation"))
    ]
    documents = [(Document(split, encode_bytes(text, "")),) for split, text in parts.items()]
    return PasskeyTexts(*tasks, *documents)


@pytest.fixture
def model():
    return tiny_model("mamba2", vocab_size=264)


def values(tuned):
    return [factor.values.numpy() for factor in tuned.scales.factors]


@pytest.mark.parametrize("rate", RATES)
def test_every_factor_moves_at_every_rate_that_is_offered(texts, model, rate, tmp_path):
    steps = []
    plan = dataclasses.replace(PLAN, learning_rate=rate, steps=1, look_every=1)
    tune(model, texts, plan, folder=tmp_path, watch=steps.append)
    moved = np.abs(np.log(TunedHistory.open(tmp_path / "tuning.safetensors").point["u"]))
    assert moved.shape == (2 * 3 * 6,)
    # Adam's first step is rate * |g| / (|g| + 1e-8), so the rate itself for any slope worth the name; a bfloat16 factor
    # at 1 has its neighbours at 1 - 2^-8 and 1 + 2^-7, and would stay where it is at 1e-4 and 1e-3
    assert moved.min() > 0.99 * rate
    assert moved.max() <= rate * (1 + 1e-9)
    assert steps[0].look.key_bits != steps[1].look.key_bits


@pytest.mark.parametrize(
    ("kind", "kinds"), [("a", ["a"]), ("dt", ["dt"]), ("joint", ["a", "dt"]), ("a_power", ["a_power"])]
)
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_there_is_one_factor_a_head_or_channel_of_each_kind(texts, arch, kind, kinds):
    model = tiny_model(arch, vocab_size=264)
    before = {name: p.clone() for name, p in model.named_parameters()}
    tuned = tune(model, texts, dataclasses.replace(PLAN, kind=kind, steps=1, look_every=1))
    assert [(f.kind, tuple(f.values.shape)) for f in tuned.scales.factors] == [
        (each, (3, 48 if arch == "mamba" else 6)) for each in kinds
    ]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_loss_falls_and_the_best_look_is_kept(texts, model):
    steps = []
    tuned = tune(model, texts, dataclasses.replace(PLAN, learning_rate=0.1, steps=12), watch=steps.append)
    looks = {step.step: step.look.objective for step in steps if step.look}
    assert sorted(looks) == [0, 2, 4, 6, 8, 10, 12]
    assert tuned.best_step == min(looks, key=lambda k: looks[k]) > 0
    assert looks[tuned.best_step] < looks[0]
    assert f"step {tuned.best_step} of 12" in tuned.note()
    assert tuned.tokens == steps[-1].tokens


def test_same_seed_same_bytes_and_another_seed_others(texts, model):
    one, same = tune(model, texts, PLAN), tune(model, texts, PLAN)
    assert one.scales.to_dict() == same.scales.to_dict()
    assert one.steps == same.steps
    other = tune(model, texts, dataclasses.replace(PLAN, seed=1))
    assert [s.loss for s in other.steps] != [s.loss for s in one.steps]


def test_a_stopped_training_goes_on_to_the_same_bytes(texts, model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = tune(model, texts, PLAN, folder=tmp_path / "a")

    def stop(step):
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(model, texts, PLAN, folder=tmp_path / "b", watch=stop)
    seen = []
    again = tune(model, texts, PLAN, folder=tmp_path / "b", watch=seen.append)
    assert again.scales.to_dict() == whole.scales.to_dict()
    assert again.steps == whole.steps == tuple(seen)
    (file,) = outputs(PLAN)
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    (tmp_path / "b" / file).write_bytes(b"no such thing")
    with pytest.raises(RefusedInputError, match="--fresh"):
        tune(model, texts, PLAN, folder=tmp_path / "b")


def test_the_rate_is_chosen_by_the_validation_part(texts, model, tmp_path):
    plan = dataclasses.replace(PLAN, learning_rate=None, rates=(1e-4, 0.1), steps=10)
    tuned = tune(model, texts, plan, folder=tmp_path)
    assert [rate for rate, _ in tuned.trials] == [1e-4, 0.1]
    assert tuned.plan.learning_rate == min(tuned.trials, key=lambda t: t[1])[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(outputs(plan))
    alone = tune(model, texts, dataclasses.replace(plan, learning_rate=tuned.plan.learning_rate))
    assert alone.scales.to_dict() == tuned.scales.to_dict()
    assert abs(planned_tokens(plan) / tuned.tokens - 1) < 0.3


def test_a_start_is_what_step_0_has(texts, model):
    start = scaling("a", torch.full((3, 6), 7.0))
    seen = []
    tuned = tune(model, texts, dataclasses.replace(PLAN, learning_rate=1e-4, steps=1), start=start, watch=seen.append)
    a, dt = values(tuned)
    np.testing.assert_allclose(a, 7, rtol=2e-4)
    np.testing.assert_allclose(dt, 1, rtol=2e-4)
    assert seen[0].look.key_bits != tune(model, texts, dataclasses.replace(PLAN, steps=1)).steps[0].look.key_bits


def test_each_part_reads_its_own_keys_and_noise(texts):
    rows = StepsOnPasskey(texts, Curriculum(180, 400, 10), 3, 0).rows(4)
    assert [weight for weight, _ in rows] == [1, 1, 1]
    far, near, text = (each for _, each in rows)
    assert 181 <= far.ids.shape[1] <= 401  # with the line's end behind the answer
    assert 170 <= near.ids.shape[1] <= 181
    assert (text.ids.shape, text.first) == ((3, 180), 0)
    for group in (far, near):
        assert {part_of(int(bytes(row[-6:-1].astype(np.uint8)))) for row in group.ids} == {"train"}
    seen = []

    def scores(model, items, task, scales, *, end):
        assert (task, end) == (texts.validation, b"\n")
        seen.extend(items)
        return 1.0, 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mambascope.analysis.passkey.problem.score_examples", scores)
        look = StepsOnPasskey(texts, Curriculum(180, 400, 10), 3, 0, looks=2).look(
            tiny_model("mamba2", vocab_size=264), None, lambda _: None
        )
    assert [n for n, _, _ in look.by_length] == [180, 360, 400]
    assert look.objective == 1.0 + look.text_bits
    assert {part_of(int(item.key)) for item in seen} == {"validation"}


def test_lengths_grow_to_the_longest_and_stay_there():
    plan = Curriculum(512, 8192, 100, growing=0.5)
    most = [plan.most(k) for k in range(100)]
    assert (most[0], most[50], most[99]) == (1024, 8192, 8192)
    assert most == sorted(most)
    drawn = [plan.draw(np.random.default_rng(k), 99) for k in range(300)]
    assert min(drawn) >= 512
    assert max(drawn) <= 8192
    # both of two log-uniform draws lie below 512 * sqrt(16) = 2048 a quarter of the time; 4 standard errors are .1
    assert abs(np.mean(np.array(drawn) < 2048) - 0.25) < 0.1
    # the standard deviation of a length is at most 7680 / 2, so 4 standard errors of 300 draws are below 900
    assert abs(np.mean(drawn) - plan.mean(99)) < 900


def test_a_history_keeps_the_least_objective():
    history = TunedHistory()
    for k, objective in enumerate((3.0, 2.0, 2.5)):
        step = TunedStep(k, 0, None, 0, Look(objective, 0.0))
        history.add(step, lambda k=k: {"u": np.array([k])}, "u")
    assert (history.best_step, history.best["u"].tolist(), history.point["u"].tolist()) == (1, [1], [2])


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"kind": "b"}, "expected one of a, a_power, dt, joint"), ({"longest": 300}, "at least 360"),
     ({"learning_rate": None, "rates": ()}, "no learning rate")],
)  # fmt: skip
def test_what_makes_no_training_is_refused(texts, model, changes, told):
    with pytest.raises(RefusedInputError, match=told):
        tune(model, texts, dataclasses.replace(PLAN, **changes))
