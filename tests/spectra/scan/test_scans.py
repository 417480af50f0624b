"""Test ``mambascope.spectra.scan``: every engine against the float64 loop, values and gradients."""

import math

import numpy as np
import pytest
import torch

from mambascope.spectra.scan import (
    blocked,
    compiled_diagonal,
    compiled_scalar_identity,
    diagonal_scan,
    reference,
    scalar_identity_scan,
)


def diagonal_inputs(batch=2, length=100, d_inner=300, d_state=5, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng)

    dt = torch.rand(batch, length, d_inner, generator=rng) * 0.2
    gain = torch.rand(batch, length, d_inner, generator=rng)
    A = -torch.exp(torch.rand(d_inner, d_state, generator=rng) * 12 - 8)
    B, C = normal(batch, length, d_state), normal(batch, length, d_state)
    return [normal(batch, length, d_inner), dt, gain, A, B, C, normal(batch, d_inner, d_state)]


def scalar_inputs(batch=2, length=150, nheads=8, headdim=6, ngroups=2, d_state=10, seed=0, steep=6.0):
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng)

    dt = torch.rand(batch, length, nheads, generator=rng)
    gain = torch.rand(batch, length, nheads, generator=rng)
    A = -torch.exp(torch.rand(nheads, generator=rng) * steep - 4)
    B, C = normal(batch, length, ngroups, d_state), normal(batch, length, ngroups, d_state)
    return [normal(batch, length, nheads, headdim), dt, gain, A, B, C, normal(batch, nheads, headdim, d_state)]


def error(found, truth):
    return float((found.detach().double() - truth).abs().max() / truth.abs().max())


def gradients(scan, inputs, weights):
    inputs = [v.detach().clone().requires_grad_() for v in inputs]
    y, h = scan(*inputs)
    return torch.autograd.grad((y * weights[0]).sum() + (h * weights[1]).sum(), inputs)


def differentiable_loop(x, dt, gain, A, B, C, h):
    """The Mamba-1 recurrence in float64 without in-place writes, for autograd."""
    x, dt, gain, A, B, C, h = (v.double() for v in (x, dt, gain, A, B, C, h))
    ys = []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (gain[:, t] * x[:, t])[..., None] * B[:, t, None, :]
        ys.append((h * C[:, t, None, :]).sum(-1))
    return torch.stack(ys, dim=1), h


@pytest.mark.parametrize("engine", [blocked, compiled_diagonal])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])
def test_diagonal_engines_match_the_loop(engine, length):
    inputs = diagonal_inputs(length=length)
    y, h = engine.diagonal_scan(*inputs)
    truth_y, truth_h = reference.diagonal_scan(*inputs)
    assert error(y, truth_y) < 2e-6
    assert error(h, truth_h) < 2e-6


@pytest.mark.parametrize("engine", [blocked, compiled_scalar_identity])
@pytest.mark.parametrize("length", [1, 5, 8, 31, 32, 64, 65, 150])
def test_scalar_identity_engines_match_the_loop(engine, length):
    inputs = scalar_inputs(length=length)
    y, h = engine.scalar_identity_scan(*inputs)
    truth_y, truth_h = reference.scalar_identity_scan(*inputs)
    assert error(y, truth_y) < 2e-6
    assert error(h, truth_h) < 2e-6


def test_blocked_scalar_identity_in_float64_is_exact():
    inputs = [v.double() for v in scalar_inputs()]
    y, h = blocked.scalar_identity_scan(*inputs)
    truth_y, truth_h = reference.scalar_identity_scan(*inputs)
    assert error(y, truth_y) < 1e-13
    assert error(h, truth_h) < 1e-13


@pytest.mark.parametrize("engine", [blocked, compiled_scalar_identity])
@pytest.mark.parametrize(("headdim", "d_state"), [(64, 128), (16, 64), (33, 1), (1, 17)])
def test_scalar_identity_of_any_shape_matches_the_loop(engine, headdim, d_state):
    inputs = scalar_inputs(length=130, headdim=headdim, d_state=d_state, nheads=2, ngroups=1)
    y, h = engine.scalar_identity_scan(*inputs)
    truth_y, truth_h = reference.scalar_identity_scan(*inputs)
    assert error(y, truth_y) < 2e-6
    assert error(h, truth_h) < 2e-6


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_slices_of_a_projection_need_no_copy_and_give_the_same(arch):
    inputs = diagonal_inputs() if arch == "mamba" else scalar_inputs()
    scan = diagonal_scan if arch == "mamba" else scalar_identity_scan
    wide = torch.cat([inputs[i].flatten(2) for i in (0, 4, 5)], dim=-1)
    parts = torch.split(wide, [inputs[i][0, 0].numel() for i in (0, 4, 5)], dim=-1)
    sliced = list(inputs)
    for i, part in zip((0, 4, 5), parts, strict=True):
        sliced[i] = part.unflatten(-1, inputs[i].shape[2:]) if arch == "mamba2" else part
        assert not sliced[i].is_contiguous()
    for found, same in zip(scan(*sliced), scan(*inputs), strict=True):
        assert torch.equal(found, same)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_two_threads_give_the_same_bits(arch):
    inputs = diagonal_inputs(d_inner=600) if arch == "mamba" else scalar_inputs(batch=1)
    scan = diagonal_scan if arch == "mamba" else scalar_identity_scan
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = scan(*inputs)
        torch.set_num_threads(3)
        three = scan(*inputs)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_steep_heads_keep_their_digits_inside_a_chunk():
    """With |A| dt near 100 a token, the sums inside a chunk reach thousands; single-step decays must not suffer."""
    inputs = scalar_inputs(length=64, seed=3)
    inputs[3] = -torch.tensor([100.0, 1e-3] * 4)
    inputs[1] = torch.where(torch.arange(64)[None, :, None] % 2 == 0, 1.0, 1e-4).expand_as(inputs[1]).contiguous()
    truth = reference.scalar_identity_scan(*inputs)[0]
    assert error(blocked.scalar_identity_scan(*inputs)[0], truth) < 2e-6
    assert error(compiled_scalar_identity.scalar_identity_scan(*inputs)[0], truth) < 2e-6


