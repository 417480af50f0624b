"""Test ``mambascope.analysis.replayed_step``: on a GPU a replay gives the work's own results and gradients."""

import numpy as np
import pytest
import torch

from mambascope.analysis.passkey.recipe import PasskeyShare
from mambascope.analysis.recipe import RateInit, Recipe
from mambascope.analysis.replayed_step import ReplayedStep
from mambascope.analysis.train import train
from mambascope.spectra.model import Model
from mambascope.spectra.zoo import text_files

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"torch {torch.__version__} sees no NVIDIA GPU"),
]


def test_a_replay_gives_the_gradients_of_its_own_inputs():
    weight = torch.nn.Parameter(torch.randn(8, 8, device="cuda", dtype=torch.float64))

    def work(x):
        loss = (x @ weight).square().mean()
        torch.autograd.backward(loss)
        return loss.detach()

    step = ReplayedStep(work, [weight])
    for seed in range(3):
        x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found, slope = step(x).clone(), weight.grad.clone()
        with torch.no_grad():
            weight.add_(0.1)  # a replay sees the weights as they are
            weight.sub_(0.1)
        y = x.cuda() @ weight.detach()
        assert torch.allclose(found, y.square().mean(), rtol=1e-12)
        assert torch.allclose(slope, 2 / y.numel() * x.cuda().T @ y, rtol=1e-9, atol=1e-12)


def test_training_takes_the_steps_that_a_cpu_takes(tmp_path):
    plan = Recipe(
        name="small", arch="mamba2", d_model=32, n_layer=2, d_state=16, headdim=16, why="test", steps=12, batch=4,
        train_length=200, A_init=RateInit("uniform", 0.5, 2.0, False), dt_floor=0.01, muon=True, warmup=2,
        passkey=PasskeyShare(least_kept=0.1),
    )  # fmt: skip
    texts = [np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("calibration")[:1]]
    steps = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        steps[device] = list(train(Model(plan.config()).to(device), plan, texts, tmp_path / device))
    bits, on_gpu = (np.array([s.bits for s in steps[device]]) for device in ("cpu", "cuda"))
    assert bits[-1] < bits[0] - 0.1
    assert np.abs(bits - on_gpu).max() < 1e-2  # Muon works in bfloat16
