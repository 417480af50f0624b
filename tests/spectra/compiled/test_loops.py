"""Test ``mambascope.spectra.compiled``: every loop against torch in float64, values and gradients, and its lanes."""

import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mambascope.spectra.compiled import lanes
from mambascope.spectra.compiled.conv_silu import conv_silu
from mambascope.spectra.compiled.decay_losses import decay_losses
from mambascope.spectra.compiled.gate import gate
from mambascope.spectra.compiled.rms_norm import rms_norm
from mambascope.spectra.compiled.softplus import biased_softplus
from mambascope.spectra.compiled.threads import share

BATCH, LENGTH, WIDTH = 3, 150, 37


def draw(*shapes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=rng) for shape in shapes]


def in_torch_conv(x, before, taps, bias):
    padded = torch.cat([before, x], dim=1)
    y = sum(padded[:, k : k + x.shape[1]] * taps[k] for k in range(taps.shape[0]))
    return F.silu(y if bias is None else y + bias)


def in_torch_gate(y, x, z, D, weight=None, groups=1, eps=0.0):
    v = (y + D * x) * F.silu(z)
    if weight is None:
        return v
    parts = v.unflatten(-1, (groups, -1))
    return (parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + eps)).flatten(-2) * weight


ROWS = (BATCH, LENGTH, WIDTH)
CASES = {
    "conv, 4 taps": (conv_silu, in_torch_conv, [ROWS, (BATCH, 3, WIDTH), (4, WIDTH), (WIDTH,)], ()),
    "conv, 2 taps": (conv_silu, in_torch_conv, [ROWS, (BATCH, 1, WIDTH), (2, WIDTH), (WIDTH,)], ()),
    "conv, a token": (conv_silu, in_torch_conv, [(BATCH, 1, WIDTH), (BATCH, 3, WIDTH), (4, WIDTH), (WIDTH,)], ()),
    "conv, two tokens": (conv_silu, in_torch_conv, [(BATCH, 2, WIDTH), (BATCH, 3, WIDTH), (4, WIDTH), (WIDTH,)], ()),
    "gate": (gate, in_torch_gate, [ROWS, ROWS, ROWS, (WIDTH,)], ()),
    "gate and norm": (gate, in_torch_gate, [ROWS, ROWS, ROWS, (WIDTH,), (WIDTH,)], (1, 1e-5)),
    "gate and 2 norms": (gate, in_torch_gate, [(2, 70, 48)] * 3 + [(48,), (48,)], (2, 1e-3)),
    "softplus": (biased_softplus, lambda raw, bias: F.softplus(raw + bias), [ROWS, (WIDTH,)], ()),
    "norm": (rms_norm, lambda x, w, eps: F.rms_norm(x, (WIDTH,), w, eps), [ROWS, (WIDTH,)], (1e-5,)),
}


def error(found, truth):
    return float((found.detach().double() - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    compiled, in_torch, shapes, rest = CASES[case]
    inputs = draw(*shapes)
    narrow = [v.clone().requires_grad_() for v in inputs]
    exact = [v.double().requires_grad_() for v in inputs]
    found, truth = compiled(*narrow, *rest), in_torch(*exact, *rest)
    assert torch.equal(found, compiled(*inputs, *rest))  # with and without a graph
    assert error(found, truth.detach()) < 5e-7
    (weights,) = draw(truth.shape, seed=1)
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), narrow),
        torch.autograd.grad((truth * weights.double()).sum(), exact),
        strict=True,
    ):
        assert error(mine, theirs) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_frozen_weights_leave_the_other_gradients(case):
    compiled, _, shapes, rest = CASES[case]
    inputs = draw(*shapes)
    everything = [v.clone().requires_grad_() for v in inputs]
    first = [v.clone().requires_grad_(v.dim() == 3) for v in inputs]
    wanted = [v for v in first if v.requires_grad]
    all_of = torch.autograd.grad(compiled(*everything, *rest).sum(), everything)
    for mine, same in zip(torch.autograd.grad(compiled(*first, *rest).sum(), wanted), all_of, strict=False):
        assert torch.equal(mine, same)


def test_slices_of_a_projection_give_the_same():
    wide, before, taps, bias, D, weight = draw(
        (2, 90, 3 * WIDTH), (2, 3, WIDTH), (4, WIDTH), (WIDTH,), (WIDTH,), (WIDTH,)
    )
    a, b, c = torch.split(wide, WIDTH, dim=-1)
    assert torch.equal(conv_silu(b, before, taps, bias), conv_silu(b.contiguous(), before, taps, bias))
    sliced, whole = gate(a, b, c, D, weight, 1, 1e-5), gate(*(v.contiguous() for v in (a, b, c)), D, weight, 1, 1e-5)
    assert torch.equal(sliced, whole)


