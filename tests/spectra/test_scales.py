"""Test ``mambascope.spectra.scales``: the algebra of the three kinds."""

import json
import re

import numpy as np
import pytest
import torch

from mambascope.analysis.calibration.descent import LEAST, MOST
from mambascope.analysis.shared_rules import LARGEST_POWER
from mambascope.spectra.config import Config
from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.scales import RANGES, Scales, scaling

MAMBA = Config("mamba", d_model=4, n_layer=2, vocab_size=8, d_inner=6, d_state=3, dt_rank=1)
MAMBA2 = Config("mamba2", d_model=4, n_layer=2, vocab_size=8, d_inner=6, d_state=3, headdim=2)


def dynamics(config):
    rng = torch.Generator().manual_seed(0)
    dt = torch.rand(1, 5, config.dt_width, generator=rng, dtype=torch.float64)
    return Dynamics(dt, -torch.rand(config.A_shape, generator=rng, dtype=torch.float64) * 3, dt)


@pytest.mark.parametrize("config", [MAMBA, MAMBA2], ids=["mamba", "mamba2"])
def test_what_each_kind_does(config):
    d = dynamics(config)
    a, power, dt = (scaling(kind, 0.5)(0, 0, d) for kind in ("a", "a_power", "dt"))
    assert torch.equal(a.A, d.A * 0.5)
    assert torch.equal(a.dt, d.dt)
    assert torch.equal(a.gain, d.gain)
    torch.testing.assert_close(torch.log(-power.A), torch.log(-d.A) * 0.5)
    assert torch.equal(power.gain, d.gain)
    assert torch.equal(dt.dt, d.dt * 0.5)
    assert torch.equal(dt.gain, d.gain * 0.5)
    assert torch.equal(dt.A, d.A)


def test_a_power_leaves_rate_one_where_it_is():
    d = Dynamics(torch.ones(1, 1, 2), -torch.ones(2), torch.ones(1, 1, 2))
    assert torch.equal(scaling("a_power", 3.7)(0, 0, d).A, d.A)


def test_factor_one_is_exact():
    d = dynamics(MAMBA)
    for kind in ("a", "a_power", "dt"):
        same = scaling(kind, np.ones((2, 6)))(1, 0, d)
        assert torch.equal(same.A, d.A)
        assert torch.equal(same.dt, d.dt)
        assert torch.equal(same.gain, d.gain)
    assert scaling("a", np.ones(2)).is_identity
    assert Scales().is_identity
    assert not scaling("a", [1.0, 2.0]).is_identity


def test_granularities_pick_the_right_factor():
    d = dynamics(MAMBA)
    per_layer = scaling("a", [2.0, 3.0])
    assert torch.equal(per_layer(1, 0, d).A, d.A * 3)
    channels = np.arange(1.0, 13.0).reshape(2, 6)
    assert torch.equal(scaling("a", channels)(1, 0, d).A, d.A * torch.arange(7.0, 13.0, dtype=torch.float64)[:, None])
    assert torch.equal(scaling("dt", channels)(0, 0, d).gain, d.gain * torch.arange(1.0, 7.0, dtype=torch.float64))
    states = np.arange(1.0, 37.0).reshape(2, 6, 3)
    assert torch.equal(scaling("a", states)(0, 0, d).A, d.A * torch.arange(1.0, 19.0, dtype=torch.float64).view(6, 3))
    names = [scaling("a", v).factors[0].granularity for v in (1.0, [1.0], channels, states)]
    assert names == ["model", "layer", "head", "state"]


def test_composition_acts_in_order():
    d = dynamics(MAMBA2)
    both = scaling("a", 4.0).then(scaling("a_power", 0.5))(0, 0, d)
    torch.testing.assert_close(both.A, -((-d.A * 4) ** 0.5))
    other = scaling("a_power", 0.5).then(scaling("a", 4.0))(0, 0, d)
    torch.testing.assert_close(other.A, -4 * (-d.A) ** 0.5)


def test_an_onset_waits_and_ends_a_block():
    d = dynamics(MAMBA2)
    late = scaling("a", 2.0, onset_tokens=10)
    assert late.boundaries() == (10,)
    assert torch.equal(late(0, 9, d).A, d.A)
    assert torch.equal(late(0, 10, d).A, d.A * 2)
    assert scaling("a", 2.0).boundaries() == ()


