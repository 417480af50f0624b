"""Test ``mambascope.spectra.products``: the digits of torch's own products, and whoever watches is asked."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from mambascope.spectra.compiled import recycled
from mambascope.spectra.products import added, linear, product
from mambascope.spectra.scan.choice import runs_compiled
from tests.spectra.tiny import tiny_model

LENGTHS = (1, 7, 512)


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@torch.no_grad()
def test_the_digits_are_those_of_torch(batch, length, dtype):
    x, layer = torch.randn(batch, length, 96).to(dtype), nn.Linear(96, 200, bias=False).to(dtype)
    assert same(linear(layer, x), layer(x))
    part = x[..., 16:64]  # rows that lie apart
    assert same(product(part, layer.weight[:, 16:64]), part @ layer.weight[:, 16:64].T)
    assert same(added(x, x), x + x)
    with_bias = nn.Linear(96, 200).to(dtype)
    assert same(linear(with_bias, x), with_bias(x))


@pytest.mark.skipif(not runs_compiled(torch.zeros(1)), reason="loops are not compiled here")
def test_results_that_no_gradient_needs_are_recycled():
    x, layer = torch.randn(1, 512, 64), nn.Linear(64, 64, bias=False).requires_grad_(False)
    for make in (lambda: linear(layer, x), lambda: product(x, layer.weight), lambda: added(x, x)):
        address = make().data_ptr()
        assert make().data_ptr() == address
        recycled._sort()
        assert address in {memory.ctypes.data for stack in recycled._spare.values() for memory in stack}


def test_gradients_go_through():
    x, layer = torch.randn(1, 512, 64, requires_grad=True), nn.Linear(64, 64, bias=False)
    (linear(layer, x) * added(x, x) + product(x, layer.weight)).sum().backward()
    found, wanted = (
        (x.grad, layer.weight.grad),
        torch.autograd.grad((layer(x) * (x + x) + x @ layer.weight.T).sum(), (x, layer.weight)),
    )
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-4) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    "kind", ["hook", "pre-hook", "hook of all", "another class", "another forward", "another weight"]
)
@torch.no_grad()
def test_a_layer_that_is_watched_or_replaced_is_called(kind):
    called = []

    class Other(nn.Linear):
        def forward(self, x):
            called.append(1)
            return super().forward(x)

    class Weight(nn.Parameter):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is nn.functional.linear:  # the one product that quantised weights tend to know
                called.append(1)
            return super().__torch_function__(function, types, args, kwargs or {})

    layer = (Other if kind == "another class" else nn.Linear)(64, 64, bias=False)
    handle = None
    if kind == "hook":
        layer.register_forward_hook(lambda *_: called.append(1))
    if kind == "pre-hook":
        layer.register_forward_pre_hook(lambda *_: called.append(1))
    if kind == "hook of all":
        handle = nn.modules.module.register_module_forward_hook(lambda *_: called.append(1))
    if kind == "another forward":
        plain, layer.forward = layer.forward, lambda x: called.append(1) or plain(x)
    x, wanted = torch.randn(1, 512, 64), layer.weight.detach().clone()
    if kind == "another weight":
        layer.weight = Weight(wanted)
    found = linear(layer, x)
    if handle is not None:
        handle.remove()
    assert same(found, x @ wanted.T)
    assert called == [1]
    assert same(product(x, layer.weight.detach()), x @ wanted.T)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@torch.no_grad()
def test_what_a_stream_gave_stays_as_it_was(arch):
    """Blocks, states and what observers saw are kept, and compared with copies made when they came."""
    model = tiny_model(arch, d_model=64, d_state=512)  # states and hidden of more than 64 KiB
    ids = torch.randint(0, model.config.vocab_size, (1, 8 * 512))
    kept = []

    class Keep:
        def boundaries(self):
            return ()

        def update(self, seen):
            tensors = (seen.dynamics.dt, seen.dynamics.gain, seen.B, seen.x, seen.state.ssm, seen.state.conv)
            kept.extend((each, each.clone()) for each in tensors)

    for block in model.stream(ids, observers=[Keep()]):
        kept.extend((each, each.clone()) for each in (block.hidden, block.state.layers[0].ssm))
    assert all(torch.equal(*pair) for pair in kept)
    assert len(kept) > 8 * (6 * model.config.n_layer)


@torch.no_grad()
def test_autocast_goes_through():
    x, layer = torch.randn(1, 512, 64), nn.Linear(64, 64, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(linear(layer, x), layer(x))
        assert same(product(x, layer.weight), x @ layer.weight.T)
        assert product(x, layer.weight).dtype == torch.bfloat16


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_zero_states_are_plain_where_derivatives_are_followed_forwards(arch, monkeypatch):
    """A transform such as torch.func.jvp makes tensors without memory of their own."""

    def recycled(_):
        raise AssertionError("memory was asked for")

    monkeypatch.setattr("mambascope.spectra.products.recycled", recycled)
    model = tiny_model(arch, d_state=512)
    with forward_ad.dual_level():
        assert not model.zero_state().layers[0].ssm.any()
    monkeypatch.setenv("MAMBASCOPE_KERNELS", "off")
    assert not model.zero_state().layers[0].ssm.any()
