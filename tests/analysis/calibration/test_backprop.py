"""Test ``mambascope.analysis.calibration.backprop``: the gradient against central differences, and its memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from mambascope.analysis.calibration import backprop
from mambascope.analysis.calibration.backprop import loss_and_gradient
from mambascope.analysis.calibration.starts import start_at
from mambascope.analysis.evaluate.perplexity import token_bits
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.scales import scaling

LENGTH, FIRST, BLOCK = 170, 84, 19  # 9 blocks, of which the scored tail touches the last 5
CASES = [
    (arch, kind, granularity)
    for arch in ("mamba", "mamba2")
    for kind in ("a", "a_power", "dt", "joint")
    for granularity in ("model", "layer", "head", "state")
    if (arch, kind, granularity) != ("mamba", "dt", "state")  # a step size belongs to a channel
]


def windows(count=2, length=LENGTH):
    return np.random.default_rng(0).integers(0, 50, (count, length))


def directions(gradient, seed=1, count=3):
    """Directions in which the loss changes: no entry of the gradient counts for nothing, no error hides in a sum."""
    rng = np.random.default_rng(seed)
    return [np.sign(gradient) * rng.uniform(0.1, 2, gradient.shape) for _ in range(count)]


def central(loss, u, d, h=3e-4):
    """Central difference of the fourth order."""
    return (8 * (loss(u + h * d) - loss(u - h * d)) - (loss(u + 2 * h * d) - loss(u - 2 * h * d))) / (12 * h)


def worst_error(model, parameters, u, gradient, along):
    def loss(v):
        return token_bits(model, windows(), parameters.scales(v))[:, FIRST:].mean()

    return max(abs(central(loss, u, d) / (gradient @ d) - 1) for d in along)


def found(model, parameters, u, **changes):
    options = {"first": FIRST, "block_length": BLOCK} | changes
    return loss_and_gradient(model, windows(), parameters.values(u), parameters.scales_of, **options)


@pytest.mark.parametrize(("arch", "kind", "granularity"), CASES)
def test_the_gradient_of_every_kind_over_nine_blocks(make_model, make_plan_with, arch, kind, granularity):
    model = make_model(arch, torch.float64)
    plan = make_plan_with(kind=kind, granularity=granularity, seed=1)
    begun = start_at("log-random:0.3,3", model, (), plan)
    parameters, u = begun.parameters, begun.u
    result = found(model, parameters, u)
    gradient = parameters.pull(result.values)
    assert result.bits == pytest.approx(token_bits(model, windows(), parameters.scales(u))[:, FIRST:].mean(), rel=1e-14)
    along = list(np.eye(len(u))) if granularity in {"model", "layer"} else directions(gradient)
    assert worst_error(model, parameters, u, gradient, along) <= 1e-6


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_check_sees_a_gradient_that_stops_between_blocks(make_model, make_plan_with, monkeypatch, arch):
    """Negative control: the same check on a gradient that does not flow through carried states."""
    model = make_model(arch, torch.float64)
    begun = start_at("log-random:0.3,3", model, (), make_plan_with(granularity="layer", seed=1))
    whole = backprop._backward

    def forgetful(*args):
        bits, carry = whole(*args)
        return bits, [None] * len(carry)

    monkeypatch.setattr(backprop, "_backward", forgetful)
    gradient = begun.parameters.pull(found(model, begun.parameters, begun.u).values)
    assert worst_error(model, begun.parameters, begun.u, gradient, np.eye(3)) > 0.01


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_blocks_and_kept_states_change_nothing(make_model, make_plan_with, monkeypatch, arch):
    model = make_model(arch, torch.float64)
    begun = start_at("ones", model, (), make_plan_with(kind="joint"))
    whole = found(model, begun.parameters, begun.u, block_length=LENGTH)
    for block_length, kept in ((19, 32), (7, 3), (1, 32)):
        monkeypatch.setattr(backprop, "STATES_KEPT", kept)
        cut = found(model, begun.parameters, begun.u, block_length=block_length)
        assert cut.bits == pytest.approx(whole.bits, rel=1e-13)
        for mine, theirs in zip(cut.values, whole.values, strict=True):
            assert float((mine - theirs).abs().max()) <= 1e-12 * float(theirs.abs().max())


def test_scales_that_begin_late_are_in_front_and_cut_the_blocks(make_model, make_plan_with):
    model = make_model("mamba2", torch.float64)
    late = scaling("a", 3.0, onset_tokens=50).then(scaling("dt", 0.7))
    begun = start_at(late, model, (), make_plan_with(granularity="layer"))
    assert begun.parameters.prefix.factors == late.factors  # of kind a, but not from the first token on
    gradient = begun.parameters.pull(found(model, begun.parameters, begun.u).values)
    assert worst_error(model, begun.parameters, begun.u, gradient, np.eye(3)) <= 1e-6


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_single_precision_comes_near(make_model, make_plan_with, arch):
    """Mamba-1 runs in the compiled kernel here."""
    plan = make_plan_with(kind="joint")
    precise, single = (make_model(arch, dtype) for dtype in (torch.float64, torch.float32))
    begun = start_at("ones", precise, (), plan)
    exact, near = (found(model, begun.parameters, begun.u) for model in (precise, single))
    assert near.bits == pytest.approx(exact.bits, rel=1e-5)
    for mine, theirs in zip(near.values, exact.values, strict=True):
        assert mine.dtype == torch.float64
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-3


def test_the_weights_get_no_gradient_and_bad_factors_are_refused(make_model):
    model = make_model("mamba2").requires_grad_(True)
    result = loss_and_gradient(model, windows(), [torch.ones(3).double()], lambda v: scaling("a", v[0]))
    assert float(result.values[0].abs().max()) > 0
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ScaleError, match="must be positive"):
        loss_and_gradient(model, windows(), [torch.zeros(3).double()], lambda v: scaling("a", v[0]))


SCRIPT = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from mambascope.analysis.calibration.backprop import loss_and_gradient
from mambascope.spectra import load
from mambascope.spectra.scales import scaling

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))  # kB

model, ids = load(sys.argv[1]), np.arange(16384)[None] * 7 % 250
factors = [torch.full((4,), 2.0, dtype=torch.float64)]

def step(length):
    loss_and_gradient(model, ids[:, :length], factors, lambda v: scaling("a", v[0]), first=length // 2 - 1)
    return status("VmHWM")

step(100)  # compiled code is loaded, and hardly any heap taken
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew here
before = status("VmRSS")
print(json.dumps([(step(length) - before) / 1024 for length in (2048, 16384)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("model", ["mamba-tiny", "mamba2-tiny"])
def test_a_step_over_a_longer_text_takes_little_more_memory(model):
    done = subprocess.run([sys.executable, "-c", SCRIPT, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, long = json.loads(done.stdout)
    print(f"{model}: {short:.1f} MB at 2,048 tokens, {long:.1f} MB at 16,384")
    assert long <= 2 * short
