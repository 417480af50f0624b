"""Synthetic checkpoints of six families, written by hand: config.json in the published words, every key of the layout.

``test_written_layouts`` holds each against the class of transformers, which must find no key missing and none over.
"""

import json
import math

import torch
from safetensors.torch import save_file

VOCAB, WIDTH, INNER, STATE, RANK, MLP, SMALL = 264, 32, 64, 4, 3, 48, 16
HEADS, HEADDIM, GROUPS = 8, 8, 2
COMMON = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_attention_heads": 4, "num_key_value_heads": 2}
MAMBA2 = {"mamba_n_heads": HEADS, "mamba_d_head": HEADDIM, "mamba_d_state": STATE, "mamba_expand": 2, "mamba_d_conv": 4}

CONFIGS = {
    "falcon_mamba": {  # an expand that does not fit stands beside the size that counts, as published
        "architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "vocab_size": VOCAB,
        "hidden_size": WIDTH, "num_hidden_layers": 3, "state_size": STATE, "intermediate_size": INNER, "expand": 16,
        "conv_kernel": 4, "time_step_rank": RANK, "mixer_rms_eps": 1e-6, "tie_word_embeddings": False,
        "torch_dtype": "float32",
    },
    "jamba": COMMON | {
        "architectures": ["JambaForCausalLM"], "model_type": "jamba", "num_hidden_layers": 5, "intermediate_size": MLP,
        "attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": STATE, "mamba_dt_rank": RANK, "mamba_expand": 2,
        "mamba_d_conv": 4, "tie_word_embeddings": False,
    },
    "zamba2": COMMON | {
        "architectures": ["Zamba2ForCausalLM"], "model_type": "zamba2", "num_hidden_layers": 5,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba"], "hybrid_layer_ids": [1, 3],
        "intermediate_size": MLP, "n_mamba_heads": HEADS, "mamba_headdim": HEADDIM, "mamba_d_state": STATE,
        "mamba_ngroups": GROUPS, "mamba_expand": 2, "mamba_d_conv": 4, "chunk_size": 16, "num_mem_blocks": 1,
        "adapter_rank": SMALL, "time_step_min": 0.02, "tie_word_embeddings": True,
    },
    "bamba": COMMON | MAMBA2 | {
        "architectures": ["BambaForCausalLM"], "model_type": "bamba", "num_hidden_layers": 4, "intermediate_size": MLP,
        "attn_layer_indices": [1], "mamba_n_groups": GROUPS, "mamba_chunk_size": 16, "tie_word_embeddings": False,
    },
    "nemotron_h": COMMON | {
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "num_hidden_layers": 6, "head_dim": 8,
        "auto_map": {"AutoConfig": "configuration_nemotron_h.NemotronHConfig"}, "hybrid_override_pattern": "M-M*EM",
        "intermediate_size": MLP, "mamba_num_heads": HEADS, "mamba_head_dim": HEADDIM, "ssm_state_size": STATE,
        "n_groups": GROUPS, "conv_kernel": 4, "chunk_size": 16, "n_routed_experts": 2, "moe_intermediate_size": SMALL,
        "moe_shared_expert_intermediate_size": SMALL, "num_experts_per_tok": 1, "time_step_min": 0.02,
        "time_step_limit": [0.0, math.inf], "tie_word_embeddings": False,
    },
    "granitemoehybrid": COMMON | MAMBA2 | {
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "num_hidden_layers": 4,
        "layer_types": ["mamba", "attention", "mamba", "mamba"], "intermediate_size": MLP, "mamba_n_groups": 1,
        "mamba_chunk_size": 16, "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": SMALL,
        "tie_word_embeddings": False,
    },
}  # fmt: skip

