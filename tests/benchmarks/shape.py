"""What is measured: two stacks of 4 layers and d_model 256 with random weights, and the tokens they read."""

import torch

from mambascope.spectra.config import Config
from mambascope.spectra.model import Model

VOCABULARY = 264
COMMON = {"d_model": 256, "n_layer": 4, "vocab_size": VOCABULARY, "d_inner": 512}
SHAPES = {
    "mamba": Config(arch="mamba", d_state=16, dt_rank=16, **COMMON),
    "mamba2": Config(arch="mamba2", d_state=128, headdim=64, **COMMON),
}
NAMES = {"mamba": "Mamba-1 (d_state 16)", "mamba2": "Mamba-2 (d_state 128, headdim 64)"}


def random_model(arch):
    """Make the model, the same weights in every process."""
    model, rng = Model(SHAPES[arch], name=arch), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(_values(name, p.shape, rng))
    return model.requires_grad_(False).eval()


def _values(name, shape, rng):
    """Draw one tensor about as mamba_ssm starts it; norms, D and biases differ from 1 and 0, to see who drops them."""
    uniform = torch.rand(shape, generator=rng)
    if name.endswith("A_log"):
        return (1 + 15 * uniform).log()
    if name.endswith(("dt_bias", "dt_proj.bias")):  # the inverse of the softplus of a step between 0.001 and 0.1
        dt = 0.001 * 100**uniform
        return dt + (-torch.expm1(-dt)).log()
    if name.endswith(".D") or "norm" in name:
        return 0.5 + uniform
    if name.endswith("bias"):
        return 0.2 * uniform - 0.1
    return (2 * uniform - 1) * shape[-1] ** -0.5


def random_ids(length):
    """Draw length + 1 tokens, (1, length + 1): a gradient step scores the token after each."""
    return torch.randint(0, VOCABULARY, (1, length + 1), generator=torch.Generator().manual_seed(1))
