"""Heads that hardly forget: what rounding takes from a state at every step is kept, or a million steps would show."""

import torch

from mambascope.spectra.scan import compiled_scalar_identity

LENGTH, TAU = 2**16, 3e5


def test_the_last_state_of_a_slow_head_is_that_of_float64():
    rng = torch.Generator().manual_seed(0)
    shape = (1, LENGTH, 1, 16)
    mean = 0.3 * torch.randn(1, 1, 1, 16, generator=rng)
    x, dt = mean + 0.4 * torch.randn(shape, generator=rng), torch.randn(1, LENGTH, 1, generator=rng).mul(0.8).exp()
    B, C = (0.5 + torch.randn(1, LENGTH, 1, 8, generator=rng) for _ in range(2))
    A, start = torch.tensor([-1 / TAU]), torch.zeros(1, 1, 16, 8)
    y, last = compiled_scalar_identity.scalar_identity_scan(x, dt, dt, A, B, C, start)

    exponent = (dt.double() * A.double()).cumsum(1)
    weight = (exponent[:, -1:] - exponent).exp() * dt.double()
    true = torch.einsum("blh,blhp,bln->bhpn", weight, x.double(), B[:, :, 0].double())
    # plain float32 additions, 8,192 of them, are off by 1.5e-6 here
    assert float((last - true).abs().max() / true.abs().max()) < 2e-7
    from_state = torch.einsum("n,hpn->hp", C[0, -1, 0].double(), true[0])
    assert float((y[0, -1] - from_state).abs().max() / from_state.abs().max()) < 1e-6
