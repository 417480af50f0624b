"""Test ``mambascope.spectra.scan.cuda`` against the code of mamba_ssm itself, without a GPU.

The Triton kernels of Mamba-2 run under Triton's interpreter, which takes float32 only and seconds a case. Mamba-1's
kernel is CUDA C++ and cannot; mamba_ssm's own reference function stands in for it. Run by ``make test-triton``.
"""

import contextlib
import importlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch

from mambascope.spectra.scan import blocked, cuda, kernels, reference

pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore")]

_spec = importlib.util.spec_from_file_location("test_scans", Path(__file__).with_name("test_scans.py"))
scans = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scans)


@pytest.fixture
def interpreter(monkeypatch):
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET=1 must be set before triton is imported: run `make test-triton`")
    kernel = kernels.find("chunk_scan")
    if kernel.function is None:
        pytest.skip(f"{kernel.module}: {kernel.why_not}")
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)


@pytest.fixture
def their_reference(monkeypatch):
    """Put mamba_ssm's reference function where the compiled kernel is looked for, in the layout that one has."""
    name = "mamba_ssm.ops.selective_scan_interface"
    monkeypatch.setitem(__import__("sys").modules, "selective_scan_cuda", type(kernels)("selective_scan_cuda"))
    try:
        with kernels._private_package("mamba_ssm"):
            selective_scan_ref = importlib.import_module(name).selective_scan_ref
    except ImportError as error:
        pytest.skip(f"{name}: {error}")

    def fwd(u, delta, A, B, C, D, z, bias, softplus):
        y, last = selective_scan_ref(u, delta, A, B, C, D, z, bias, softplus, return_last_state=True)
        ends = torch.stack([torch.full_like(last, torch.nan), last], dim=-1).flatten(-2)
        return y, ends[:, :, None]

    monkeypatch.setattr(cuda, "find", lambda name: kernels.Kernel(name, "", fwd, "", "", ""))


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("length", [16, 200])
def test_mamba_2_kernels_match_the_loop(interpreter, length, unequal):
    inputs = scans.scalar_inputs(length=length, nheads=4, headdim=16, d_state=32)
    if unequal:
        inputs[1][:, ::3] = 0  # tokens that leave the state as it is, and still write
    else:
        inputs[2] = inputs[1]
    y, h = cuda.scalar_identity_scan(*inputs)
    truth_y, truth_h = reference.scalar_identity_scan(*inputs)
    assert scans.error(y, truth_y) < 2e-6
    assert scans.error(h, truth_h) < 2e-6


def test_mamba_2_kernels_go_on_from_their_own_state(interpreter):
    inputs = scans.scalar_inputs(length=100, nheads=4, headdim=16, d_state=128, ngroups=1)
    whole_y, whole_h = cuda.scalar_identity_scan(*inputs)
    x, dt, gain, A, B, C, h = inputs
    ys = []
    for part in (slice(0, 40), slice(40, 100)):
        y, h = cuda.scalar_identity_scan(x[:, part], dt[:, part], gain[:, part], A, B[:, part], C[:, part], h)
        ys.append(y)
    assert scans.error(torch.cat(ys, dim=1), whole_y.double()) < 2e-6
    assert scans.error(h, whole_h.double()) < 2e-6


def test_steep_heads_show_what_a_float32_sum_costs(interpreter):
    """The limit that ``cuda`` documents: |A| dt near 100 beside 1e-7; plain torch sums in float64 and keeps the digits.

    A chunk's sum reaches 64 x 100 = 6400 in float32, whose spacing there is 2^-11: a step's log-decay is off by up to
    5e-4, and its decay by as much.
    """
    inputs = scans.scalar_inputs(length=128, nheads=2, headdim=16, d_state=16, ngroups=1, seed=3)
    inputs[3] = torch.tensor([-100.0, -1e-3])
    inputs[1] = torch.where(torch.arange(128)[None, :, None] % 2 == 0, 1.0, 1e-4).expand_as(inputs[1]).contiguous()
    truth = reference.scalar_identity_scan(*inputs)[0]
    assert scans.error(blocked.scalar_identity_scan(*inputs)[0], truth) < 2e-6
    assert 2e-6 < scans.error(cuda.scalar_identity_scan(*inputs)[0], truth) < 5e-4


@pytest.mark.parametrize("unequal", [False, True])
def test_mamba_1_path_matches_the_loop_through_their_reference(their_reference, unequal):
    inputs = scans.diagonal_inputs(length=60)
    if unequal:
        inputs[1][:, ::3] = 0
    else:
        inputs[2] = inputs[1]
    y, h = cuda.diagonal_scan(*inputs)
    truth_y, truth_h = reference.diagonal_scan(*inputs)
    assert scans.error(y, truth_y) < 2e-6
    assert scans.error(h, truth_h) < 2e-6
