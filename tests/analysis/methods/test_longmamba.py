"""analysis/methods/longmamba.py, step_statistics.py and step_filters.py: what is measured inside T, what is skipped."""

import math

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import token_bits
from mambascope.analysis.methods import find_method, fit, setup_of
from mambascope.analysis.methods import longmamba as module
from mambascope.analysis.methods.step_filters import ThresholdFilter, WholePromptFilter
from mambascope.analysis.methods.step_statistics import StepStatistics, clamp_top, stretched, threshold_at
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.dynamics import Dynamics, Observation, WholePrompt
from mambascope.spectra.errors import RefusedInputError

MASKS = ("longmamba", "longmamba:bound", "longmamba:norm")


def ids_of(task, length):
    return torch.from_numpy(np.stack([d.ids[:length] for d in task.texts.test]).astype(np.int64))


def test_worked_clamp():
    dt = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    # q = .4 of 5 tokens: the top 2 are 5 and 4, the smaller is 4
    assert clamp_top(dt, 0.4).tolist() == [4, 1, 4, 2, 3]
    assert clamp_top(dt, 0.1).tolist() == dt.tolist()  # at least one token: clamped at the largest


def test_worked_interpolation_to_more_points():
    # point j of 4 from 2 values lies at (j + .5) / 2 - .5 = -.25, .25, .75, 1.25; the ends are held
    assert stretched(torch.tensor([4.0, 2.0]), 4, 4).tolist() == [4, 3.5, 2.5, 2]
    assert stretched(torch.tensor([4.0, 2.0]), 4, 2).tolist() == [4, 3.5]


def test_worked_threshold():
    # the points 4, 3.5, 2.5, 2 add up to 4, 7.5, ...: the second exceeds S = 6, so k = 2, alpha = 2/4, and the point
    # next in size is 2.5: steps above 2.5 are the 2 largest
    theta, alpha = threshold_at(torch.tensor([4.0, 2.0], dtype=torch.float64), 4)
    assert (theta.item(), alpha.item()) == (2.5, 0.5)
    # all equal: 5 ones exceed S = 4, k = 5 of 8
    theta, alpha = threshold_at(torch.ones(4, dtype=torch.float64), 8)
    assert (theta.item(), alpha.item()) == (1, 5 / 8)
    theta, alpha = threshold_at(torch.ones(4, dtype=torch.float64), 4)
    assert (theta.item(), alpha.item()) == (0, 1)


@pytest.mark.parametrize("length", [21, 30, 64, 333, 1000])
def test_thresholds_are_those_of_all_points_written_out(length):
    rng = np.random.default_rng(length)
    ranked = -np.sort(-rng.lognormal(0, 2, (5, 20)), axis=1)
    theta, alpha = threshold_at(torch.from_numpy(ranked), length)
    for row, got, share in zip(ranked, theta.tolist(), alpha.tolist(), strict=True):
        points = np.interp((np.arange(length) + 0.5) * 20 / length - 0.5, np.arange(20), row)
        k = int((points.cumsum() > row.sum()).argmax()) + 1
        assert got == pytest.approx(points[k], rel=1e-12)
        assert share == k / length
        assert (points > got * (1 + 1e-12)).sum() <= k  # fewer where points are equal


def observation(dt, A, start, layer=0):
    dt = torch.tensor(dt, dtype=torch.float32)
    dynamics = Dynamics(dt, torch.tensor(A), dt)
    return Observation(layer, start, start + dt.shape[1], dynamics, None, None, None)


def test_worked_sums_and_decays_over_two_windows_in_blocks():
    found = StepStatistics(4, 0.5, (4, 8))
    A = [-0.1, -2.0]
    # head 0: window 1 has 1 2 3 4, its top half clamped at 3: S = 9; window 2 has 0 1 0 1: S = 2
    # head 1: all steps .5: S = 2 in both
    found.update(observation([[[1, 0.5], [2, 0.5], [3, 0.5]], [[0, 0.5], [1, 0.5], [0, 0.5]]], A, 0))
    found.update(observation([[[4, 0.5]], [[1, 0.5]]], A, 3))
    got = found.result()
    assert got["windows"] == 2
    np.testing.assert_allclose(got["total"], [[(9 + 2) / 2, 2]], rtol=1e-7)
    np.testing.assert_allclose(got["decay"], [[(math.exp(-0.9) + math.exp(-0.2)) / 2, math.exp(-4)]], rtol=1e-6)
    assert got["theta"].shape == got["alpha"].shape == (2, 1, 2)
    assert (got["theta"][0] == 0).all()
    assert (got["alpha"][0] == 1).all()
    # n = 8: point j at (j + .5) / 2 - .5. Window 1: 3 3 3 3 2.75 ... : 3 6 9 do not exceed 9, the fourth does, k = 4;
    # next is 2.75, at 1.75 between 3 and 2 (ranked 3 3 2 1): j = 4 lies at 1.75: 3 - .75 = 2.25
    # window 2, ranked 1 1 0 0: points 1 1 1 .75 .25 ...: 1 2 3 exceeds 2 at the third, k = 3; next is .75, at 1.25
    np.testing.assert_allclose(got["theta"][1, 0, 0], (2.25 + 0.75) / 2, rtol=1e-7)
    np.testing.assert_allclose(got["alpha"][1, 0, 0], (4 + 3) / 2 / 8, rtol=1e-7)


