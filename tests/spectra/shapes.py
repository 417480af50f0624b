"""Random checkpoints in the state-spaces layout as it lies on disk: the shapes of published models, and small ones.

``python tests/spectra/shapes.py mamba2-130m FOLDER`` writes one, for a try by hand.
"""

import json
import sys
from pathlib import Path

import torch

from mambascope.spectra.layouts import expected_tensors, parse_config

IN_FILES = {
    "mamba-130m": {"d_model": 768, "n_layer": 24, "ssm_cfg": {}, "pad_vocab_size_multiple": 8},
    "mamba2-130m": {"d_model": 768, "n_layer": 24, "ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16},
    "mamba2-370m": {"d_model": 1024, "n_layer": 48, "ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16},
    "mamba2-1.3b": {"d_model": 2048, "n_layer": 48, "ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16},
    "small": {"d_model": 64, "n_layer": 3, "ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16},
}
"""What differs between their config.json files. Source: state-spaces on the hub."""
COMMON = {"vocab_size": 50277, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
MAMBA2 = {"d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}, "tie_embeddings": True}


def write_shape(name, folder, *, dtype=torch.float32, seed=0, **changes):
    """Write config.json and pytorch_model.bin, the tied head stored beside the embedding, and return the folder."""
    raw = COMMON | IN_FILES[name] | changes
    if raw["ssm_cfg"]:
        raw |= MAMBA2
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    config, _ = parse_config(raw, folder)
    rng = torch.Generator().manual_seed(seed)
    tensors = {key: values(key, shape, rng).to(dtype) for key, shape in expected_tensors(config).items()}
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def values(name, shape, rng):
    """Draw one tensor about as mamba_ssm starts it, so that activations and states have natural sizes."""
    if name.endswith("A_log"):
        if len(shape) == 2:
            return torch.arange(1.0, shape[1] + 1).log().expand(shape).contiguous()
        return (1 + 15 * torch.rand(shape, generator=rng)).log()
    if name.endswith(("dt_bias", "dt_proj.bias")):  # the inverse of the softplus of a step between 0.001 and 0.1
        dt = torch.exp(torch.rand(shape, generator=rng) * 4.6 - 6.9)
        return dt + (-torch.expm1(-dt)).log()
    if name.endswith(".D") or "norm" in name:
        return torch.ones(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    fan_in = 768 if "embedding" in name else shape[-1]
    return torch.randn(shape, generator=rng) * fan_in**-0.5


if __name__ == "__main__":
    print(write_shape(sys.argv[1], sys.argv[2]))
