"""Test ``mambascope.spectra.model``: one forward, whatever the blocks, alike in prefill and decode."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.spectra.errors import NonFiniteStateError, ScaleError, TextError
from mambascope.spectra.scales import scaling

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

ARCHS = ("mamba", "mamba2")
LENGTH = 150


def tokens(batch=2, length=LENGTH, seed=1):
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(seed))


def everything(model, ids, **how):
    blocks = list(model.stream(ids, **how))
    return torch.cat([b.logits() for b in blocks], dim=1), blocks[-1].state


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def scaled():
    return scaling("a", 2.0).then(scaling("dt", 0.7, onset_tokens=37)).then(scaling("a_power", 0.9))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("how", [None, scaled()], ids=["plain", "scaled"])
def test_block_length_changes_nothing(arch, dtype, bound, how):
    model, ids = tiny.tiny_model(arch, dtype), tokens()
    whole, state = everything(model, ids, intervention=how, block_length=LENGTH)
    for block_length in (1, 7, 64, LENGTH + 1):
        logits, other = everything(model, ids, intervention=how, block_length=block_length)
        assert relative(logits, whole) <= bound
        for mine, theirs in zip(other.layers, state.layers, strict=True):
            assert relative(mine.ssm, theirs.ssm) <= bound
            assert relative(mine.conv, theirs.conv) <= bound


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("how", [None, scaled()], ids=["plain", "scaled"])
def test_decode_equals_prefill(arch, how):
    model, ids = tiny.tiny_model(arch), tokens()
    whole, _ = everything(model, ids, intervention=how)
    prompt, state = everything(model, ids[:, :50], intervention=how)
    steps = [prompt]
    for t in range(50, LENGTH):
        logits, state = everything(model, ids[:, t : t + 1], state=state, intervention=how)
        steps.append(logits)
    assert relative(torch.cat(steps, dim=1), whole) <= 1e-5


@pytest.mark.parametrize("arch", ARCHS)
def test_scaling_changes_the_result(arch):
    model, ids = tiny.tiny_model(arch), tokens()
    plain, _ = everything(model, ids)
    for kind in ("a", "a_power", "dt"):
        changed, _ = everything(model, ids, intervention=scaling(kind, 0.5))
        assert relative(changed, plain) > 1e-3


@pytest.mark.parametrize("arch", ARCHS)
def test_the_past_does_not_see_the_future(arch):
    """Causality: changing token t leaves all logits before t as they are, bit for bit, and changes those from t on."""
    model, ids = tiny.tiny_model(arch), tokens()
    changed = ids.clone()
    changed[:, 80] = (changed[:, 80] + 1) % 50
    before, _ = everything(model, ids)
    after, _ = everything(model, changed)
    assert torch.equal(before[:, :80], after[:, :80])
    assert relative(after[:, 80:], before[:, 80:]) > 1e-3


@pytest.mark.parametrize("arch", ARCHS)
def test_rows_of_a_batch_do_not_mix(arch):
    model, ids = tiny.tiny_model(arch), tokens(batch=3)
    together, _ = everything(model, ids)
    for row in range(3):
        alone, _ = everything(model, ids[row : row + 1])
        assert relative(alone, together[row : row + 1]) <= 1e-5


@pytest.mark.parametrize("arch", ARCHS)
def test_generate_is_the_argmax_of_prefill(arch):
    model, ids = tiny.tiny_model(arch), tokens(batch=1, length=20)
    added = model.generate(ids, 6, intervention=scaled())
    logits, _ = everything(model, torch.cat([ids, added], dim=1), intervention=scaled())
    assert torch.equal(logits[:, 19:-1].argmax(-1), added)
    with pytest.raises(TextError, match="empty"):
        model.generate(ids[:, :0], 1)


def test_tokens_may_come_as_an_iterable_of_blocks_of_small_integers():
    model, ids = tiny.tiny_model("mamba2"), tokens()
    pieces = (part.numpy().astype(np.uint8) for part in ids.split(33, dim=1))
    assert relative(everything(model, pieces)[0], everything(model, ids)[0]) <= 1e-5


def test_an_id_outside_the_vocabulary_is_refused():
    model = tiny.tiny_model("mamba")
    with pytest.raises(TextError, match="token id 50 is outside the vocabulary"):
        everything(model, torch.tensor([[3, 50]]))


@pytest.mark.parametrize("arch", ARCHS)
def test_a_broken_state_names_its_layer(arch):
    model, ids = tiny.tiny_model(arch), tokens()
    with torch.no_grad():
        model.layers()[1].mixer.A_log[0] = float("nan")
    with pytest.raises(NonFiniteStateError, match="layer 1: ") as caught:
        everything(model, ids, block_length=64)
    assert caught.value.layer == 1
    assert caught.value.position == 0


class WritesTooMuch:
    """From one token on, a layer writes more than float32 can hold."""

    def __init__(self, layer, first):
        self.layer, self.first = layer, first

    def boundaries(self):
        return ()

    def __call__(self, layer, position, dynamics):
        if layer != self.layer:
            return dynamics
        late = torch.arange(position, position + dynamics.gain.shape[1])[:, None] >= self.first
        return replace(dynamics, gain=torch.where(late, 3e38, dynamics.gain))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("layer", [0, 2])
def test_a_state_that_overflows_on_the_way_names_its_layer_and_its_block(arch, layer):
    model, first = tiny.tiny_model(arch), 75
    with torch.no_grad():
        model.layers()[layer].mixer.conv1d.weight.mul_(100)  # so that the first such write is too much
    for block_length, start in ((1, 75), (7, 70), (64, 64), (LENGTH, 0)):
        passed = [0]
        run = model.stream(tokens(), intervention=WritesTooMuch(layer, first), block_length=block_length)
        with pytest.raises(NonFiniteStateError, match=f"layer {layer}: .* from token {start} on") as caught:
            passed.extend(block.stop for block in run)
        assert (caught.value.layer, caught.value.position) == (layer, start)
        assert passed[-1] == start  # all blocks before it were given out


def test_scales_for_another_model_are_refused_before_anything_runs():
    model = tiny.tiny_model("mamba")
    with pytest.raises(ScaleError, match="another model"):
        everything(model, tokens(), intervention=scaling("a", np.full((5, 48), 2.0)))
    with pytest.raises(ScaleError, match="must be positive"):
        everything(model, tokens(), intervention=scaling("a", -1.0))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights_keep_wide_states(arch, dtype):
    model, ids = tiny.tiny_model(arch), tokens()
    exact, _ = everything(model, ids)
    narrow = tiny.tiny_model(arch, dtype)
    logits, state = everything(narrow, ids)
    assert state.layers[0].ssm.dtype == torch.float32
    assert relative(logits.float(), exact) < 0.1


def test_a_sum_beyond_float16_is_no_broken_state():
    model = tiny.tiny_model("mamba2", torch.float16)
    with torch.no_grad():
        model.backbone.norm_f.weight.fill_(40.0)
    blocks = list(model.stream(tokens(batch=1, length=2000)))
    assert max(float(b.hidden.float().abs().sum()) for b in blocks) > 65504
