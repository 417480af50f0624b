"""Test ``mambascope.analysis.rules``, ``mode_rules`` and ``shared_rules`` on modes whose inputs are known."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.evidence import Evidence, LayerEvidence
from mambascope.analysis.folds import plan_folds
from mambascope.analysis.memory import factors_on_modes
from mambascope.analysis.norm_forms import scale_rule
from mambascope.analysis.rules import RULES, find_rule
from mambascope.analysis.shared_rules import scaled_divergence
from mambascope.analysis.write_statistics import WriteMoments
from mambascope.simulate import energy_gain, mean_gain
from mambascope.simulate.growth import divergence
from mambascope.simulate.roots import solve_factor
from mambascope.spectra.errors import RefusedInputError, ScaleError

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, L = 256, 16384
SHAPES = {"mamba2": (6,), "mamba": (6, 4)}


def layer_of(tau, *, kappa=0.02, energy=1.0, dt=0.01):
    """A layer whose writes have a mean and white noise, of known coherence."""
    tau = np.asarray(tau, dtype=np.float64)
    r, q = 1 / tau, energy * np.ones_like(tau) / (1 + kappa)
    c = kappa * q
    steps = np.full(tau.shape[0], dt)
    squares = np.stack([c * mean_gain(r, n) ** 2 + q * energy_gain(r, n) for n in (T // 4, T // 2, T)])
    writes = WriteMoments(T, 1, steps, r, c + q, c, c * mean_gain(r, T) ** 2, squares)
    return LayerEvidence(r / dt, tau, steps, steps**2, -np.expm1(-r), -np.expm1(-2 * r), writes)


def evidence(arch="mamba2", shortest=2.0, longest=1e6, n_layer=2, **known):
    shape = SHAPES[arch]
    taus = np.geomspace(shortest, longest, int(np.prod(shape))).reshape(shape)
    return Evidence(arch, T, L, tuple(layer_of(taus * (1 + k), **known) for k in range(n_layer)))


def size(layer, factor, gain, n):
    c, q = layer.parts()
    r = factor / layer.horizon_tokens
    return gain**2 * (c * mean_gain(r, n) ** 2 + q * energy_gain(r, n))


def wide(gain, layer):
    return gain if layer.rate.ndim == 1 else gain[:, None]


def on_layers(name, found):
    """Evidence, factor on the rate and gain of every layer under a rule."""
    scales = find_rule(name)(found)
    last = max((f.onset_tokens for f in scales.factors), default=0)
    return list(zip(found.layers, *zip(*factors_on_modes(found, scales, last), strict=True), strict=True))


@pytest.mark.parametrize("arch", ["mamba2", "mamba"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_scales_that_fit_and_bake_as_it_says(arch, name):
    heads = {"d_inner": 48, "headdim": 8, "ngroups": 1} if arch == "mamba2" else {"d_inner": 6, "d_state": 4}
    config = tiny.tiny_config(arch, n_layer=2, **heads)
    scales = RULES[name](evidence(arch)).check(config)
    assert scales.is_identity == (name == "none")
    for layer, factor, gain in on_layers(name, evidence(arch)):
        assert np.isfinite(factor).all()
        assert (factor > 0).all()
        assert gain.shape == layer.mean_dt.shape
    reason = RULES[name].why_not_baked(config)
    if reason:
        with pytest.raises(ScaleError):
            plan_folds(scales, config)
    else:
        plan_folds(scales, config)
    plain = replace(config, rmsnorm=False)
    assert bool(RULES[name].why_not_baked(plain)) == (name == "onset")


@pytest.mark.parametrize("arch", ["mamba2", "mamba"])
@pytest.mark.parametrize("name", RULES)
def test_a_model_without_long_horizons_is_changed_by_no_rule_that_knows_T(arch, name):
    found = evidence(arch, shortest=0.5, longest=T / 40)
    changed = max(
        np.abs(np.log(factor)).max() + np.abs(np.log(gain)).max() for _, factor, gain in on_layers(name, found)
    )
    if name in {"rescaled-time", "winsorize", "winsorize-static"}:  # negative control: these know nothing of horizons
        assert changed > 0.01
    else:
        assert changed < 1e-4


@pytest.mark.parametrize("arch", ["mamba2", "mamba"])
def test_clips_by_hand(arch):
    found = evidence(arch)
    for layer, factor, _ in on_layers("soft-clip", found):
        np.testing.assert_allclose(factor, 1 / (1 - np.exp(-T / layer.horizon_tokens)), rtol=1e-9)
        assert (layer.horizon_tokens / factor).max() < T
    for layer, factor, _ in on_layers("soft-clip-noise", found):
        np.testing.assert_allclose(factor, 1 / (1 - np.exp(-2 * T / layer.horizon_tokens)), rtol=1e-9)
    for layer, factor, _ in on_layers("hard-clip:4", found):
        np.testing.assert_allclose(layer.horizon_tokens / factor, np.minimum(layer.horizon_tokens, 4 * T))


@pytest.mark.parametrize("kappa", [0.0, 0.02, 5.0])
def test_the_solved_rule_keeps_every_norm_and_lies_between_noise_and_constant(kappa):
    found = evidence("mamba", kappa=kappa)
    clips = [dict(enumerate(on_layers(name, found))) for name in ("soft-clip-noise", "soft-clip")]
    for k, (layer, factor, _) in enumerate(on_layers("solved", found)):
        np.testing.assert_allclose(size(layer, factor, 1.0, L), size(layer, 1.0, 1.0, T), rtol=1e-8)
        np.testing.assert_allclose(factor, scale_rule(layer.writes, L), rtol=1e-6)
        slow = (layer.horizon_tokens > T) & (layer.horizon_tokens < L)
        assert (factor[slow] >= clips[0][k][1][slow] * 0.9).all()
        assert (factor[slow] <= clips[1][k][1][slow] * 1.02).all()


def test_the_joint_rule_keeps_mean_and_variance():
    for layer, factor, gain in on_layers("joint", evidence("mamba2")):
        r = 1 / layer.horizon_tokens
        np.testing.assert_allclose(gain * mean_gain(factor * r, L), mean_gain(r, T), rtol=1e-8)
        np.testing.assert_allclose(gain**2 * energy_gain(factor * r, L), energy_gain(r, T), rtol=1e-8)
    one_clip = on_layers("soft-clip", evidence("mamba2"))  # negative control: one factor cannot keep both
    layer, factor, _ = one_clip[0]
    assert (
        np.abs(energy_gain(factor / layer.horizon_tokens, L) / energy_gain(1 / layer.horizon_tokens, T) - 1).max() > 0.3
    )


@pytest.mark.parametrize(("arch", "name"), [("mamba", "joint"), ("mamba", "joint-layer"), ("mamba2", "joint-layer")])
def test_a_shared_gain_still_keeps_second_moments_of_slow_modes(arch, name):
    found = evidence(arch, shortest=T)
    for layer, factor, gain in on_layers(name, found):
        np.testing.assert_allclose(size(layer, factor, wide(gain, layer), L), size(layer, 1.0, 1.0, T), rtol=1e-8)
        assert (gain > 1).all()


def test_the_onset_holds_states_where_they_are():
    found = evidence("mamba2", kappa=0.0)
    scales = RULES["onset"](found)
    assert scales.boundaries() == (T,)
    for layer, factor, _ in on_layers("onset", found):
        v = energy_gain(1 / layer.horizon_tokens, T)
        decay = np.exp(-2 * factor / layer.horizon_tokens)
        np.testing.assert_allclose(decay * v + 1, v, rtol=1e-8)


def test_the_divergence_is_the_one_of_theory_and_its_minimum_is_found():
    layer = evidence("mamba2").layers[0]
    c, q = layer.parts()
    known = divergence(1 / layer.horizon_tokens, T, L, variance=q, mean=np.sqrt(c))
    np.testing.assert_allclose(scaled_divergence(layer, 1.0, 1.0, T, L), known, rtol=1e-6, atol=1e-12)
    one = Evidence("mamba2", T, L, (layer,))
    grids = {"layer-a": np.geomspace(0.2, 1e4, 4001), "layer-dt": np.geomspace(1e-4, 5, 4001)}
    for name, grid in grids.items():
        costs = [scaled_divergence(layer, s, s if name == "layer-dt" else 1.0, T, L).mean() for s in grid]
        found = RULES[name](one).factors[0].values[0].item()
        assert found == pytest.approx(grid[int(np.argmin(costs))], rel=5e-3)
    powers = np.linspace(0, 8, 4001)
    costs = [scaled_divergence(layer, layer.rate ** (s - 1), 1.0, T, L).mean() for s in powers]
    assert RULES["layer-a-power"](one).factors[0].values[0].item() == pytest.approx(
        powers[int(np.argmin(costs))], abs=5e-3
    )


def test_matching_the_total_norm_is_unsafe():
    """One slow head of small writes among fast ones of large writes: the total does not see it, the divergence does."""
    heads = [layer_of([10.0] * 5, energy=1e6), layer_of([1e5], energy=1e-2)]
    joined = {
        name: np.concatenate([getattr(h, name) for h in heads]) for name in LayerEvidence.__slots__ if name != "writes"
    }
    arrays = {
        name: np.concatenate([getattr(h.writes, name) for h in heads], axis=-1)
        for name in ("mean_dt", "rate", "write_energy", "mean_write_squared", "coherent", "squares")
    }
    layer = LayerEvidence(**joined, writes=WriteMoments(T, 1, **arrays))
    total = size(layer, 1.0, 1.0, T).sum()
    matched = solve_factor(lambda s: size(layer, s, 1.0, L).sum(keepdims=True), [total], [1.0], [1e3]).factor[0]
    assert matched < 1.001
    assert np.sqrt(size(layer, matched, 1.0, L)[-1] / size(layer, 1.0, 1.0, T)[-1]) > 10
    one = Evidence("mamba2", T, L, (layer,))
    shared = RULES["layer-a"](one).factors[0].values[0].item()
    assert shared > 2
    own = RULES["soft-clip"](one).factors[0].values[0].numpy()
    assert np.sqrt(size(layer, own, 1.0, L)[-1] / size(layer, 1.0, 1.0, T)[-1]) < 1.01
    assert own[0] == pytest.approx(1)


def test_smaller_steps_lengthen_memory():
    for layer, factor, _ in on_layers("rescaled-time", evidence("mamba2")):
        np.testing.assert_allclose(factor, T / L)
        assert layer.rate.shape == factor.shape
    found = evidence("mamba2", shortest=1e3, kappa=1e6)  # a constant drives all of them: time is rescaled
    for _, factor, gain in on_layers("head-dt", found):
        np.testing.assert_allclose(factor, T / L, rtol=0.02)
        np.testing.assert_allclose(gain, factor)


def test_winsorization_knows_ranks_and_the_static_one_the_wrong_ranks():
    tau = np.geomspace(10, 1e5, 100)
    layer = layer_of(tau)
    ((_, factor, _),) = on_layers("winsorize", Evidence("mamba2", T, L, (layer,)))
    assert ((factor != 1).nonzero()[0] == [*range(5), *range(95, 100)]).all()
    assert (factor[95:] > 1).all()
    assert (factor[:5] < 1).all()
    slow_by_steps = replace(layer, rate=layer.rate[::-1].copy())  # small |A| where steps are large: horizons unchanged
    ((_, static, _),) = on_layers("winsorize-static", Evidence("mamba2", T, L, (slow_by_steps,)))
    assert static[-1] < 1  # it makes the slowest mode slower still
    with pytest.raises(RefusedInputError, match="above 0 and below 50"):
        find_rule("winsorize:50")


def test_names_and_numbers():
    assert find_rule("hard-clip:2.5").name == "hard-clip:2.5"
    assert find_rule("solved") is RULES["solved"]
    for name in ("soft", "solved:3", "hard-clip:", "hard-clip:x", "hard-clip:0", "hard-clip:-1", "hard-clip:nan", ""):
        with pytest.raises(RefusedInputError):
            find_rule(name)
    assert {row["bakes"] for row in (rule.to_dict() for rule in RULES.values())} == {"yes", "Mamba-1", "no"}


def test_rules_that_rest_on_writes_say_so():
    bare = Evidence("mamba2", T, L, tuple(replace(layer, writes=None) for layer in evidence().layers))
    for rule in RULES.values():
        if rule.needs_writes and rule.name != "joint":  # of Mamba-1 only
            with pytest.raises(ValueError, match="measured writes"):
                rule(bare)
        elif not rule.needs_writes:
            rule(bare)
