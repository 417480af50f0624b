"""Small random models for tests: every weight drawn, rates spread over five decades."""

import torch

from mambascope.spectra.config import Config
from mambascope.spectra.model import Model


def tiny_config(arch, **changes):
    common = {"d_model": 24, "n_layer": 3, "vocab_size": 50, "d_inner": 48}
    if arch == "mamba":
        return Config(arch="mamba", **(common | {"d_state": 8, "dt_rank": 2} | changes))
    return Config(arch="mamba2", **(common | {"d_state": 16, "headdim": 8, "ngroups": 2} | changes))


def tiny_model(arch, dtype=torch.float32, seed=0, train_length=16, **changes):
    config = tiny_config(arch, **changes)
    model = Model(config, name=f"tiny-{arch}", train_length=train_length)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = torch.rand(p.shape, generator=rng)
            if name.endswith("A_log"):
                p.copy_(values * 11 - 8)
            elif name.endswith(("dt_bias", "dt_proj.bias")):
                p.copy_(values * 5 - 6)
            elif "norm" in name or name.endswith(".D"):
                p.copy_(0.5 + values)
            else:
                p.copy_((values - 0.5) * 0.6)
    return model.requires_grad_(False).to(dtype)


def save_tiny(folder, arch, train_length=16):
    """Write a small byte-level checkpoint with tokenizer and card."""
    import json

    from mambascope.spectra.checkpoint import save_checkpoint
    from mambascope.spectra.tokens import byte_level_tokenizer

    model = tiny_model(arch, vocab_size=264, ngroups=1) if arch == "mamba2" else tiny_model(arch, vocab_size=264)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    tokenizer = byte_level_tokenizer()
    save_checkpoint(folder, model.config, tensors, "transformers", tokenizer_json=tokenizer, eos_id=256)
    card = {"format": 1, "name": folder.name, "train_length": train_length}
    (folder / "mambascope.json").write_text(json.dumps(card))
    return folder