def test_the_slowest_state_of_a_channel_decides():
    found = StepStatistics(2, 0.5, (2,))
    found.update(observation([[[1.0], [1.0]]], [[-3.0, -0.25, -1.0]], 0))
    np.testing.assert_allclose(found.result()["decay"], [[math.exp(-0.25 * 2)]], rtol=1e-7)


def dynamics_of(steps, other=None):
    dt = torch.tensor([[[step, other or step] for step in steps]])
    return Dynamics(dt, torch.tensor([-1.0, -1.0]), dt * 2)


def test_worked_threshold_filter():
    rule = ThresholdFilter(np.array([[0.5, 9.0]]), np.array([[True, False]]), 5)
    got = rule(0, 0, dynamics_of([0.25, 0.5, 0.75]))
    assert got.dt[0].T.tolist() == [[0, 0, 0.75], [0.25, 0.5, 0.75]]  # the second head is not global
    assert got.gain[0].T.tolist() == [[0, 0, 1.5], [0.5, 1, 1.5]]
    late = rule(0, 3, dynamics_of([0.25, 0.25, 0.25]))  # positions 3 and 4 are of the prompt, 5 is not
    assert late.dt[0, :, 0].tolist() == [0, 0, 0.25]
    decoding = dynamics_of([0.25])
    assert rule(0, 5, decoding) is decoding


def test_worked_bound_and_norm():
    chosen = np.array([[True, False]])
    # largest first 3 2 1 1 add up to 3 5 6 7: S = 5 keeps 3 and 2; S = 6.5 also the first of the two 1
    for total, kept in ((5, [3, 0, 2, 0]), (6.5, [3, 1, 2, 0]), (2, [0, 0, 0, 0])):
        got = WholePromptFilter(np.array([[total, 1.0]]), chosen, False)(0, 0, dynamics_of([3.0, 1.0, 2.0, 1.0]))
        assert got.dt[0].T.tolist() == [kept, [3, 1, 2, 1]]
        assert got.gain[0].T.tolist() == [[2 * k for k in kept], [6, 2, 4, 2]]
    # the steps add up to 7: S = 3.5 halves them
    rule = WholePromptFilter(np.array([[3.5, 1.0]]), chosen, True)
    got = rule(0, 0, dynamics_of([3.0, 1.0, 2.0, 1.0]))
    assert got.dt[0].T.tolist() == [[1.5, 0.5, 1, 0.5], [3, 1, 2, 1]]
    assert got.gain[0].T.tolist() == [[3, 1, 2, 1], [6, 2, 4, 2]]
    decoding = dynamics_of([3.0])
    assert rule(0, 4, decoding) is decoding


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_neutral_filters_leave_every_logit(make_task, arch):
    task = make_task(arch)
    ids, width = ids_of(task, 64), task.model.config.dt_width
    plain = torch.cat([block.logits() for block in task.model.stream(ids)], dim=1)
    everywhere = np.ones((3, width), bool)
    neutral = (
        ThresholdFilter(np.zeros((3, width)), everywhere, 64),
        ThresholdFilter(np.full((3, width), 9.0), ~everywhere, 64),
        WholePromptFilter(np.full((3, width), 1e9), everywhere, False),
    )
    for rule in neutral:
        assert torch.equal(torch.cat([b.logits() for b in task.model.stream(ids, intervention=rule)], dim=1), plain)
    acting = ThresholdFilter(np.full((3, width), 0.01), everywhere, 64)
    assert not torch.equal(next(task.model.stream(ids, intervention=acting)).logits(), plain)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_thresholds_give_the_same_for_every_block_length(make_task, arch):
    task = make_task(arch)
    task.model.double()
    rule = setup_of(fit(find_method("longmamba"), task), task.model, 64).intervention
    ids = ids_of(task, 100)  # goes on beyond the prompt of 64
    runs = [
        torch.cat([b.logits() for b in task.model.stream(ids, intervention=rule, block_length=n)], dim=1)
        for n in (1, 7, 64, 100)
    ]
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(runs[0], task.model(ids).logits(), rtol=1e-3)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("name", MASKS)
def test_the_prompt_is_changed_and_decoding_is_not(make_task, arch, name):
    task = make_task(arch)
    setup = setup_of(fit(find_method(name), task), task.model, 64)
    assert isinstance(setup.intervention, WholePrompt) == (name != "longmamba")
    assert setup.by_length
    assert not setup.last_only
    ids = ids_of(task, 65)
    *_, block = task.model.stream(ids[:, :64], intervention=setup.intervention)
    assert not torch.equal(block.logits(), task.model(ids[:, :64]).logits())
    with_rule = task.model(ids[:, 64:], block.state, setup.intervention)
    assert torch.equal(with_rule.logits(), task.model(ids[:, 64:], block.state).logits())
    added = task.model.generate(ids[:, :64], 2, intervention=setup.intervention)
    assert torch.equal(added[:, 0], block.logits()[:, -1].argmax(-1))