LAYERS = {
    "falcon_mamba": (0, 1, 2),
    "jamba": (0, 1, 3, 4),
    "zamba2": (0, 1, 2, 3, 4),
    "bamba": (0, 2, 3),
    "nemotron_h": (0, 2, 5),
    "granitemoehybrid": (0, 2, 3),
}
"""True indices of the Mamba layers."""
FAMILIES = list(CONFIGS)


def mamba1(*norms):
    shapes = {
        "A_log": (INNER, STATE), "D": (INNER,), "conv1d.bias": (INNER,), "conv1d.weight": (INNER, 1, 4),
        "dt_proj.bias": (INNER,), "dt_proj.weight": (INNER, RANK), "in_proj.weight": (2 * INNER, WIDTH),
        "out_proj.weight": (WIDTH, INNER), "x_proj.weight": (RANK + 2 * STATE, INNER),
    }  # fmt: skip
    return shapes | {f"{name}_layernorm.weight": (size,) for name, size in norms}


def mamba2(groups):
    conv = INNER + 2 * groups * STATE
    return {
        "A_log": (HEADS,), "D": (HEADS,), "dt_bias": (HEADS,), "conv1d.bias": (conv,), "conv1d.weight": (conv, 1, 4),
        "in_proj.weight": (INNER + conv + HEADS, WIDTH), "norm.weight": (INNER,), "out_proj.weight": (WIDTH, INNER),
    }  # fmt: skip