def test_scales_survive_a_file_bit_by_bit(tmp_path):
    values = torch.rand(2, 6, 3, dtype=torch.float64) * 1e7
    scales = scaling("a", values, onset_tokens=256).then(scaling("dt", 1 / 3))
    scales.save(tmp_path / "s.json")
    read = Scales.load(tmp_path / "s.json")
    assert torch.equal(read.factors[0].values, values)
    assert read.factors[0].onset_tokens == 256
    assert read.factors[1].kind == "dt"
    assert float(read.factors[1].values) == 1 / 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a file of scales"),
        ("[1, 2]", "not a file of scales"),
        ('{"format": 1, "factors": [], "extra": 1}', "extra"),
        ('{"format": 1, "factors": [{"kind": "b", "onset_tokens": 0, "values": 1}]}', "b"),
        (
            '{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": [[1], [1, 2]]}]}',
            "not a file of scales",
        ),
        ('{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": ["x"]}]}', "not a file of scales"),
        ('{"format": 2, "factors": []}', "format 2"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(ScaleError, match=message):
        Scales.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ScaleError, match="cannot read"):
        Scales.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("a", np.ones((2, 5)), "another model"),
        ("a", np.ones(3), "another model"),
        ("dt", np.ones((2, 6, 3)), "another model"),
        ("a", [1.0, 0.0], "must be positive"),
        ("dt", [1.0, -1.0], "must be positive"),
        ("a", [1.0, float("inf")], "must be positive"),
        ("a_power", [1.0, float("nan")], "must be not negative"),
        ("a", [1.0, 1e-300], "factor 1e-300 of kind 'a' at (1,): must be positive and from 1.26e-29 to 7.92e+28"),
        ("a_power", [200.0, 1.0], "factor 200.0 of kind 'a_power' at (0,): must be not negative and from 0 to 128"),
    ],
)
def test_factors_that_do_not_fit_are_refused(kind, values, message):
    with pytest.raises(ScaleError, match=re.escape(message)):
        scaling(kind, values).check(MAMBA)


@pytest.mark.parametrize("kind", ["a", "dt", "a_power"])
@pytest.mark.parametrize("end", [0, 1])
def test_a_factor_may_go_as_far_as_float32_does(kind, end):
    """At the ends of its range every product is a normal number and right; further out none is allowed."""
    config = Config("mamba2", d_model=4, n_layer=1, vocab_size=8, d_inner=32, d_state=3, headdim=2)
    s, further = RANGES[kind][end], (0.5, 2.0)[end] * RANGES[kind][end] or -1e-300
    reach = (1.0, 1.4) if kind == "a_power" else (1e-4, 1e4)
    d = Dynamics(*(sign * torch.logspace(*np.log10(reach), 16) for sign in (1, -1, 1)))

    def products(factor, dtype):
        d_ = Dynamics(d.dt.to(dtype), d.A.to(dtype), d.gain.to(dtype))
        found = scaling(kind, factor)(0, 0, d_)
        return (found.dt[:, None] * found.A).double()

    exact = products(s, torch.float64)
    found = products(scaling(kind, s).check(config).factors[0].values, torch.float32)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert float(found.abs().min()) >= np.finfo(np.float32).tiny
    sign = "not negative" if kind == "a_power" else "positive"
    with pytest.raises(ScaleError, match=f"must be {sign} and from .* to .*; outside, .* float32: take one nearer"):
        scaling(kind, further).check(config)


def test_what_calibrations_may_reach_is_in_range():
    for kind, (least, most, _) in RANGES.items():
        base = LARGEST_POWER if kind == "a_power" else 1e9  # horizons of 1e9 T are the furthest seen
        assert least <= LEAST / base
        assert most >= MOST[kind] * base


def test_an_unknown_kind_or_onset_is_refused():
    with pytest.raises(ScaleError, match="unknown kind"):
        scaling("A", 2.0)
    with pytest.raises(ScaleError, match="onset_tokens"):
        scaling("a", 2.0, onset_tokens=-1)


def test_json_has_no_surprises():
    assert json.loads(json.dumps(scaling("a", [1.0, 2.5]).to_dict())) == {
        "format": 1,
        "factors": [{"kind": "a", "onset_tokens": 0, "values": [1.0, 2.5]}],
    }
