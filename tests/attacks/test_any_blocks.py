"""Promise 8: whatever blocks a text comes in, logits and states are those of one block. Drawn by hypothesis."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mambascope.spectra.scales import Scales, scaling
from tests.spectra.tiny import tiny_model

LENGTH = 48
BOUNDS = {torch.float64: 1e-11, torch.float32: 1e-5}
MODELS = {
    (arch, dtype): tiny_model(arch, dtype, d_model=8, d_inner=16, n_layer=2, d_state=4, vocab_size=20)
    for arch, dtype in itertools.product(("mamba", "mamba2"), BOUNDS)
}
IDS = torch.randint(0, 20, (2, LENGTH), generator=torch.Generator().manual_seed(3))
SCALES = (
    None,
    scaling("a", 2.0).then(scaling("a_power", 0.7)),
    scaling("dt", 0.5, onset_tokens=17).then(scaling("a", 3.0, onset_tokens=31)),
)


def read(model, pieces, block_length, scales):
    """Read the pieces one call after another, each from the state that the one before has left."""
    state, logits = None, []
    for piece in pieces:
        blocks = list(model.stream(piece, state=state, intervention=scales, block_length=block_length))
        logits += [block.logits() for block in blocks]
        state = blocks[-1].state
    return torch.cat(logits, dim=1), state


def off(found, truth):
    return float((found.double() - truth.double()).abs().max() / truth.double().abs().max())


def check(cuts, length, block_length, arch, dtype, scales):
    model, ids = MODELS[arch, dtype], IDS[:, :length]
    inner = sorted({cut for cut in cuts if 0 < cut < length})
    pieces = [ids[:, a:b] for a, b in itertools.pairwise([0, *inner, length])]
    truth, end = read(MODELS[arch, torch.float64], [ids], length, scales)
    found, state = read(model, pieces, block_length, scales)
    assert found.shape == truth.shape
    assert off(found, truth) <= BOUNDS[dtype]
    assert state.position == length
    for mine, theirs in zip(state.layers, end.layers, strict=True):
        assert off(mine.ssm, theirs.ssm) <= BOUNDS[dtype]
        assert off(mine.conv, theirs.conv) <= BOUNDS[dtype]


EXAMPLES = given(
    cuts=st.lists(st.integers(1, LENGTH - 1), max_size=6),
    length=st.integers(1, LENGTH),
    block_length=st.integers(1, LENGTH + 1),
    arch=st.sampled_from(["mamba", "mamba2"]),
    dtype=st.sampled_from(list(BOUNDS)),
    scales=st.sampled_from(SCALES),
)
HOW = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=30, **HOW)
@EXAMPLES
def test_any_blocks_give_the_same(cuts, length, block_length, arch, dtype, scales):
    check(cuts, length, block_length, arch, dtype, scales)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(max_examples=2000, **HOW)
@EXAMPLES
def test_any_blocks_give_the_same_2000_times(cuts, length, block_length, arch, dtype, scales):
    check(cuts, length, block_length, arch, dtype, scales)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_every_block_length_from_1_to_one_too_many(arch):
    for block_length in range(1, 24 + 2):
        check([], 24, block_length, arch, torch.float32, Scales())


def test_a_state_that_is_not_carried_on_would_be_seen():
    """Negative control: what goes wrong when every chunk starts anew (state-spaces/mamba issue 641)."""
    model = MODELS["mamba2", torch.float64]
    truth, _ = read(model, [IDS], LENGTH, None)
    anew = torch.cat([read(model, [part], LENGTH, None)[0] for part in IDS.split(16, dim=1)], dim=1)
    assert off(anew, truth) > 1e-3
