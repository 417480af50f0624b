"""Test ``mambascope.spectra.scan`` and ``spectra.conv`` on a GPU: plain torch and the official kernels.

Bounds. Plain torch computes as on the CPU: 2e-6. The Mamba-2 kernel's products keep float32's digits (three TF32
products for one): 5e-6. The Mamba-1 kernel takes its decays from the GPU's fast 2^x, good to 2^-22; each token
multiplies one in, so a state that forgets nothing may be off by 2^-22 a token: 100 tokens, 2.4e-5.
"""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from torch import nn

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; read when the GPU is first used

from mambascope.spectra import conv
from mambascope.spectra.scan import choose, diagonal_scan, engine_of, kernels, reference, scalar_identity_scan

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"torch {torch.__version__} sees no NVIDIA GPU"),
]

_spec = importlib.util.spec_from_file_location("test_scans", Path(__file__).with_name("test_scans.py"))
scans = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scans)

BOUND = {("mamba", "blocked"): 2e-6, ("mamba2", "blocked"): 2e-6, ("mamba", "official"): 2.4e-5}
BOUND["mamba2", "official"] = 5e-6
SCAN = {"mamba": diagonal_scan, "mamba2": scalar_identity_scan}
LOOP = {"mamba": reference.diagonal_scan, "mamba2": reference.scalar_identity_scan}


@pytest.fixture(params=["blocked", "official"])
def engine(request, monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "off" if request.param == "blocked" else "auto")
    return request.param


def need(arch, engine):
    found = choose(arch, torch.device("cuda"), torch.float32)
    if found.name != engine:
        pytest.skip(str(found))


def inputs_of(arch, length, case, **changes):
    if arch == "mamba":
        inputs = scans.diagonal_inputs(**({"length": length, "d_inner": 96, "d_state": 16} | changes))
    else:
        inputs = scans.scalar_inputs(**({"length": length, "headdim": 32, "d_state": 64} | changes))
    if case == "equal":
        inputs[2] = inputs[1]
    if case == "zeros":  # a third of the tokens writes without decay, another third does neither
        inputs[1][:, ::3] = 0
        inputs[1][:, 1::3] = 0
        inputs[2][:, 1::3] = 0
    return inputs


def on_gpu(inputs):
    moved = [v.cuda() for v in inputs]
    if inputs[2] is inputs[1]:
        moved[2] = moved[1]
    return moved


@pytest.mark.parametrize("case", ["equal", "unequal", "zeros"])
@pytest.mark.parametrize("length", [1, 20, 100])
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_scan_matches_the_loop(arch, engine, length, case, record_property):
    need(arch, engine)
    inputs = inputs_of(arch, length, case)
    found, truth = SCAN[arch](*on_gpu(inputs)), LOOP[arch](*inputs)
    errors = [scans.error(v.cpu(), exact) for v, exact in zip(found, truth, strict=True)]
    record_property("errors", errors)
    assert max(errors) < BOUND[arch, engine]


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_long_scan_in_parts_equals_the_whole(arch, engine, record_property):
    """5,000 tokens, more than one chunk of any kernel: a cut at an odd place changes nothing but rounding."""
    need(arch, engine)
    x, dt, gain, A, B, C, h = on_gpu(inputs_of(arch, 5000, "unequal", batch=1))
    whole_y, whole_h = SCAN[arch](x, dt, gain, A, B, C, h)
    ys = []
    for part in (slice(0, 2048), slice(2048, 2049), slice(2049, 5000)):
        y, h = SCAN[arch](x[:, part], dt[:, part], gain[:, part], A, B[:, part], C[:, part], h)
        ys.append(y)
    errors = [scans.error(torch.cat(ys, dim=1), whole_y.double()), scans.error(h, whole_h.double())]
    record_property("errors", errors)
    assert max(errors) < 2e-5


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_same_bytes_twice(arch, engine):
    need(arch, engine)
    inputs = on_gpu(inputs_of(arch, 3000, "unequal"))
    once, again = SCAN[arch](*inputs), SCAN[arch](*inputs)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_float64_runs_in_plain_torch_and_keeps_its_digits(arch):
    inputs = [v.double() for v in inputs_of(arch, 100, "unequal")]
    found, truth = SCAN[arch](*on_gpu(inputs)), LOOP[arch](*inputs)
    assert max(scans.error(v.cpu(), exact) for v, exact in zip(found, truth, strict=True)) < 1e-13


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_gradients_match_those_of_the_cpu_in_float64(arch, engine):
    """Whatever is installed, gradients are plain torch's; the values that go with them are too."""
    inputs = inputs_of(arch, 70, "unequal")
    state, y = inputs[-1].shape, inputs[0].shape
    weights = [torch.randn(y), torch.randn(state)]
    moved = [v.cuda().requires_grad_() for v in inputs]
    assert engine_of(arch, moved[0], moved[4], moved).name == "blocked"
    truth = scans.gradients(SCAN[arch], [v.double() for v in inputs], [w.double() for w in weights])
    found = scans.gradients(SCAN[arch], moved, [w.cuda() for w in weights])
    for value, exact in zip(found, truth, strict=True):
        assert scans.error(value.cpu(), exact) < 5e-6


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_nan_is_not_swallowed(arch, engine):
    """It stays in its row, and in the chunk of a matrix form, at most 128 tokens, where it is."""
    need(arch, engine)
    inputs = on_gpu(inputs_of(arch, 200, "equal"))
    inputs[0][0, 150].fill_(torch.nan)
    y, h = SCAN[arch](*inputs)
    assert not torch.isfinite(h[0]).any()
    assert torch.isfinite(h[1]).all()
    assert torch.isfinite(y[1]).all()
    assert torch.isfinite(y[0, :128]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 3, 100, 3000])
def test_convolution_equals_that_of_the_cpu(engine, length, dtype):
    """On a slice of a wider projection, as in the mixers; bfloat16 sums in float32 and rounds once on both sides."""
    if engine == "official" and kernels.find("causal_conv").function is None:
        pytest.skip(kernels.find("causal_conv").why_not)
    layer = nn.Conv1d(24, 24, 4, groups=24).requires_grad_(False).to(dtype)
    x, before = torch.randn(2, length, 40).to(dtype)[..., 8:32], torch.randn(2, 4, 24).to(dtype)
    exact = conv.in_torch(x.double(), before.double(), layer.double())
    layer = layer.to(dtype).cuda()
    wide = torch.zeros(2, length, 40, dtype=dtype, device="cuda")
    wide[..., 8:32] = x.cuda()
    y, state = conv.causal_conv_silu(wide[..., 8:32], before.cuda(), layer)
    assert (conv._official_kernel(wide[..., 8:32], before.cuda(), layer) is not None) == (engine == "official")
    assert y.dtype == dtype
    assert scans.error(y.cpu(), exact) < (1e-6 if dtype == torch.float32 else 2**-8)
    assert torch.equal(state.cpu(), torch.cat([before, x], dim=1)[:, -4:])
