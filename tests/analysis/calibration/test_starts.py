"""Test ``mambascope.analysis.calibration.starts``, ``parameters`` and ``projection``: where a calibration starts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambascope.analysis.calibration.parameters import shape_of
from mambascope.analysis.calibration.projection import projected_factors
from mambascope.analysis.calibration.starts import name_of, start_at
from mambascope.analysis.proposal import propose_for
from mambascope.spectra.errors import RefusedInputError, ScaleError
from mambascope.spectra.scales import Scales, scaling


def same(mine, theirs, config):
    """Two scales change the dynamics alike."""
    from mambascope.spectra.dynamics import Dynamics

    ones = torch.ones(config.dt_width, dtype=torch.float64)
    for layer in range(config.n_layer):
        A = -torch.linspace(0.01, 20, int(np.prod(config.A_shape)), dtype=torch.float64).view(config.A_shape)
        a, b = (s(layer, 10**6, Dynamics(ones, A, ones)) for s in (mine, theirs))
        for field in ("dt", "A", "gain"):
            torch.testing.assert_close(getattr(a, field), getattr(b, field), rtol=1e-14, atol=0)
    return True


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("kind", ["a", "a_power", "dt", "joint"])
@pytest.mark.parametrize("granularity", ["model", "layer", "head"])
def test_the_spectrum_start_is_the_proposal_and_multipliers_refine_it(
    make_model, make_plan_with, make_texts, arch, kind, granularity
):
    model, documents = make_model(arch), make_texts().calibration
    plan = make_plan_with(kind=kind, granularity=granularity)
    begun = start_at("spectrum", model, documents, plan)
    proposed = propose_for(model, documents, plan.train_length, plan.target_length).scales
    assert not proposed.is_identity
    assert same(begun.parameters.scales(begun.u), proposed, model.config)
    assert begun.passes > 0
    sizes = {"model": 1, "layer": 3, "head": 3 * model.config.dt_width}
    assert begun.u.shape == (sizes[granularity] * (2 if kind == "joint" else 1),)
    moved = begun.parameters.scales(begun.u * 2)
    expected = proposed.then(scaling("a", 2.0)).then(scaling("dt", 2.0)) if kind == "joint" else None
    assert same(moved, expected or proposed.then(scaling(kind, 2.0)), model.config)
    assert moved.check(model.config) is moved


def test_a_proposal_reduced_is_the_nearest_in_ln_rate(make_model, make_plan_with, make_texts):
    model, documents = make_model("mamba2"), make_texts().calibration
    plan = make_plan_with(granularity="layer")
    found = propose_for(model, documents, plan.train_length, plan.target_length)
    wanted, rates = np.log(found.scales.factors[0].values.numpy()), np.log(np.stack(found.diagnosis.spectrum.rates))
    a = projected_factors(found, "a", (3,), plan.target_length)
    np.testing.assert_allclose(np.log(a), wanted.mean(1))
    power = projected_factors(found, "a_power", (3,), plan.target_length)

    def misfit(s):
        return (((s[:, None] - 1) * rates - wanted) ** 2).sum(1)

    free = power > 1e-3
    assert free.any()
    assert np.all(misfit(power)[free] <= np.minimum(misfit(power + 1e-3), misfit(power - 1e-3))[free])
    dt = projected_factors(found, "dt", (3,), plan.target_length)
    assert np.all((dt <= 1) & (dt > 0))
    np.testing.assert_allclose(projected_factors(found, "a", (3, 6), 64).reshape(3, 6), np.exp(wanted))
    begun = start_at("projected", model, documents, make_plan_with(kind="joint", granularity="layer"))
    np.testing.assert_allclose(begun.u, [*a, 1, 1, 1])
    assert begun.parameters.prefix == Scales()


def test_a_model_left_alone_starts_from_ones():
    alone = SimpleNamespace(acts=False, diagnosis=SimpleNamespace(spectrum=None, train_length=16))
    assert np.array_equal(projected_factors(alone, "a", (3,), 64), np.ones(3))


def test_random_starts_have_their_ranges_and_seeds(make_model, make_plan_with):
    model, plan = make_model("mamba"), make_plan_with(seed=5)

    def u(start, seed=5):
        return start_at(start, model, (), make_plan_with(seed=seed)).u

    assert 0.001 <= u("random").min() < 0.1
    assert 0.9 < u("random").max() <= 1
    assert 0.75 <= u("random:0.75,1").min() < 0.8
    log = np.log(u("log-random:1,4096"))
    assert log.min() >= 0
    assert log.max() <= np.log(4096)
    assert log.mean() == pytest.approx(np.log(4096) / 2, rel=0.15)
    assert np.array_equal(u("random"), u("random"))
    assert not np.array_equal(u("random"), u("random", seed=6))
    constant = start_at("constant:8", model, (), make_plan_with(kind="joint", granularity="layer"))
    assert constant.u.tolist() == [8, 8, 8, 1, 1, 1]
    assert start_at("ones", model, (), plan).parameters.scales(np.ones(144)).is_identity


def test_files_and_scales(make_model, make_plan_with, tmp_path):
    model, plan = make_model("mamba2"), make_plan_with(granularity="layer")
    scales = scaling("dt", 0.5).then(scaling("a", np.full((3, 6), 4.0)))
    scales.save(tmp_path / "scales.json")
    begun = start_at(tmp_path / "scales.json", model, (), plan)
    assert begun.name == "file"
    assert same(begun.parameters.scales(begun.u), scales, model.config)
    assert [f.kind for f in begun.parameters.prefix.factors] == ["dt"]
    power = start_at(scales, model, (), make_plan_with(kind="a_power", granularity="layer"))
    assert power.parameters.prefix == scales  # a and a_power do not commute, so the old factors act first
    assert name_of(scales) == "scales"
    with pytest.raises(ScaleError, match="another model"):
        start_at(scaling("a", np.ones(4)), model, (), plan)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("nowhere.json", "no such file"),
        ("random:1", "ascending"),
        ("random:2,1", "ascending"),
        ("random:x,y", "ascending"),
        ("log-random", "ascending"),
        ("constant:x", "above 0"),
        ("constant:-1", "above 0"),
        ("constant:nan", "above 0"),
        ("spectrum:2", "no such file"),
    ],
)
def test_bad_starts_are_refused(start, message):
    with pytest.raises(RefusedInputError, match=message):
        name_of(start)


def test_dt_has_no_factor_for_a_state(make_model):
    mamba, mamba2 = (make_model(arch).config for arch in ("mamba", "mamba2"))
    with pytest.raises(ScaleError, match="belongs to a channel"):
        shape_of("dt", "state", mamba)
    assert shape_of("dt", "state", mamba, joint=True) == (3, 48)
    assert shape_of("a", "state", mamba) == (3, 48, 8)
    assert shape_of("dt", "state", mamba2) == (3, 6)
    with pytest.raises(RefusedInputError, match="granularity"):
        shape_of("a", "heads", mamba)
