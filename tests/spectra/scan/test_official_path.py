"""Test ``mambascope.spectra.scan.cuda`` and the choice of engines without a GPU: loops stand in for the kernels.

The stand-ins take what the kernels take and give what they give; the kernels themselves are met in
``test_triton_interpreter.py`` and ``test_cuda_scans.py``.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mambascope.spectra import conv
from mambascope.spectra.errors import RefusedInputError, ScaleError
from mambascope.spectra.scan import blocked, choice, choose, cuda, kernels, reference

_spec = importlib.util.spec_from_file_location("test_scans", Path(__file__).with_name("test_scans.py"))
scans = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scans)


def selective_scan(u, delta, A, B, C, D, z, bias, softplus):
    """What selective_scan_cuda.fwd computes: a write of delta B u, from a state of zero, in float32."""
    assert D is z is bias is None
    assert not softplus
    batch, d_inner, length = u.shape
    h, ys = torch.zeros(batch, d_inner, A.shape[1]), []
    for t in range(length):
        h = torch.exp2(delta[:, :, t, None] * (A * 1.4426950408889634)) * h
        h = h + B[:, 0, None, :, t] * (delta[:, :, t] * u[:, :, t])[..., None]
        ys.append((h * C[:, 0, None, :, t]).sum(-1))
    ends = torch.stack([torch.full_like(h, torch.nan), h], dim=-1).flatten(-2)  # [product, state] by turns
    return torch.stack(ys, dim=2), ends[:, :, None]


def chunk_scan(x, dt, A, B, C, chunk_size, *, initial_states, return_final_states):
    """What mamba_chunk_scan_combined computes: a write of dt B x."""
    assert return_final_states
    assert chunk_size == cuda.CHUNK
    y, h = reference.scalar_identity_scan(x, dt, dt, A, B, C, initial_states)
    return y.float(), h.float()


@pytest.fixture
def stand_ins(monkeypatch):
    functions = {"selective_scan": selective_scan, "chunk_scan": chunk_scan}
    monkeypatch.setattr(cuda, "find", lambda name: kernels.Kernel(name, "", functions[name], "", "", ""))


def inputs_of(arch, case):
    inputs = scans.diagonal_inputs(length=50) if arch == "mamba" else scans.scalar_inputs(length=50)
    if case == "gain is dt":
        inputs[2] = inputs[1]
    if case == "dt of zero":  # a third of the tokens decay nothing and write all the same, another third does neither
        inputs[1][:, ::3] = 0
        inputs[1][:, 1::3] = 0
        inputs[2][:, 1::3] = 0
    if case == "gain of zero":
        inputs[2][:, ::2] = 0
    return inputs


@pytest.mark.parametrize("case", ["gain is dt", "unequal", "dt of zero", "gain of zero"])
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bridge_to_the_kernels_is_exact_to_rounding(stand_ins, arch, case):
    name = {"mamba": "diagonal_scan", "mamba2": "scalar_identity_scan"}[arch]
    inputs = inputs_of(arch, case)
    y, h = getattr(cuda, name)(*inputs)
    truth_y, truth_h = getattr(reference, name)(*inputs)
    assert scans.error(y, truth_y) < 2e-6
    assert scans.error(h, truth_h) < 2e-6


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bridge_refuses_a_negative_step_that_it_would_raise(stand_ins, arch):
    """On a CPU the scans would let the state grow; raised to 1e-20 in silence, the step would be another one."""
    name = {"mamba": "diagonal_scan", "mamba2": "scalar_identity_scan"}[arch]
    inputs = inputs_of(arch, "unequal")
    inputs[1][-1, -1, -1] = -1e-6
    with pytest.raises(ScaleError, match="dt is negative; states would grow by themselves"):
        getattr(cuda, name)(*inputs)
    inputs[1][-1, -1, -1] = 0
    getattr(cuda, name)(*inputs)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_kernels_get_float32_whatever_torchs_default_is(monkeypatch, arch):
    """They are written for one dtype each and take no mixture."""
    name = {"mamba": "diagonal_scan", "mamba2": "scalar_identity_scan"}[arch]
    stand_in, got = {"mamba": selective_scan, "mamba2": chunk_scan}[arch], []

    def kernel(*tensors, **named):
        got.extend(v.dtype for v in (*tensors, *named.values()) if isinstance(v, torch.Tensor))
        return stand_in(*tensors, **named)

    monkeypatch.setattr(cuda, "find", lambda name: kernels.Kernel(name, "", kernel, "", "", ""))
    inputs = inputs_of(arch, "unequal")
    torch.set_default_dtype(torch.float64)
    try:
        getattr(cuda, name)(*inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(got) >= 5
    assert set(got) == {torch.float32}


def test_made_up_tokens_hand_over_the_state_bit_by_bit(stand_ins):
    """After tokens that neither decay nor write, the state that leaves is the one that entered, digits and all."""
    x, dt, _, A, B, C, h = scans.diagonal_inputs(length=20, d_inner=7)
    nothing = torch.zeros_like(dt)
    steep = torch.full_like(A, -1e8)
    for state in (h, h * 1e15, h * 1e-30):
        _, last = cuda.diagonal_scan(x, nothing, nothing, steep, B, C, state)
        assert torch.equal(last, state)


@pytest.mark.parametrize("length", [17, 64, 100, 301])
def test_chunks_side_by_side_match_the_loop(length):
    """The plain torch engine of a GPU for Mamba-1, run on the CPU."""
    inputs = scans.diagonal_inputs(length=length, d_inner=30)
    truth = reference.diagonal_scan(*inputs)
    for found, exact in zip(blocked.side_by_side(*inputs), truth, strict=True):
        assert scans.error(found, exact) < 2e-6
    for found, exact in zip(blocked.side_by_side(*(v.double() for v in inputs)), truth, strict=True):
        assert scans.error(found, exact) < 1e-13


def test_chunks_side_by_side_have_the_gradients_of_the_loop():
    inputs = [v.double() for v in scans.diagonal_inputs(batch=1, length=37, d_inner=4)]
    weights = [torch.randn(1, 37, 4).double(), torch.randn(1, 4, 5).double()]
    truth = scans.gradients(scans.differentiable_loop, inputs, weights)
    for found, exact in zip(scans.gradients(blocked.side_by_side, inputs, weights), truth, strict=True):
        assert scans.error(found, exact) < 1e-12


def test_sums_by_product_are_running_sums():
    v = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    assert torch.equal(v @ torch.ones(3, 3, dtype=torch.float64).triu(), torch.tensor([[1.0, 3.0, 7.0]]).double())
    assert torch.equal(blocked._running_sum(v), torch.tensor([[1.0, 3.0, 7.0]]).double())


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as the choice looks; kernels there or not as the test says."""
    here = {"selective_scan", "chunk_scan"}
    capability = [(9, 0)]

    def find(name):
        module = kernels._MODULES[name]
        there = name in here
        return kernels.Kernel(
            name, module, chunk_scan if there else None, "2.3.2", "" if there else "no such module", "pip install it"
        )

    monkeypatch.setattr(choice, "find", find)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[0])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    choice._choose_on_gpu.cache_clear()
    yield here, capability
    choice._choose_on_gpu.cache_clear()


