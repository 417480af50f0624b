"""Test ``mambascope.analysis.passkey.weights``: the loss by blocks is that of one graph, and training goes on."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mambascope.analysis.passkey import weights as module
from mambascope.analysis.passkey.answer_rows import AnswerRows
from mambascope.analysis.passkey.problem import Look
from mambascope.analysis.passkey.weights import WeightPlan, row_bits, train_weights, with_weights
from mambascope.spectra.errors import MambascopeError
from tests.spectra.tiny import tiny_model


class Reads:
    """Random rows; the look is the loss of one fixed row."""

    def __init__(self):
        self.fixed = AnswerRows(np.random.default_rng(9).integers(50, size=(1, 30)), 10)

    def rows(self, step):
        ids = np.random.default_rng(step).integers(50, size=(2, 30))
        return [(1.0, AnswerRows(ids, 0)), (0.5, self.fixed)]

    def look(self, model, scales, count):
        count(30)
        return Look(float(row_bits(model, self.fixed)), 0.0)


PLAN = WeightPlan(1e-3, 0.0, steps=4, look_every=2)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize(("block", "first"), [(7, 0), (7, 20), (64, 5)])
def test_the_loss_and_its_gradient_by_blocks_are_those_of_one_graph(monkeypatch, arch, block, first):
    monkeypatch.setattr(module, "block_tokens", lambda model: block)
    model = tiny_model(arch, dtype=torch.float64).requires_grad_(True)
    ids = torch.from_numpy(np.random.default_rng(0).integers(50, size=(3, 41)))
    logits = model(ids[:, :-1]).logits()[:, first:]
    whole = F.cross_entropy(logits.flatten(0, 1), ids[:, first + 1 :].flatten()) / np.log(2)
    whole.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    found = row_bits(model, AnswerRows(ids.numpy(), first))
    torch.testing.assert_close(found, whole)
    found.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], msg=name)


def test_memory_holds_the_graph_of_one_block(monkeypatch):
    """What is kept for the way back beyond the loss is the states at the ends of blocks."""
    model, kept = tiny_model("mamba2").requires_grad_(True), []
    monkeypatch.setattr(module, "block_tokens", lambda _: 32)

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    def held(tokens):
        del kept[:]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            row_bits(model, AnswerRows(np.zeros((1, tokens + 1), int), tokens - 1))
        return sum(kept)

    states = sum(t.numel() for layer in model.zero_state().layers for t in (layer.conv, layer.ssm))
    assert (held(320) - held(160)) / 5 <= states + 8  # five blocks more


def test_every_weight_moves_the_loss_falls_and_the_original_stays():
    model, reads, steps = tiny_model("mamba2"), Reads(), []
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = train_weights(model, reads, WeightPlan(1e-2, 0.0, 10, 5), watch=steps.append)
    trained = with_weights(model, found.best)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert not p.requires_grad
        assert bool((dict(trained.named_parameters())[name] != p).any()), name
    assert found.best_step == 10
    assert found.steps[10].look.objective < 0.9 * found.steps[0].look.objective
    assert float(row_bits(trained, reads.fixed)) == pytest.approx(found.objective(), rel=1e-6)
    assert [s.step for s in steps] == list(range(11))


def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path):
    model = tiny_model("mamba")
    whole = train_weights(model, Reads(), PLAN, path=tmp_path / "a.safetensors")

    def stop(step):
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_weights(model, Reads(), PLAN, path=tmp_path / "b.safetensors", watch=stop)
    again = train_weights(model, Reads(), PLAN, path=tmp_path / "b.safetensors")
    assert again.steps == whole.steps
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    for name, array in whole.best.items():
        np.testing.assert_array_equal(array, again.best[name])


def test_a_step_is_adamw_on_the_weighted_sum():
    """Two steps by hand: the loss of a step is the sum of its rows' bits, each with its weight."""
    model, reads, plan = tiny_model("mamba2"), Reads(), WeightPlan(1e-3, 0.1, 2, 1)
    found = train_weights(model, reads, plan)
    twin = tiny_model("mamba2").requires_grad_(True)
    optimiser = torch.optim.AdamW(twin.parameters(), weight_decay=0.1)
    for k, rate in enumerate((1e-3, 0.5e-3)):  # half a cosine over two steps: 1, then 1/2
        (_, one), (_, two) = reads.rows(k)
        loss = row_bits(twin, one) + 0.5 * row_bits(twin, two)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        assert found.steps[k + 1].loss == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(found.point[f"w/{name}"], p.detach().numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_half_precision_is_widened_so_that_small_steps_count():
    model = tiny_model("mamba2", dtype=torch.bfloat16)
    found = train_weights(model, Reads(), WeightPlan(1e-5, 0.0, 1, 1))
    for name, p in model.named_parameters():
        assert p.dtype == torch.bfloat16
        moved = found.point[f"w/{name}"] != p.float().numpy()
        assert moved.mean() > 0.5, name  # Adam's first step is 1e-5, far below what bfloat16 resolves
    trained = with_weights(model, found.point)
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


def test_weights_of_another_model_are_refused():
    found = train_weights(tiny_model("mamba2"), Reads(), WeightPlan(1e-3, 0.0, 1, 1))
    with pytest.raises(MambascopeError, match="not those of this model"):
        with_weights(tiny_model("mamba"), found.best)
    for name in itertools.islice(found.best, 1):
        with pytest.raises(MambascopeError, match="not those of this model"):
            with_weights(tiny_model("mamba2"), {k: v for k, v in found.best.items() if k != name})
