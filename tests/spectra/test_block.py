"""Test ``mambascope.spectra.block``: what an intervention may not do, on a CPU and on a GPU alike."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mambascope.spectra.block import _apply
from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.errors import ScaleError

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

GROWS = "layer 1: the intervention made a step dt negative or a rate A positive"


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda:0")


class Rule:
    """Changes layer 1 from token 3 on."""

    def __init__(self, change):
        self.change = change

    def boundaries(self):
        return (3,)

    def __call__(self, layer, position, dynamics):
        return self.change(dynamics) if layer == 1 and position >= 3 else dynamics


def one_step_negative(dynamics):
    dt = dynamics.dt.clone()
    dt[-1, -1, -1] = -1e-6
    return replace(dynamics, dt=dt)


def one_rate_positive(dynamics):
    A = dynamics.A.clone()
    A.view(-1)[-1] = 1e-6
    return replace(dynamics, A=A)


def all_at_the_edge(dynamics):
    return replace(dynamics, dt=torch.zeros_like(dynamics.dt), A=-torch.zeros_like(dynamics.A), gain=-dynamics.gain)


@pytest.mark.parametrize("device", [torch.Tensor, OnGpu])
@pytest.mark.parametrize("change", [one_step_negative, one_rate_positive])
def test_a_state_that_grows_by_itself_is_refused_on_every_device(device, change):
    dynamics = Dynamics(*(v.as_subclass(device) for v in (torch.rand(2, 5, 4), -torch.rand(4), torch.rand(2, 5, 4))))
    assert dynamics.dt.device.type == ("cpu" if device is torch.Tensor else "cuda")
    with pytest.raises(ScaleError, match=GROWS):
        _apply(Rule(change), 1, 3, dynamics)
    assert _apply(Rule(change), 0, 3, dynamics) is dynamics
    assert _apply(Rule(all_at_the_edge), 1, 3, dynamics).gain.max() < 0  # writes may have any sign


@pytest.mark.parametrize("change", [one_step_negative, one_rate_positive])
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_stream_ends_at_the_block_where_a_rule_goes_wrong(arch, change):
    stream = tiny.tiny_model(arch).stream(torch.zeros(1, 5, dtype=torch.long), intervention=Rule(change))
    assert next(stream).stop == 3
    with pytest.raises(ScaleError, match=GROWS):
        next(stream)