CUDA = torch.device("cuda:0")


def test_engines_on_the_cpu():
    cpu = torch.device("cpu")
    assert choose("mamba", cpu, torch.float32).name == "compiled"
    assert choose("mamba", cpu, torch.float64).name == "blocked"
    assert choose("mamba2", cpu, torch.float32).name == "compiled"


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_engines_on_a_gpu_say_why(gpu, arch, monkeypatch):
    here, capability = gpu
    assert choose(arch, CUDA, torch.float32).name == "official"
    for engine, reason in [
        (choose(arch, CUDA, torch.float64), "float32 states, not float64"),
        (choose(arch, CUDA, torch.float32, gradient=True), "gradients"),
    ]:
        assert engine.name == "blocked"
        assert reason in engine.why
    monkeypatch.setenv(kernels.SWITCH, "off")
    assert str(choose(arch, CUDA, torch.float32)) == "blocked: MAMBASCOPE_KERNELS=off"
    monkeypatch.setenv(kernels.SWITCH, "of")
    with pytest.raises(RefusedInputError, match="'of': expected auto"):
        choose(arch, CUDA, torch.float32)
    monkeypatch.delenv(kernels.SWITCH)
    here.clear()
    choice._choose_on_gpu.cache_clear()
    missing = choose(arch, CUDA, torch.float32)
    assert missing.name == "blocked"
    assert "no such module" in missing.why
    assert missing.install == "pip install it"
    capability[0] = (7, 0)
    choice._choose_on_gpu.cache_clear()
    assert "(7, 0) is below" in choose(arch, CUDA, torch.float32).why


def test_sizes_that_the_kernels_take():
    def like(*shape):
        return torch.empty(*shape, device="meta")

    assert not cuda.fits("mamba2", like(1, 15, 24, 64), like(1, 15, 1, 128))
    assert cuda.fits("mamba2", like(1, 16, 24, 64), like(1, 16, 1, 128))
    assert not cuda.fits("mamba", like(1, 100, 48), like(1, 100, 512))  # d_state above 256
    # 16 rows of 65,536 tokens and 1536 channels are 1.6e9 elements, 32 rows 3.2e9 > 2^31
    assert cuda.fits("mamba2", like(16, 65536, 24, 64), like(16, 65536, 1, 128))
    assert not cuda.fits("mamba2", like(32, 65536, 24, 64), like(32, 65536, 1, 128))