@pytest.mark.parametrize("engine", [blocked, compiled_diagonal])
def test_diagonal_gradients_match_float64_autograd(engine):
    inputs = diagonal_inputs(length=70)
    weights = [torch.randn(2, 70, 300), torch.randn(2, 300, 5)]
    truth = gradients(differentiable_loop, [v.double() for v in inputs], [w.double() for w in weights])
    for found, exact in zip(gradients(engine.diagonal_scan, inputs, weights), truth, strict=True):
        assert error(found, exact) < 3e-6


@pytest.mark.parametrize("engine", [blocked, compiled_scalar_identity])
@pytest.mark.parametrize(("length", "headdim", "ngroups"), [(1, 6, 2), (64, 6, 2), (150, 20, 1), (201, 16, 4)])
def test_scalar_identity_gradients_match_float64_autograd(engine, length, headdim, ngroups):
    inputs = scalar_inputs(length=length, headdim=headdim, ngroups=ngroups)
    weights = [torch.randn(2, length, 8, headdim), torch.randn(2, 8, headdim, 10)]
    truth = gradients(blocked.scalar_identity_scan, [v.double() for v in inputs], [w.double() for w in weights])
    for found, exact in zip(gradients(engine.scalar_identity_scan, inputs, weights), truth, strict=True):
        assert error(found, exact) < 3e-6


def test_scalar_identity_gradients_match_finite_differences():
    inputs = [v.double().requires_grad_() for v in scalar_inputs(batch=1, length=37, nheads=2, headdim=2, d_state=3)]
    assert torch.autograd.gradcheck(blocked.scalar_identity_scan, inputs, fast_mode=True)


def test_compiled_exp_is_exact_to_rounding_and_zero_when_it_underflows():
    z = torch.linspace(-100, 0, 20001)
    one = torch.ones(1, 1, len(z))
    zero = torch.zeros(1, 1, 1)
    _, h = compiled_diagonal.diagonal_scan(
        one, -z.view(1, 1, -1), one, -torch.ones(len(z), 1), zero, zero, torch.ones(1, len(z), 1)
    )
    truth, found = np.exp(z.double().numpy()), h.double().view(-1).numpy()
    inside = z.numpy() > -87
    # the exponent itself is rounded to float32: |z| 2^-24 of relative error is unavoidable
    assert np.all(np.abs(found[inside] / truth[inside] - 1) < 3e-7 + 1.2e-7 * np.abs(z.numpy()[inside]))
    assert found[-1] == 1.0
    assert np.all(found[z.numpy() < -88.1] == 0)


@pytest.mark.parametrize("scan", [blocked.diagonal_scan, compiled_diagonal.diagonal_scan])
def test_nan_is_not_swallowed(scan):
    inputs = diagonal_inputs(length=4)
    inputs[0][0, 2, 7] = math.nan
    y, h = scan(*inputs)
    assert not torch.isfinite(h[0, 7]).any()
    assert torch.isfinite(h[1]).all()
    assert torch.isfinite(y[:, :2]).all()


@pytest.mark.parametrize("engine", [blocked, compiled_scalar_identity])
@pytest.mark.parametrize("which", [0, 1, 2, 4])
def test_nan_is_not_swallowed_by_heads(engine, which):
    inputs = scalar_inputs(length=20)
    inputs[which].flatten(2)[0, 12, 0] = math.nan
    y, h = engine.scalar_identity_scan(*inputs)
    assert not torch.isfinite(h[0, 0]).all()
    assert not torch.isfinite(y[0, 12:, 0]).all(-1).any()
    assert torch.isfinite(h[1]).all()
    assert torch.isfinite(y[1]).all()


def test_float64_keeps_its_digits():
    inputs = [v.double() for v in diagonal_inputs(length=20)]
    assert error(diagonal_scan(*inputs)[0], reference.diagonal_scan(*inputs)[0]) < 1e-13
