"""Test whole models on a GPU, by plain torch and the official kernels: the bundled ones against the CPU in float64."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; read when the GPU is first used

from mambascope.spectra.loading import load
from mambascope.spectra.scales import scaling
from mambascope.spectra.scan import choose, kernels
from mambascope.spectra.zoo import text_files

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"torch {torch.__version__} sees no NVIDIA GPU"),
]

LENGTH = 4096
MODELS = {"mamba": "mamba-tiny", "mamba2": "mamba2-tiny"}
BOUND = {"blocked": 1e-5, "official": 1e-4}
"""Of the largest magnitude. Plain torch: as between CPU engines. Official: Mamba-1's fast 2^x errs by 2^-22 a token."""


@pytest.fixture(params=["blocked", "official"])
def engine(request, monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "off" if request.param == "blocked" else "auto")
    return request.param


@pytest.fixture(params=["mamba", "mamba2"])
def arch(request, engine):
    found = choose(request.param, torch.device("cuda"), torch.float32)
    if found.name != engine:
        pytest.skip(str(found))
    return request.param


def tokens(length=LENGTH):
    data = np.frombuffer(text_files("test")[0].read_bytes()[: length + 1], np.uint8).astype(np.int64)
    return torch.from_numpy(data)[None]


@torch.no_grad()
def run(model, ids, block_length=None, scales=None):
    """States after the text, (layers, ...) each, and nats of every token but the first."""
    losses, states = [], None
    for block in model.stream(ids[:, :-1], block_length=block_length, intervention=scales):
        targets = ids[0, block.start + 1 : block.stop + 1].to(model.device)
        wide = torch.promote_types(block.hidden.dtype, torch.float32)
        logits = block.hidden[0].to(wide) @ block.head.to(wide).T
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        states = [layer.ssm for layer in block.state.layers]
    return states, torch.cat(losses)


_TRUTH = {}


def truth(arch, scales=None, name=""):
    if (arch, name) not in _TRUTH:
        _TRUTH[arch, name] = run(load(MODELS[arch], device="cpu", dtype="float64"), tokens(), scales=scales)
    return _TRUTH[arch, name]


def errors(found, exact):
    """Largest error over the largest magnitude: of each layer's state, and of the losses."""
    pairs = [*zip(found[0], exact[0], strict=True), (found[1], exact[1])]
    return [float((a.double().cpu() - b.double().cpu()).abs().max() / b.abs().max()) for a, b in pairs]


def test_states_and_losses_equal_those_of_the_cpu_in_float64(arch, engine, record_property):
    found = errors(run(load(MODELS[arch], device="cuda"), tokens()), truth(arch))
    record_property("errors", found)
    assert max(found) < BOUND[engine]


def test_float64_on_the_gpu_keeps_its_digits(arch, record_property):
    found = errors(run(load(MODELS[arch], device="cuda", dtype="float64"), tokens()), truth(arch))
    record_property("errors", found)
    assert max(found) < 1e-10


@pytest.mark.parametrize("block_length", [1, 100, 2048])
def test_where_blocks_end_changes_nothing(arch, engine, block_length, record_property):
    """One token a block is decoding: the same states and losses as a prefill."""
    ids = tokens(300 if block_length == 1 else LENGTH)
    model = load(MODELS[arch], device="cuda")
    found = errors(run(model, ids, block_length), run(model, ids, LENGTH))
    record_property("errors", found)
    assert max(found) < BOUND[engine]


def test_generated_tokens_are_those_that_a_prefill_predicts(arch):
    model, prompt = load(MODELS[arch], device="cuda"), tokens(200)
    added = model.generate(prompt, 40)
    with torch.no_grad():
        (block,) = model.stream(torch.cat([prompt.to(model.device), added], dim=1))
    assert torch.equal(block.logits()[:, prompt.shape[1] - 1 : -1].argmax(-1), added)


@pytest.mark.parametrize("kind", ["a", "dt", "a_power"])
def test_scales_act_as_on_the_cpu(arch, engine, kind, record_property):
    scales = scaling(kind, 1.3).then(scaling(kind, 1.1, onset_tokens=777))
    found = errors(run(load(MODELS[arch], device="cuda"), tokens(), scales=scales), truth(arch, scales, kind))
    record_property("errors", found)
    assert max(found) < BOUND[engine]
    unscaled = errors(run(load(MODELS[arch], device="cuda"), tokens()), truth(arch, scales, kind))
    assert max(unscaled) > 100 * BOUND[engine]  # the scales do something


@pytest.mark.parametrize("kind", ["a", "dt"])
def test_gradient_of_a_loss_with_respect_to_scales(arch, kind, record_property):
    ids = tokens(400)

    def slope(model):
        s = torch.ones(model.config.n_layer, dtype=torch.float64, requires_grad=True)
        (block,) = model.stream(ids[:, :-1], intervention=scaling(kind, s))
        loss = F.cross_entropy(block.logits()[0], ids[0, 1:].to(model.device))
        return torch.autograd.grad(loss, s)[0]

    exact = slope(load(MODELS[arch], device="cpu", dtype="float64"))
    found = slope(load(MODELS[arch], device="cuda"))
    error = float((found.cpu() - exact).abs().max() / exact.abs().max())
    record_property("errors", [error])
    assert error < 1e-4


def test_bfloat16_weights_have_float32_states_and_losses(arch, engine, record_property):
    """Weights of 8 bits move the loss itself; states and losses stay float32, and the mean stays near."""
    states, losses = run(load(MODELS[arch], device="cuda", dtype="bfloat16"), tokens())
    assert losses.dtype == torch.float32
    assert all(state.dtype == torch.float32 for state in states)
    exact = truth(arch)[1]
    off = abs(float(losses.double().mean()) - float(exact.mean()))
    record_property("errors", [off])
    assert off < 0.01 * float(exact.mean())


def test_a_second_run_gives_the_same_bytes(arch):
    model = load(MODELS[arch], device="cuda")
    (states, losses), (again, losses_again) = run(model, tokens()), run(model, tokens())
    assert torch.equal(losses, losses_again)
    assert all(torch.equal(a, b) for a, b in zip(states, again, strict=True))
