"""The algebra of scales, which promises 8, 14 and 15 rest on, for factors of any size. Drawn by hypothesis."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.scales import KINDS, Scales, scaling
from tests.spectra.tiny import tiny_config

HOW = settings(max_examples=100, deadline=None, derandomize=True, database=None)
CONFIGS = {
    arch: tiny_config(arch, d_model=4, d_inner=8, n_layer=2, d_state=3, headdim=2) for arch in ("mamba", "mamba2")
}
factors = st.floats(1e-3, 1e3)
kinds = st.sampled_from(KINDS)
archs = st.sampled_from(list(CONFIGS))


def dynamics(arch, seed=0):
    """Random dt, A and gain of one block: (batch, length, width), (width,) or (width, d_state)."""
    config, rng = CONFIGS[arch], np.random.default_rng(seed)
    dt = torch.from_numpy(rng.uniform(0.001, 1, (2, 5, config.dt_width)))
    A = -torch.from_numpy(np.exp(rng.uniform(-6, 3, config.A_shape)))
    return Dynamics(dt, A, dt.clone())


def parts(found):
    return found.dt, found.A, found.gain


def close(one, other):
    for mine, theirs in zip(parts(one), parts(other), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)


def same(one, other):
    return all(torch.equal(mine, theirs) for mine, theirs in zip(parts(one), parts(other), strict=True))


@st.composite
def scales(draw, arch=None):
    """One to three factors of any kind, granularity and onset."""
    config, found = CONFIGS[arch or draw(archs)], Scales()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(kinds)
        shapes = [(), (2,), (2, config.dt_width)] + ([(2, *config.A_shape)] if kind != "dt" else [])
        shape = draw(st.sampled_from(shapes))
        values = draw(st.lists(factors, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        onset = draw(st.sampled_from([0, 0, 7]))
        found = found.then(scaling(kind, np.array(values).reshape(shape), onset_tokens=onset))
    return found


@HOW
@given(arch=archs, kind=kinds)
def test_one_changes_no_bit(arch, kind):
    d = dynamics(arch)
    assert same(scaling(kind, 1.0)(1, 0, d), d)
    assert same(Scales()(1, 0, d), d)


@HOW
@given(arch=archs, kind=kinds, s=st.floats(0.1, 10), t=st.floats(0.1, 10))
def test_factors_of_one_kind_multiply(arch, kind, s, t):
    d = dynamics(arch)
    close(scaling(kind, s).then(scaling(kind, t))(0, 0, d), scaling(kind, s * t)(0, 0, d))


@HOW
@given(arch=archs, kind=kinds, s=st.floats(0.05, 20))
def test_a_factor_and_its_inverse_cancel(arch, kind, s):
    d = dynamics(arch)
    close(scaling(kind, s).then(scaling(kind, 1 / s))(0, 0, d), d)


@HOW
@given(arch=archs, s=factors)
def test_a_and_dt_make_the_same_decay_and_different_writes(arch, s):
    """h(s dt, A) = s h(dt, s A): the decays are the same to the last digits, the write of dt is s times as large."""
    d = dynamics(arch)
    by_a, by_dt = scaling("a", s)(0, 0, d), scaling("dt", s)(0, 0, d)
    width = by_a.dt[..., None] if arch == "mamba" else by_a.dt
    torch.testing.assert_close(width * by_a.A, s * width * d.A, rtol=1e-12, atol=0)
    other = by_dt.dt[..., None] if arch == "mamba" else by_dt.dt
    torch.testing.assert_close(other * by_dt.A, width * by_a.A, rtol=1e-12, atol=0)
    torch.testing.assert_close(by_dt.gain, s * by_a.gain, rtol=1e-12, atol=0)


@HOW
@given(arch=archs, s=factors, p=st.floats(0.1, 3))
def test_the_order_of_different_kinds_is_kept(arch, s, p):
    d = dynamics(arch)
    first = scaling("a", s).then(scaling("a_power", p))(0, 0, d).A
    torch.testing.assert_close(first, -((-d.A * s) ** p), rtol=1e-12, atol=0)
    last = scaling("a_power", p).then(scaling("a", s))(0, 0, d).A
    torch.testing.assert_close(last, -s * (-d.A) ** p, rtol=1e-12, atol=0)


@HOW
@given(one=scales("mamba"), two=scales("mamba"), three=scales("mamba"))
def test_composition_is_associative(one, two, three):
    d = dynamics("mamba")
    assert same(one.then(two).then(three)(1, 9, d), one.then(two.then(three))(1, 9, d))
    assert same(one.then(two)(1, 9, d), two(1, 9, one(1, 9, d)))


@HOW
@given(arch=archs, kind=kinds, s=factors)
def test_a_coarse_factor_is_a_fine_one_repeated(arch, kind, s):
    d, config = dynamics(arch), CONFIGS[arch]
    whole = scaling(kind, s)(1, 0, d)
    shapes = [(2,), (2, config.dt_width)] + ([(2, *config.A_shape)] if kind != "dt" else [])
    for shape in shapes:
        close(scaling(kind, np.full(shape, s))(1, 0, d), whole)


@HOW
@given(found=scales())
def test_a_file_keeps_every_bit(found):
    with tempfile.TemporaryDirectory() as folder:
        found.save(Path(folder, "s.json"))
        again = Scales.load(Path(folder, "s.json"))
    for back in (again, Scales.from_dict(json.loads(json.dumps(found.to_dict())))):
        for mine, theirs in zip(back.factors, found.factors, strict=True):
            assert torch.equal(mine.values, theirs.values)
            assert (mine.kind, mine.onset_tokens) == (theirs.kind, theirs.onset_tokens)


@HOW
@given(arch=archs, data=st.data())
def test_nothing_acts_before_its_onset(arch, data):
    found, d = data.draw(scales(arch)), dynamics(arch)
    late = Scales(tuple(f for f in found.factors if f.onset_tokens))
    assert same(late(0, 6, d), d)
    assert late.boundaries() == ((7,) if late.factors else ())


@HOW
@given(kind=kinds, bad=st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e300, -1e-300]), arch=archs)
def test_a_factor_that_is_none_is_refused(kind, bad, arch):
    if kind == "a_power" and bad == 0:
        return  # |A|^0 = 1 is a model with one rate
    sign = "not negative" if kind == "a_power" else "positive"
    with pytest.raises(ScaleError, match=f"must be {sign}"):
        scaling(kind, [1.0, bad]).check(CONFIGS[arch])