ATTENTION = {
    "q_proj.weight": (WIDTH, WIDTH), "k_proj.weight": (WIDTH // 2, WIDTH), "v_proj.weight": (WIDTH // 2, WIDTH),
    "o_proj.weight": (WIDTH, WIDTH),
}  # fmt: skip
FEED = {"gate_proj.weight": (MLP, WIDTH), "up_proj.weight": (MLP, WIDTH), "down_proj.weight": (WIDTH, MLP)}


def under(prefix, shapes):
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def shapes_of(family):
    """Return every tensor of a family's synthetic model with its shape."""
    ends, embed = ("norm_f", "embeddings") if family in {"falcon_mamba", "nemotron_h"} else (None, "embed_tokens")
    top = "backbone" if ends else "model"
    final = ends or ("norm" if family == "granitemoehybrid" else "final_layernorm")
    found = {f"{top}.{embed}.weight": (VOCAB, WIDTH), f"{top}.{final}.weight": (WIDTH,)}
    if not CONFIGS[family]["tie_word_embeddings"]:
        found["lm_head.weight"] = (VOCAB, WIDTH)
    layer = {
        "falcon_mamba": falcon_layer, "jamba": jamba_layer, "zamba2": zamba2_layer, "bamba": bamba_layer,
        "nemotron_h": nemotron_layer, "granitemoehybrid": granite_layer,
    }[family]  # fmt: skip
    for i in range(CONFIGS[family]["num_hidden_layers"]):
        found |= under(f"{top}.layers.{i}", layer(i))
    return found


def falcon_layer(i):
    return {"norm.weight": (WIDTH,)} | under("mixer", mamba1())


def jamba_layer(i):
    norms = ("dt", RANK), ("b", STATE), ("c", STATE)
    mixer = under("self_attn", ATTENTION) if i == 2 else under("mamba", mamba1(*norms))
    experts = {"router.weight": (2, WIDTH)}
    for expert in range(2):
        experts |= under(f"experts.{expert}", FEED)
    feed = under("feed_forward", experts if i % 2 else FEED)
    return {"input_layernorm.weight": (WIDTH,), "pre_ff_layernorm.weight": (WIDTH,)} | mixer | feed


def zamba2_layer(i):
    mamba = {"input_layernorm.weight": (WIDTH,)} | under("mamba", mamba2(GROUPS))
    if i not in {1, 3}:
        return mamba
    found = {"linear.weight": (WIDTH, WIDTH)} | under("mamba_decoder", mamba)
    if i == 1:  # layer 3 shares its block
        feed = {"gate_up_proj.weight": (2 * MLP, WIDTH), "down_proj.weight": (WIDTH, MLP)}
        for k in range(2):
            feed |= {f"gate_up_proj_adapter_list.{k}.0.weight": (SMALL, WIDTH)}
            feed |= {f"gate_up_proj_adapter_list.{k}.1.weight": (2 * MLP, SMALL)}
        wide = {"q": (2 * WIDTH,), "k": (WIDTH,), "v": (WIDTH,)}
        attention = {f"{name}_proj.weight": (*rows, 2 * WIDTH) for name, rows in wide.items()}
        shared = under("self_attn", attention | {"o_proj.weight": (WIDTH, 2 * WIDTH)}) | under("feed_forward", feed)
        shared |= {"input_layernorm.weight": (2 * WIDTH,), "pre_ff_layernorm.weight": (WIDTH,)}
        found |= under("shared_transformer", shared)
    return found


def bamba_layer(i):
    mixer = under("self_attn", ATTENTION) if i == 1 else under("mamba", mamba2(GROUPS))
    norms = {"input_layernorm.weight": (WIDTH,), "pre_ff_layernorm.weight": (WIDTH,)}
    return norms | mixer | under("feed_forward", FEED)


def nemotron_layer(i):
    two = {"up_proj.weight": (MLP, WIDTH), "down_proj.weight": (WIDTH, MLP)}
    small = {"up_proj.weight": (SMALL, WIDTH), "down_proj.weight": (WIDTH, SMALL)}
    moe = {"gate.weight": (2, WIDTH), "gate.e_score_correction_bias": (2,)} | under("shared_experts", small)
    for expert in range(2):
        moe |= under(f"experts.{expert}", small)
    mixer = {"M": mamba2(GROUPS), "-": two, "*": ATTENTION, "E": moe}["M-M*EM"[i]]
    return {"norm.weight": (WIDTH,)} | under("mixer", mixer)


def granite_layer(i):
    mixer = under("self_attn", ATTENTION) if i == 1 else under("mamba", mamba2(1))
    moe = {"input_linear.weight": (2, 2 * MLP, WIDTH), "output_linear.weight": (2, WIDTH, MLP)}
    moe |= {"router.layer.weight": (2, WIDTH)}
    shared = {"input_linear.weight": (2 * SMALL, WIDTH), "output_linear.weight": (WIDTH, SMALL)}
    norms = {"input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,)}
    return norms | mixer | under("block_sparse_moe", moe) | under("shared_mlp", shared)


def values_of(name, shape, rng):
    """Draw one tensor; rates and step sizes are spread over decades, so that states of all horizons occur."""
    drawn = torch.rand(shape, generator=rng)
    if name.endswith("A_log"):
        return drawn * 6 - 4
    if name.endswith(("dt_bias", "dt_proj.bias")):
        return drawn * 5 - 6
    if "norm" in name or name.endswith(".D"):
        return 0.5 + drawn
    return (drawn - 0.5) * (2 / shape[-1] ** 0.5 if len(shape) > 1 else 0.2)


def write_foreign(folder, family, *, shards=1, dtype=torch.float32, seed=0, config=None, drop=(), extra=None):
    """Write a synthetic checkpoint, in one safetensors file or in shards with their index; return its tensors."""
    rng = torch.Generator().manual_seed(seed)
    tensors = {name: values_of(name, shape, rng).to(dtype) for name, shape in shapes_of(family).items()}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in drop} | (extra or {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[family] | (config or {}), indent=1))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return tensors
    weight_map = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return tensors


def mixer_prefix(family, layer):
    """Return what the names of a Mamba layer's tensors begin with."""
    if family in {"falcon_mamba", "nemotron_h"}:
        return f"backbone.layers.{layer}.mixer."
    hybrid = family == "zamba2" and layer in {1, 3}
    return f"model.layers.{layer}.{'mamba_decoder.mamba' if hybrid else 'mamba'}."
