"""What the machine can do: matrix products, exponentials, and our bare scan, in the process that runs the model."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from mambascope.spectra.compiled.jit import jit
from mambascope.spectra.compiled.lanes import exp2
from mambascope.spectra.scan import diagonal_scan, scalar_identity_scan
from tests.benchmarks.tasks import Task

SQUARE = 2048
CHUNK = 64  # of Mamba-2's chunked form: few operations a token and products large enough for a BLAS
LANES = 4096  # floats that stay in the first-level cache
EXP_PASSES = 20_000


def square_product():
    """One float32 product of two square matrices."""
    a, b = torch.randn(SQUARE, SQUARE), torch.randn(SQUARE, SQUARE)
    return Task(lambda: a @ b, 2.0 * SQUARE**3, "flop")


def linear_products(model, length, block):
    """The products of the model's linear layers alone, at the block length of its stream, on inputs that are there."""
    mixers = [layer.mixer for layer in model.layers()]
    weights = [m.weight for mixer in mixers for m in mixer.children() if isinstance(m, torch.nn.Linear)]
    weights.append(model.lm_head.weight)
    inputs = {w.shape[1]: torch.randn(1, block, w.shape[1]) for w in weights}

    def run():
        for start in range(0, length, block):
            for w in weights:
                F.linear(inputs[w.shape[1]][:, : length - start], w)

    return Task(torch.no_grad()(run), length)


def chunk_products(model, length, block):
    """The products of Mamba-2's chunked form as well: C B', kernel x, x' B and C h, B and C once a group."""
    cfg, Q = model.config, CHUNK
    n, width = block // Q, cfg.d_inner // cfg.ngroups
    B, C = torch.randn(2, n, cfg.ngroups, Q, cfg.d_state)
    kernel, x = torch.randn(n, cfg.nheads, Q, Q), torch.randn(n, cfg.nheads, Q, cfg.headdim)
    x_rows, h = torch.randn(n, cfg.ngroups, width, Q), torch.randn(n, cfg.ngroups, width, cfg.d_state)
    linear = linear_products(model, length, block)

    def run():
        linear.run()
        for _ in range(0, length, block):
            for _ in range(cfg.n_layer):
                C @ B.mT
                kernel @ x
                x_rows @ B
                C @ h.mT

    return Task(torch.no_grad()(run), length)


def torch_exp2():
    """exp2 of floats in the cache, by torch."""
    x, y = -torch.rand(LANES), torch.empty(LANES)

    def run():
        for _ in range(EXP_PASSES):
            torch.exp2(x, out=y)

    return Task(run, float(LANES * EXP_PASSES), "exponentials")


@jit
def _exp2(x, y, passes):
    for _ in range(passes):
        for i in range(x.shape[0]):
            y[i] = exp2(x[i])


def polynomial_exp2():
    """exp2 of floats in the cache, by the polynomial of our scans."""
    x, y = -np.random.default_rng(0).random(LANES, np.float32), np.empty(LANES, np.float32)
    _exp2(x, y, 1)
    assert np.abs(y / np.exp2(x) - 1).max() < 1e-6
    return Task(partial(_exp2, x, y, EXP_PASSES), float(LANES * EXP_PASSES), "exponentials")


def bare_scan(model, length, block):
    """Our scan alone on tensors that are there, block by block; counted in updates of a state's entry."""
    cfg = model.config
    last = torch.zeros_like(model.zero_state().layers[0].ssm)
    dt = F.softplus(torch.randn(1, block, cfg.dt_width) - 3)
    if cfg.arch == "mamba":
        x, (B, C) = torch.randn(1, block, cfg.d_inner), torch.randn(2, 1, block, cfg.d_state)
        scan, A = diagonal_scan, -torch.exp(model.layers()[0].mixer.A_log)
    else:
        x, (B, C) = torch.randn(1, block, cfg.nheads, cfg.headdim), torch.randn(2, 1, block, cfg.ngroups, cfg.d_state)
        scan, A = scalar_identity_scan, -torch.exp(model.layers()[0].mixer.A_log)

    def run():
        h = last
        for _ in range(0, length, block):
            _, h = scan(x, dt, dt, A, B, C, h)

    return Task(torch.no_grad()(run), float(length // block * block * cfg.d_inner * cfg.d_state), "updates")
