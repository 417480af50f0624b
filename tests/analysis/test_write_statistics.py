"""Test ``mambascope.analysis.write_statistics`` against sums made by hand, and its pairs against biased squares."""

import numpy as np
import pytest
import torch

from mambascope.analysis.write_statistics import WriteStatistics, write_moments
from mambascope.spectra.dynamics import Dynamics, Observation
from mambascope.spectra.errors import TextError
from mambascope.spectra.state import LayerState

T, ROWS, DOCUMENTS = 8, 3, 2


def observation(arch, rng, stop=T):
    def normal(*shape):
        return torch.tensor(rng.normal(size=shape))

    dt = torch.tensor(rng.random((ROWS, stop, 4)))
    if arch == "mamba2":
        A, B, x, state = -torch.tensor(rng.random(4)), normal(ROWS, stop, 2, 3), normal(ROWS, stop, 4, 5), (4, 5, 3)
    else:
        A, B, x, state = -torch.tensor(rng.random((4, 3))), normal(ROWS, stop, 3), normal(ROWS, stop, 4), (4, 3)
    after = LayerState(torch.zeros(ROWS, 1, 1), normal(ROWS, *state) + 0.5)
    return Observation(0, 0, stop, Dynamics(dt, A, 2 * dt), B, x, after)


def writes(seen):
    """(rows, length, heads, headdim, d_state), or (rows, length, channels, d_state)."""
    gain, B, x = (v.numpy() for v in (seen.dynamics.gain, seen.B, seen.x))
    if x.ndim == 4:
        return gain[..., None, None] * x[..., None] * np.repeat(B, 2, axis=2)[:, :, :, None, :]
    return (gain * x)[..., None] * B[:, :, None, :]


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_moments_are_the_sums_made_by_hand(arch):
    rng = np.random.default_rng(0)
    found, seen = WriteStatistics(T), []
    for _ in range(DOCUMENTS):
        own = WriteStatistics(T)
        for stop in (T // 4, T // 2, T):
            part = observation(arch, rng, stop)
            own.update(part)
            seen.append(part)
        found.merge(own)
    (moments,) = found.result()

    def squared(v):
        return (v**2).sum((-1, -2)) if arch == "mamba2" else v**2

    flat = np.concatenate([writes(part).reshape(-1, *writes(part).shape[2:]) for part in seen])
    np.testing.assert_allclose(moments.write_energy, squared(flat).mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.mean_write_squared, squared(flat.mean(0)), rtol=1e-12)
    A, dt = seen[-1].dynamics.A.numpy(), np.concatenate([p.dynamics.dt.numpy().reshape(-1, 4) for p in seen]).mean(0)
    np.testing.assert_allclose(moments.rate, -A * (dt if arch == "mamba2" else dt[:, None]), rtol=1e-12)
    np.testing.assert_allclose(moments.mean_dt, dt, rtol=1e-12)
    states = [part.state.ssm.numpy() for part in seen]
    for k in range(3):
        np.testing.assert_allclose(moments.squares[k], squared(np.concatenate(states[k::3])).mean(0), rtol=1e-12)
    pairs = [
        (W[i] * W[j]).sum((-1, -2)) if arch == "mamba2" else W[i] * W[j]
        for W in states[2::3]
        for i in range(ROWS)
        for j in range(ROWS)
        if i != j
    ]
    np.testing.assert_allclose(moments.coherent, np.mean(pairs, axis=0), rtol=1e-10)
    np.testing.assert_allclose(moments.trained_l2, np.sqrt(moments.squares[2]))
    assert moments.windows == DOCUMENTS * ROWS


def test_pairs_of_windows_hold_no_noise():
    """Windows of pure noise, variance 1: pairs average to 0; the square of the mean window, 1/2 a row, would not."""
    rng, found = np.random.default_rng(1), WriteStatistics(T)
    for _ in range(300):
        own, part = WriteStatistics(T), observation("mamba", rng)
        state = torch.tensor(rng.normal(size=(2, 4, 3)))
        for stop in (T // 4, T // 2, T):
            own.update(Observation(0, 0, stop, part.dynamics, part.B, part.x, LayerState(torch.zeros(2, 1, 1), state)))
        found.merge(own)
    coherent = found.result()[0].coherent
    assert np.abs(coherent).max() < 6 / np.sqrt(300)  # a pair's product has variance 1; 12 modes at 6 sigma
    assert np.abs(coherent.mean()) < 0.1 < 0.5


def test_one_window_a_document_has_no_pairs():
    found, rng = WriteStatistics(T), np.random.default_rng(0)
    part = observation("mamba2", rng)
    one = LayerState(torch.zeros(1, 1, 1), part.state.ssm[:1])
    found.update(Observation(0, 0, T, part.dynamics, part.B, part.x, one))
    with pytest.raises(TextError, match="fewer than two windows"):
        found.result()


def test_blocks_change_nothing():
    from mambascope.spectra import load
    from mambascope.spectra.zoo import text_files

    model = load("mamba2-tiny", device="cpu", dtype="float64")
    ids = np.stack([np.frombuffer(path.read_bytes()[:192], np.uint8) for path in text_files("calibration")[:2]])
    moments = write_moments(model, ids, 64, windows_per_document=3)
    found = WriteStatistics(64)
    for document in ids:
        own = WriteStatistics(64)
        for window in document.reshape(3, 1, 64):  # one at a time, in blocks of 5
            list(model.stream(window, observers=[own], block_length=5))
        found.merge(own)
    for one, other in zip(moments, found.result(), strict=True):
        for name in ("rate", "write_energy", "mean_write_squared", "coherent", "squares"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-15)
