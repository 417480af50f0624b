"""Test ``mambascope.simulate.replay``: replayed traces of the bundled models are the models' own states."""

import functools

import numpy as np
import pytest
import torch

from mambascope.simulate import mean_gain
from mambascope.simulate.replay import Change, replay
from mambascope.spectra import load
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.traces import TraceRecorder
from mambascope.spectra.zoo import text_files

MODELS = ["mamba2-tiny", "mamba-tiny"]
TOKENS = 300


@functools.cache
def text():
    files = text_files("calibration")[:2]
    return np.stack([np.frombuffer(path.read_bytes()[:TOKENS], np.uint8) for path in files])


@functools.cache
def bundled(name, dtype):
    return load(name, device="cpu", dtype=dtype)


def run(model, selection, scales=None):
    """Return traces and last states of the chosen heads."""
    recorder = TraceRecorder(selection, max_tokens=TOKENS)
    *_, last = model.stream(text(), observers=[recorder], intervention=scales)
    traces = recorder.result()
    return traces, {i: last.state.layers[i].ssm.numpy()[:, t.heads] for i, t in traces.items()}


@functools.cache
def recorded(name, dtype="float64"):
    model = bundled(name, dtype)
    heads = None if name == "mamba2-tiny" else range(0, model.config.d_inner, 16)
    return run(model, dict.fromkeys(range(model.config.n_layer), heads))


def replayed(trace, *changes, **how):
    inputs = (trace.A, trace.dt, trace.gain, trace.B, trace.x)
    return replay(*inputs, groups=trace.groups, changes=changes, **how)


def error(found, truth):
    """Largest error of a head's state relative to the norm of that state."""
    axes = tuple(range(2, truth.ndim))
    return float((np.sqrt(((found - truth) ** 2).sum(axes)) / np.sqrt((truth**2).sum(axes))).max())


@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", MODELS)
def test_an_unscaled_replay_is_the_models_state(name, dtype, within):
    traces, states = recorded(name, dtype)
    assert sum(trace.heads.size for trace in traces.values()) >= 40
    for layer, trace in traces.items():
        found = replayed(trace)
        assert error(found.state, states[layer]) < within
        squared = states[layer].astype(np.float64) ** 2
        truth = squared.sum((-1, -2)) if squared.ndim == 4 else squared
        np.testing.assert_allclose(found.squared_l2[0], truth, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-12)
        wrong = replayed(trace, Change("a", 1.01))  # negative control: rates off by a hundredth
        assert error(wrong.state, states[layer]) > 100 * within


def factors(model, kind, of_states):
    shape = (model.config.n_layer, *(model.config.A_shape if of_states else (model.config.dt_width,)))
    values = np.exp(np.random.default_rng(5).normal(0, 0.5, shape))
    return values if kind != "a_power" else 0.5 + values / 2