def test_a_convolution_may_have_no_bias():
    x, before, taps = draw((1, 5, 4), (1, 3, 4), (4, 4))
    assert torch.equal(conv_silu(x, before, taps, None), conv_silu(x, before, taps, torch.zeros(4)))


@pytest.mark.parametrize("case", CASES)
def test_threads_give_the_same_bits(case):
    compiled, _, shapes, rest = CASES[case]
    inputs = draw(*shapes)
    threads = torch.get_num_threads()

    def run(count):
        torch.set_num_threads(count)
        leaves = [v.clone().requires_grad_() for v in inputs]
        out = compiled(*leaves, *rest)
        return [out, *torch.autograd.grad(out.sum(), leaves)]

    try:
        for one, many in zip(run(1), run(3), strict=True):
            assert torch.equal(one, many)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_nan_is_not_swallowed(case):
    compiled, _, shapes, rest = CASES[case]
    for index in range(len(shapes)):
        inputs = draw(*shapes)
        inputs[index].view(-1)[0] = math.nan
        assert compiled(*inputs, *rest).isnan().any(), index


def over(function, values, dtype=np.float32):
    @numba.jit(nopython=True, error_model="numpy")
    def loop(values, out):
        for i in range(values.shape[0]):
            out[i] = function(values[i])

    out = np.empty(len(values), np.float32)
    loop(values.astype(dtype), out)
    return out.astype(np.float64)


LINE = np.linspace(-87, 87, 40001).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "values", "truth"),
    [
        (lanes.exp2, LINE[LINE <= 0], np.exp2),
        (lanes.one_less_exp, LINE[LINE < 0], lambda v: -np.expm1(v)),
        (lanes.one_less_exp, -np.geomspace(1e-30, 1, 5000, dtype=np.float32), lambda v: -np.expm1(v)),
        (lanes.sigmoid, LINE, lambda v: 1 / (1 + np.exp(-v))),
        (lanes.softplus, LINE, lambda v: np.logaddexp(0, v)),
    ],
    ids=["exp2", "1 - exp", "1 - exp near 0", "sigmoid", "softplus"],
)
def test_lanes_are_exact_to_rounding(function, values, truth):
    assert np.abs(over(function, values) / truth(values.astype(np.float64)) - 1).max() < 2e-7


def test_lanes_at_the_ends():
    ends = np.array([np.nan, -np.inf, -1000.0, 0.0])
    assert over(lanes.exp2, ends).tolist()[1:] == [0, 0, 1]
    assert over(lanes.one_less_exp, ends).tolist()[1:] == [1, 1, 0]
    assert over(lanes.sigmoid, np.append(ends, np.inf)).tolist()[1:] == [0, 0, 0.5, 1]
    assert over(lanes.softplus, np.append(ends, np.inf)).tolist()[2:] == [0, pytest.approx(math.log(2)), math.inf]
    assert all(np.isnan(over(f, ends)[0]) for f in (lanes.exp2, lanes.one_less_exp, lanes.sigmoid, lanes.softplus))


@pytest.mark.parametrize("shape", [(300, 16), (7, 3)])
def test_losses_of_modes_are_those_of_float64(shape):
    """Rates over seven decades; one thread and two give the same bits."""
    rng = torch.Generator().manual_seed(0)
    dt = 0.001 * 100 ** torch.rand(203, shape[0], generator=rng)
    A = -(10 ** (7 * torch.rand(shape, generator=rng) - 5))
    lost = -torch.expm1(dt.double()[..., None] * A.double())
    truth = lost.sum(0), (lost * (2 - lost)).sum(0)
    threads, found = torch.get_num_threads(), []
    try:
        for k in (1, 2):
            torch.set_num_threads(k)
            found.append(decay_losses(dt, A))
    finally:
        torch.set_num_threads(threads)
    for one, two, true in zip(*found, truth, strict=True):
        assert one.dtype == torch.float64
        assert one.shape == shape
        assert ((one - true) / true).abs().max() < 3e-7
        assert torch.equal(one, two)
    dt[5, 2] = math.nan
    assert decay_losses(dt, A)[0].isnan().sum(1).tolist() == [0, 0, shape[1]] + [0] * (shape[0] - 3)


def test_an_error_in_a_share_reaches_the_caller():
    def fails(first, last):
        if first:
            raise ZeroDivisionError

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            share(fails, 10)
    finally:
        torch.set_num_threads(threads)


def test_a_first_run_says_that_it_compiles_and_a_later_one_does_not(tmp_path):
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "import torch; from mambascope.spectra.compiled.rms_norm import rms_norm\n"
        "rms_norm(torch.ones(2, 3), torch.ones(3), 1e-5)"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stderr
        for _ in range(2)
    ]
    assert runs[0].count("compiling") == 1
    assert "compiling" not in runs[1]
