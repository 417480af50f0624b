"""When compiled loops stand back: forward-mode derivatives, and ``MAMBASCOPE_KERNELS=off``."""

import pytest
import torch
from torch.autograd import forward_ad

from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.scan import choice, kernels
from tests.spectra.tiny import tiny_model

ARCHS = ("mamba", "mamba2")
COMPILED = ("rms_norm", "gate", "conv_silu", "softplus")


class Factor:
    """Multiplies every step, and with it decay and write, by one number that derivatives are taken to."""

    def __init__(self, value):
        self.value = value

    def boundaries(self):
        return ()

    def __call__(self, layer, position, dynamics):
        return Dynamics(dynamics.dt * self.value, dynamics.A, dynamics.gain * self.value)


def ids():
    return torch.randint(0, 50, (2, 60), generator=torch.Generator().manual_seed(1))


def total(model, factor):
    return model(ids(), intervention=Factor(factor)).logits().square().mean()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch scripts its own formulas for them
@pytest.mark.parametrize("arch", ARCHS)
def test_forward_mode_gives_the_derivative_that_reverse_mode_gives(arch):
    model = tiny_model(arch)
    one = torch.ones((), requires_grad=True)
    (wanted,) = torch.autograd.grad(total(model, one), [one])
    assert wanted.abs() > 1e-6
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(total(model, forward_ad.make_dual(torch.ones(()), torch.ones(())))).tangent
    assert found is not None
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)
    _, through = torch.func.jvp(lambda x: total(model, x), (torch.ones(()),), (torch.ones(()),))
    assert float(through) == pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_switch_keeps_compiled_loops_out(monkeypatch, arch):
    model = tiny_model(arch)
    with torch.no_grad():
        fast = model(ids())
        monkeypatch.setenv(kernels.SWITCH, "off")
        assert str(choice.choose(arch, torch.device("cpu"), torch.float32)) == "blocked: MAMBASCOPE_KERNELS=off"

        def refuse(*_, **__):
            raise AssertionError("a compiled loop ran")

        monkeypatch.setattr("mambascope.spectra.compiled.threads.share", refuse)
        for name in COMPILED:
            monkeypatch.setattr(f"mambascope.spectra.compiled.{name}.share", refuse)
        for name in ("compiled_diagonal", "compiled_scalar_identity"):
            monkeypatch.setattr(f"mambascope.spectra.scan.{name}.share", refuse, raising=False)
        plain = model(ids())
        monkeypatch.delenv(kernels.SWITCH)
        with pytest.raises(AssertionError, match="a compiled loop ran"):  # what is kept out is what would run
            model(ids())
    assert torch.allclose(plain.logits(), fast.logits(), atol=1e-5)
    assert torch.allclose(plain.state.layers[-1].ssm, fast.state.layers[-1].ssm, atol=1e-5)
