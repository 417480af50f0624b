"""Promises 2 and 8 for models of any shape: written, read back and run alike in both layouts. Drawn by hypothesis."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.config import Config
from mambascope.spectra.errors import CheckpointError
from mambascope.spectra.layouts import config_json, expected_tensors
from mambascope.spectra.model import Model

LAYOUT_OF = {"mamba": "transformers", "mamba2": "state-spaces"}  # those that have words for everything
HOW = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": [HealthCheck.too_slow]}


@st.composite
def configs(draw):
    """Shapes of either architecture, small enough to run."""
    size = st.integers(1, 3)
    ngroups, per_group, headdim = draw(size), draw(size), draw(st.integers(1, 8))
    d_inner = ngroups * per_group * headdim
    divisors = [d for d in range(1, d_inner + 1) if d_inner % d == 0]
    common = {
        "d_model": draw(st.sampled_from(divisors)),
        "n_layer": draw(size),
        "vocab_size": 8 * draw(size),
        "d_inner": d_inner,
        "d_state": draw(st.integers(1, 9)),
        "d_conv": draw(st.integers(2, 5)),
        "conv_bias": draw(st.booleans()),
        "proj_bias": draw(st.booleans()),
        "tie_embeddings": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return Config(arch="mamba", dt_rank=draw(st.integers(1, 4)), **common)
    flags = {"D_has_hdim": draw(st.booleans()), "rmsnorm": draw(st.booleans())}
    return Config(arch="mamba2", headdim=headdim, ngroups=ngroups, **common, **flags)


def drawn(config, seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=rng) - 0.5 for name, shape in expected_tensors(config).items()}


def model_of(config, tensors):
    model = Model(config, name="any").double()
    rest = {"lm_head.weight": tensors["backbone.embedding.weight"]} if config.tie_embeddings else {}
    model.load_state_dict({name: value.double() for name, value in (tensors | rest).items()})
    return model.requires_grad_(False)


def logits(model, ids, block_length):
    return torch.cat([block.logits() for block in model.stream(ids, block_length=block_length)], dim=1)


def check(config, layout, seed):
    try:
        config_json(config, layout)
    except CheckpointError as error:  # a dialect without words for it
        refusal = str(error)
    else:
        return check_round_trip(config, layout, drawn(config, seed), seed)
    assert f"layout {layout}: " in refusal


def check_round_trip(config, layout, tensors, seed):
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder, "m"), config, tensors, layout)
        with Checkpoint.open(Path(folder, "m")) as opened:
            assert replace(opened.config, tokens_in_vocab=0) == config
            got = opened.state_dict()
    assert set(got) == set(tensors)
    assert all(torch.equal(got[name], tensors[name]) for name in tensors)
    model, ids = model_of(config, got), torch.randint(0, config.vocab_size, (2, 9), generator=torch.manual_seed(seed))
    whole = logits(model, ids, 9)
    assert whole.shape == (2, 9, config.vocab_size)
    torch.testing.assert_close(logits(model, ids, 1), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits(model, ids, 4), whole, rtol=1e-10, atol=1e-12)


EXAMPLES = given(config=configs(), layout=st.sampled_from(["transformers", "state-spaces"]), seed=st.integers(0, 99))


@settings(max_examples=30, **HOW)
@EXAMPLES
def test_a_model_of_any_shape(config, layout, seed):
    check(config, layout, seed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(max_examples=1000, **HOW)
@EXAMPLES
def test_1000_models_of_any_shape(config, layout, seed):
    check(config, layout, seed)


@settings(max_examples=60, **HOW)
@given(config=configs(), which=st.integers(0, 10**6), dim=st.integers(0, 3), more=st.sampled_from([-1, 1, 7]))
def test_a_tensor_of_another_shape_is_always_refused(config, which, dim, more):
    names = sorted(expected_tensors(config))
    name = names[which % len(names)]
    shape = list(expected_tensors(config)[name])
    shape[dim % len(shape)] = max(0, shape[dim % len(shape)] + more)
    tensors = drawn(config, 0) | {name: torch.zeros(shape)}
    with tempfile.TemporaryDirectory() as folder, pytest.raises(CheckpointError, match="shape"):
        save_checkpoint(
            Path(folder, "m"), config, tensors, "transformers" if config.arch == "mamba" else "state-spaces"
        )
