"""Test ``mambascope.spectra.dynamics.WholePrompt``: a prompt in one block, and tokens that end behind a layer."""

from dataclasses import replace

import pytest
import torch

from mambascope.spectra.config import Config
from mambascope.spectra.dynamics import WholePrompt
from mambascope.spectra.model import Model

SHAPE = {"d_model": 16, "d_inner": 32, "n_layer": 3, "vocab_size": 40, "d_state": 8}


class KeepEvery:
    """Drops every other token behind each of the named layers; changes no dynamics."""

    def __init__(self, *layers):
        self.layers, self.seen = layers, []

    def boundaries(self):
        return ()

    def __call__(self, layer, position, dynamics):
        self.seen.append((layer, position, dynamics.dt.shape[1]))
        return dynamics

    def kept(self, layer, position):
        if layer not in self.layers or position > 0:
            return None
        reached = next(length for at, start, length in reversed(self.seen) if (at, start) == (layer, position))
        return torch.arange(0, reached, 2)[None].expand(2, -1)


@pytest.fixture(params=["mamba", "mamba2"])
def model(request):
    more = {"headdim": 8} if request.param == "mamba2" else {"dt_rank": 2}
    torch.manual_seed(0)
    made = Model(Config(arch=request.param, **SHAPE, **more)).double().eval()
    for p in made.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    return made


def last(model, tokens, intervention, **more):
    return list(model.stream(tokens, intervention=intervention, **more))[-1]


def test_the_protocol_tells_such_rules_from_others():
    assert isinstance(KeepEvery(), WholePrompt)
    assert not isinstance(lambda: None, WholePrompt)


@torch.no_grad()
def test_tokens_that_end_are_told_in_positions_of_the_block(model):
    tokens = torch.randint(0, 40, (2, 12))
    rule = KeepEvery(0, 1)
    block = last(model, tokens, rule, block_length=5)
    assert rule.seen == [(0, 0, 12), (1, 0, 6), (2, 0, 3)]  # one block, although 5 tokens were asked for
    assert block.kept.tolist() == [[0, 4, 8]] * 2  # 0 2 4 6 8 10 behind layer 0, and every other of these
    assert block.hidden.shape == (2, 3, 16)
    assert block.state.position == 12


@torch.no_grad()
def test_dropping_behind_the_last_layer_changes_no_output(model):
    tokens = torch.randint(0, 40, (2, 9))
    plain, block = last(model, tokens, None), last(model, tokens, KeepEvery(2))
    assert torch.equal(block.hidden, plain.hidden[:, ::2])
    assert plain.kept is None


@torch.no_grad()
def test_later_layers_read_the_short_sequence(model):
    """Dropping behind the first layer is running the others on what is left of its output."""
    tokens = torch.randint(0, 40, (2, 8))
    block = last(model, tokens, KeepEvery(0))
    zero, layers = model.zero_state(2), model.layers()
    residual = model.backbone.embedding(tokens)
    residual = (residual + layers[0].mixer(layers[0].norm(residual), zero.layers[0])[0])[:, ::2]
    for layer, state in zip(layers[1:], zero.layers[1:], strict=True):
        residual = residual + layer.mixer(layer.norm(residual), state)[0]
    assert torch.allclose(block.hidden, model.backbone.norm_f(residual), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_tokens_after_the_prompt_all_go_through(model):
    rule = KeepEvery(0)
    block = last(model, torch.randint(0, 40, (2, 8)), rule)
    added = last(model, torch.randint(0, 40, (2, 3)), rule, state=block.state)
    assert added.kept is None
    assert added.hidden.shape[1] == 3
    assert added.state.position == 11


def test_a_prompt_in_parts_is_refused(model):
    with pytest.raises(ValueError, match="needs its prompt whole"):
        last(model, iter([torch.zeros(1, 4, dtype=torch.long)] * 2), KeepEvery())


def test_a_state_is_repeated_for_rows(model):
    block = last(model, torch.randint(0, 40, (1, 5)), None)
    rows = replace(block.state, position=0).repeated(3)
    assert rows.position == 0
    assert block.state.repeated(3).position == 5
    assert all(layer.ssm.shape[0] == layer.conv.shape[0] == 3 for layer in rows.layers)
    assert all(torch.equal(a.ssm[2], b.ssm[0]) for a, b in zip(rows.layers, block.state.layers, strict=True))