@pytest.mark.parametrize("kind", ["a", "a_power", "dt"])
@pytest.mark.parametrize("onset", [0, 130])
@pytest.mark.parametrize("of_states", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_change_is_what_the_models_scales_do(name, kind, onset, of_states):
    """In layer 0 the inputs do not depend on the decay, so the replay must equal the scaled model there."""
    if of_states and (name == "mamba2-tiny" or kind == "dt"):
        return  # there are no such factors
    model, (traces, _) = bundled(name, "float64"), recorded(name)
    values = factors(model, kind, of_states)
    chosen = {0: traces[0].heads, 1: traces[1].heads}
    scaled, states = run_scaled(model, chosen, scaling(kind, values, onset_tokens=onset))
    found = replayed(traces[0], Change(kind, values[0][traces[0].heads], onset_tokens=onset))
    assert error(found.state, states[0]) < 1e-12
    assert error(replayed(traces[0]).state, states[0]) > 1e-3  # negative control: no change
    beyond = replayed(traces[1], Change(kind, values[1][traces[1].heads], onset_tokens=onset))
    assert error(beyond.state, states[1]) > 1e-6  # behind a changed layer the inputs differ: another trace is needed
    assert scaled is not None


def run_scaled(model, chosen, scales):
    *_, last = model.stream(text(), intervention=scales)
    return last, {i: last.state.layers[i].ssm.numpy()[:, heads] for i, heads in chosen.items()}


@pytest.mark.parametrize("name", MODELS)
def test_changes_compose_in_order(name):
    model, (traces, _) = bundled(name, "float64"), recorded(name)
    trace = traces[0]
    power, rate, step = (factors(model, kind, False) for kind in ("a_power", "a", "dt"))
    scales = Scales().then(scaling("a", rate)).then(scaling("dt", step)).then(scaling("a_power", power))
    _, states = run_scaled(model, {0: trace.heads}, scales)
    changes = [Change("a", rate[0]), Change("dt", step[0]), Change("a_power", power[0])]
    ours = [Change(c.kind, np.asarray(c.values)[trace.heads]) for c in changes]
    assert error(replayed(trace, *ours).state, states[0]) < 1e-12
    assert error(replayed(trace, *ours[::-1]).state, states[0]) > 1e-3
    joint = replayed(trace, Change("joint", step[0][trace.heads], step[0][trace.heads]))
    np.testing.assert_allclose(joint.state, replayed(trace, ours[1]).state, rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_pieces_and_stops_change_nothing(name):
    trace = recorded(name)[0][1]
    change = Change("a", 3.0, onset_tokens=130)
    whole = replayed(trace, change, stops_tokens=[40, 130, 200, TOKENS], keep_states=True)
    state, squares = None, []
    for start, stop in ((0, 40), (40, 200), (200, TOKENS)):
        part = [v[:, start:stop] for v in (trace.dt, trace.gain, trace.B, trace.x)]
        piece = replay(trace.A, *part, groups=trace.groups, changes=[change], state=state, start_tokens=start)
        state = piece.state
        squares.append(piece.squared_l2[0])
    np.testing.assert_allclose(squares, whole.squared_l2[[0, 2, 3]], rtol=1e-12)
    np.testing.assert_array_equal(whole.states[-1], whole.state)
    assert whole.stops_tokens == (40, 130, 200, TOKENS)
    assert replayed(trace, stops_tokens=[]).squared_l2.shape[0] == 0


def test_constant_inputs_give_the_closed_form():
    rates = np.array([1e-9, 0.01, 3.0])
    dt, n = 0.1, 50
    ones = np.ones((1, n, 3))
    heads = replay(-rates, dt * ones, 2 * ones, np.ones((1, n, 1, 4)), np.ones((1, n, 3, 5)))
    np.testing.assert_allclose(heads.squared_l2[0, 0], 20 * (2 * mean_gain(rates * dt, n)) ** 2, rtol=1e-12)
    two = np.stack([rates, rates[::-1]], axis=1)
    modes = replay(-two, dt * ones, 2 * ones, np.ones((1, n, 1, 2)), ones)
    np.testing.assert_allclose(modes.state[0], 2 * mean_gain(two * dt, n), rtol=1e-12)


def test_heads_read_their_own_group():
    rng = np.random.default_rng(0)
    dt, B, x = rng.random((2, 9, 4)), rng.normal(size=(2, 9, 2, 3)), rng.normal(size=(2, 9, 4, 5))
    A, groups = -rng.random(4), np.array([0, 0, 1, 1])
    both = replay(A, dt, dt, B, x, groups=groups).state
    for g in (0, 1):
        own = groups == g
        alone = replay(A[own], dt[..., own], dt[..., own], B[:, :, g : g + 1], x[:, :, own]).state
        np.testing.assert_array_equal(both[:, own], alone)
    assert np.abs(replay(A, dt, dt, B, x, groups=groups[::-1]).state - both).max() > 1e-3


def test_misfits_are_refused():
    dt, B, x = np.ones((1, 4, 2)), np.ones((1, 4, 1, 3)), np.ones((1, 4, 2, 5))
    A = -np.ones(2)
    for bad in (
        {"A": -np.ones(3)},
        {"A": -np.ones((2, 3))},
        {"stops_tokens": [5]},
        {"groups": [0, 1]},
        {"groups": [0]},
        {"changes": [Change("a", np.ones(3))]},
        {"changes": [Change("speed", 1.0)]},
        {"changes": [Change("joint", 1.0, np.ones(3))]},
    ):
        arguments = {"A": A, "dt": dt, "gain": dt, "B": B, "x": x} | bad
        with pytest.raises(ValueError, match=r"not|fit"):
            replay(**arguments)
    assert torch.tensor(replay(A, dt, dt, B, x).state).isfinite().all()
