"""Test what mixers are made of in plain torch against its definition, and what a Mamba-2 configuration asks of them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mambascope.spectra.conv import in_torch
from mambascope.spectra.gating import gated
from mambascope.spectra.rmsnorm import RMSNorm
from mambascope.spectra.step_sizes import softplus
from tests.spectra.tiny import tiny_model


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normalised(x, weight, groups, eps):
    parts = x.unflatten(-1, (groups, -1))
    return (parts / torch.sqrt(parts.square().mean(-1, keepdim=True) + eps)).flatten(-2) * weight


def test_a_convolution_goes_on_from_its_state_with_the_oldest_tap_first():
    layer, state, x = nn.Conv1d(6, 6, 4, groups=6).double(), draw(2, 4, 6), draw(2, 9, 6, seed=1)
    expected = F.silu(layer(torch.cat([state[:, 1:], x], dim=1).transpose(1, 2))).transpose(1, 2)
    torch.testing.assert_close(in_torch(x, state, layer), expected)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_norm_is_taken_over_each_group_and_weighted(groups, dtype):
    norm, x = RMSNorm(12, 0.3, groups).to(dtype), draw(2, 5, 12).to(dtype)
    norm.weight.data = draw(12, seed=1).to(dtype)
    torch.testing.assert_close(norm(x), normalised(x, norm.weight, groups, 0.3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_and_gates_are_their_formulas(dtype):
    y, x, z, D = (v.to(dtype) for v in (draw(2, 5, 6), draw(2, 5, 6, seed=1), draw(2, 5, 6, seed=2), draw(6, seed=3)))
    torch.testing.assert_close(softplus(y, D), torch.log(1 + torch.exp(y + D)))
    torch.testing.assert_close(gated(y, x, z, D), (y + D * x) * z / (1 + torch.exp(-z)))


class Steps:
    """Keeps the first layer's step sizes, whose inputs depend on none of them."""

    def boundaries(self):
        return ()

    def update(self, seen):
        if seen.layer == 0:
            self.dt, self.gain = seen.dynamics.dt, seen.dynamics.gain


def steps_of(limits):
    steps = Steps()
    list(tiny_model("mamba2", dt_limit=limits).stream(torch.arange(50)[None], observers=[steps]))
    assert torch.equal(steps.gain, steps.dt)
    return steps.dt


@pytest.mark.parametrize("limits", [(0.02, 0.05), (0.0, 0.05), (0.02, math.inf)])
def test_steps_of_mamba_2_stay_within_the_limits_of_its_configuration(limits):
    free = steps_of((0.0, math.inf))
    assert free.min() < 0.02
    assert free.max() > 0.05
    assert torch.equal(steps_of(limits), free.clamp(*limits))


def test_the_gated_norm_of_mamba_2_has_the_groups_of_its_heads():
    model, seen = tiny_model("mamba2", torch.float64, ngroups=3), []
    norm = model.layers()[1].mixer.norm
    norm.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    model(torch.arange(20)[None])
    ((x, out),) = seen
    torch.testing.assert_close(out, normalised(x, norm.weight, 3, model.config.norm_eps))
    assert float((normalised(x, norm.weight, 1, model.config.norm_eps) - out).abs().max()) > 1e-2  # negative control