def test_a_missing_kernel_is_told_from_its_package(monkeypatch, tmp_path):
    """mamba_ssm without its compiled scan: the Mamba-2 kernels are there, the Mamba-1 kernel is not."""
    folder = tmp_path / "mamba_ssm" / "ops" / "triton"
    folder.mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("import a_module_that_nobody_has\n")
    (folder / "ssd_combined.py").write_text(
        "import os\nsetting = os.environ.get('MAMBA_DETERMINISTIC')\ndef mamba_chunk_scan_combined(): return setting\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("MAMBA_DETERMINISTIC", raising=False)
    mine = type(kernels)("mamba_ssm")
    monkeypatch.setitem(sys.modules, "mamba_ssm", mine)
    mine.__spec__ = importlib.util.spec_from_file_location("mamba_ssm", tmp_path / "mamba_ssm" / "__init__.py")
    assert mine.__spec__.submodule_search_locations
    kernels.find.cache_clear()
    try:
        chunk, selective = kernels.find("chunk_scan"), kernels.find("selective_scan")
    finally:
        kernels.find.cache_clear()
    assert chunk.function() == "1"
    assert chunk.why_not == ""
    assert selective.function is None
    assert "selective_scan_cuda" in selective.why_not
    assert "MAMBA_KEEP_CUDA_BUILD=TRUE" in selective.install
    assert sys.modules["mamba_ssm"] is mine
    assert not [name for name in sys.modules if name.startswith("mamba_ssm.")]
    assert "MAMBA_DETERMINISTIC" not in __import__("os").environ


def test_convolution_of_bfloat16_rounds_once():
    """Taps 1, 2^-8, 2^-8, 2^-8 on inputs 1: SiLU of 1.01171875. Rounding after every tap would stay at SiLU of 1."""
    layer = nn.Conv1d(1, 1, 4, groups=1, bias=False).requires_grad_(False)
    layer.weight[0, 0] = torch.tensor([2**-8, 2**-8, 2**-8, 1.0])
    layer = layer.to(torch.bfloat16)
    one = torch.ones(1, 4, 1, dtype=torch.bfloat16)
    y, state = conv.causal_conv_silu(one, one, layer)
    assert torch.equal(y.flatten(), nn.functional.silu(torch.full((4,), 1.01171875)).to(torch.bfloat16))
    assert not torch.equal(y.flatten(), nn.functional.silu(torch.ones(4)).to(torch.bfloat16))
    assert y.dtype == state.dtype == torch.bfloat16
    taps_first = nn.Conv1d(1, 1, 4, groups=1, bias=False).requires_grad_(False).to(torch.bfloat16)
    taps_first.weight[0, 0] = torch.tensor([1.0, 2**-8, 2**-8, 2**-8])
    assert torch.equal(conv.causal_conv_silu(one, one, taps_first)[0], y)


def test_convolution_by_kernel_gets_what_the_kernel_wants():
    layer = nn.Conv1d(8, 8, 4, groups=8).requires_grad_(False)
    wide = torch.randn(2, 9, 20)
    x, before = wide[..., 4:12], torch.randn(2, 4, 8)  # a slice whose rows start off the 16-byte grid

    def causal_conv1d_fn(x, weight, bias, *, initial_states, activation):
        assert activation == "silu"
        assert x.stride(1) == initial_states.stride(1) == 1
        assert x.stride(0) % 8 == x.stride(2) % 8 == 0
        assert x.data_ptr() % 16 == 0
        assert weight.shape == (8, 4)
        padded = torch.cat([initial_states, x], dim=2)
        return nn.functional.silu(nn.functional.conv1d(padded, weight[:, None], bias, groups=8))

    for here, state in ((x, before), (x[:1, 4:5], before[:1])):  # one token of one row counts as contiguous as it is
        y = conv.by_kernel(causal_conv1d_fn, here, state, layer)
        torch.testing.assert_close(y, conv.in_torch(here, state, layer), rtol=1e-6, atol=1e-6)
    assert conv._official_kernel(x, before, layer) is None  # not on a CPU


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = CUDA


def test_a_gpu_too_old_for_the_convolutions_kernel_runs_plain_torch(gpu, monkeypatch):
    _, capability = gpu
    monkeypatch.setattr(conv, "find", lambda name: kernels.Kernel(name, "", chunk_scan, "1.6", "", ""))
    layer = nn.Conv1d(8, 8, 4, groups=8).requires_grad_(False)
    x, before = torch.randn(1, 9, 8).as_subclass(OnGpu), torch.randn(1, 4, 8)
    for here, kernel in (((7, 0), None), ((7, 5), chunk_scan), ((9, 0), chunk_scan)):
        capability[0] = here
        conv._kernel_of.cache_clear()
        assert conv._official_kernel(x, before, layer) is kernel
    conv._kernel_of.cache_clear()