@pytest.mark.parametrize("name", MASKS)
def test_steps_of_a_text_add_up_to_those_of_training(make_task, name):
    task = make_task("mamba2")
    found = fit(find_method(name), task)
    rule = setup_of(found, task.model, 128).intervention
    chosen = found.arrays["decay"] > module.LEAST_DECAY
    sums = []

    class Watch:
        def boundaries(self):
            return ()

        def update(self, seen):
            sums.append(seen.dynamics.dt.double().sum(1).numpy())

    list(task.model.stream(ids_of(task, 128), intervention=rule, observers=[Watch()]))
    ratio = np.stack(sums).transpose(1, 0, 2)[:, chosen] / found.arrays["total"][chosen]
    if name == "longmamba:norm":
        np.testing.assert_allclose(ratio, 1, rtol=1e-5)
    elif name == "longmamba:bound":
        assert (ratio <= 1).all()
        assert ratio.mean() > 0.8
    else:
        list(task.model.stream(ids_of(task, 128), observers=[Watch()]))
        plain = np.stack(sums[3:]).transpose(1, 0, 2)[:, chosen] / found.arrays["total"][chosen]
        assert (ratio < plain).all()


def test_up_to_T_nothing_is_done_and_beyond_it_the_nearest_threshold(make_task):
    task = make_task(lengths=(16, 64, 100))
    found = fit(find_method("longmamba"), task)
    assert found.arrays["lengths"].tolist() == [16, 32, 64, 100]
    assert setup_of(found, task.model, 16).name == "none"
    assert setup_of(found, task.model, 16).intervention is None
    assert setup_of(found, task.model, 20).intervention is None  # 16 is nearest, where nothing is skipped
    for length, nearest in ((64, 64), (70, 64), (90, 100), (5000, 100)):
        rule = setup_of(found, task.model, length).intervention
        np.testing.assert_array_equal(rule.theta, found.arrays["theta"][[16, 32, 64, 100].index(nearest)])
    names = {setup_of(found, task.model, n).name for n in (64, 70, 100)}
    assert len(names) == 3
    assert setup_of(found, task.model, 64).name == setup_of(fit(find_method("longmamba"), task), task.model, 64).name


def test_windows_are_the_texts_and_every_token_is_counted(make_task):
    ticks = []
    task = make_task(tick=ticks.append)
    found = fit(find_method("longmamba"), task)
    # 2 documents of 300 tokens have 18 windows of 16 each
    assert found.arrays["windows"] == 36
    assert sum(ticks) == 36 * 16
    assert found.passes == 36 * 16 / 32
    assert "36 windows" in found.how
    assert found.bakes.startswith("no: ")


@pytest.mark.parametrize("name", MASKS)
def test_it_is_read_again_and_not_made_again(make_task, tmp_path, monkeypatch, name):
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        first = fit(find_method(name), make_task(run=run))
    monkeypatch.setattr(module, "StepStatistics", lambda *_: pytest.fail("made again"))
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        again = fit(find_method(name), make_task(run=run))
        fit(find_method("longmamba:norm"), make_task(run=run))  # another mask takes the same measurement
    assert again.to_dict() == first.to_dict()
    for key, array in first.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)
    model = make_task().model
    assert setup_of(again, model, 64).name == setup_of(first, model, 64).name


def test_it_can_be_scored(make_task):
    task = make_task("mamba")
    for name in MASKS:
        setup = setup_of(fit(find_method(name), task), task.model, 64)
        assert np.isfinite(token_bits(task.model, ids_of(task, 64), setup.intervention)).all()


def test_other_masks_are_refused_with_those_that_there_are():
    with pytest.raises(RefusedInputError, match="longmamba:bound"):
        find_method("longmamba:bounds")
