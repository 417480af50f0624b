"""analysis/methods/decimamba.py and decimation.py: which tokens go on, and that the rest is as if never read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mambascope.analysis.evaluate.bits import last_bits
from mambascope.analysis.methods import decimamba as module
from mambascope.analysis.methods import find_method, fit, setup_of
from mambascope.analysis.methods.decimation import Decimation, budgets, largest
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.conv import causal_conv_silu
from mambascope.spectra.dynamics import Dynamics, WholePrompt
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scan import reference
from mambascope.spectra.tokens import Document

ARCHS = ["mamba", "mamba2"]


def ids_of(task, length):
    return torch.from_numpy(np.stack([d.ids[:length] for d in task.texts.test]).astype(np.int64))


def test_worked_budgets():
    # 256 * .5^s = 256, 128, 64, 32, 16, the last held at 20
    assert budgets(256, 0.5, 20, 5) == (256, 128, 64, 32, 20)
    # the source's PG19 setting: 8000 * .83 = 6640, * .83 = 5511.2
    assert budgets(8000, 0.83, 20, 3) == (8000, 6640, 5511)


def test_worked_choice_by_the_norm_over_channels():
    # norms of the tokens: 5, 1, 5, 2, 0, 0; the last one is the tail
    dt = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [0.0, 5.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    assert largest(dt, 3, 1).tolist() == [[0, 2, 3, 5]]
    assert largest(dt, 2, 1).tolist() == [[0, 2, 5]]
    assert largest(dt, 1, 1).tolist() == [[0, 5]]  # of equal ones the earlier
    assert largest(dt, 1, 3).tolist() == [[0, 3, 4, 5]]
    assert largest(dt.flip(1), 3, 1).tolist() == [[2, 3, 4, 5]]  # norms 0, 0, 2, 5, 1, 5


def test_worked_dynamics_of_dropped_tokens():
    dt = torch.tensor([[[4.0], [1.0], [3.0], [2.0]]])
    rule = Decimation((1,), (2,), 1)
    got = rule(1, 0, Dynamics(dt, torch.tensor([-1.0]), dt + 10))
    assert got.dt.flatten().tolist() == [4, 0, 3, 2]
    assert got.gain.flatten().tolist() == [14, 0, 13, 12]
    assert rule.kept(1, 0).tolist() == [[0, 2, 3]]
    same = Dynamics(dt, torch.tensor([-1.0]), dt)
    for layer, position, other in (
        (0, 0, rule),  # another layer
        (1, 4, rule),  # decoding
        (1, 0, Decimation((1,), (3,), 1)),  # no more tokens before the tail than the budget
        (1, 0, Decimation((1,), (2,), 4)),  # all of them the tail
    ):
        assert other(layer, position, same) is same
        assert other.kept(layer, position) is None


def mixed_by_hand(mixer, hidden, chosen):
    """Run a mixer on a text from zeros; its scan, gate and output see the chosen tokens alone."""
    cfg, batch = mixer.config, hidden.shape[0]

    def pick(v):
        return torch.stack([row[index] for row, index in zip(v, chosen, strict=True)])

    zeros = torch.zeros(batch, cfg.d_conv, cfg.conv_dim, dtype=hidden.dtype)
    if cfg.arch == "mamba":
        x, z = mixer.in_proj(hidden).chunk(2, dim=-1)
        x = causal_conv_silu(x, zeros, mixer.conv1d)[0]
        dt, B, C = mixer.x_proj(x).split([cfg.dt_rank, cfg.d_state, cfg.d_state], dim=-1)
        dt = F.softplus(mixer.dt_proj(dt))
        x, z, dt, B, C = map(pick, (x, z, dt, B, C))
        start = torch.zeros(batch, cfg.d_inner, cfg.d_state, dtype=hidden.dtype)
        y, _ = reference.diagonal_scan(x, dt, dt, -mixer.A_log.exp(), B, C, start)
        return mixer.out_proj((y + mixer.D * x) * F.silu(z))
    groups = cfg.ngroups * cfg.d_state
    z, xBC, dt = mixer.in_proj(hidden).split([cfg.d_inner, cfg.conv_dim, cfg.nheads], dim=-1)
    x, B, C = causal_conv_silu(xBC, zeros, mixer.conv1d)[0].split([cfg.d_inner, groups, groups], dim=-1)
    x, z, dt, B, C = map(pick, (x, z, F.softplus(dt + mixer.dt_bias), B, C))
    x = x.unflatten(-1, (cfg.nheads, cfg.headdim))
    B, C = (v.unflatten(-1, (cfg.ngroups, cfg.d_state)) for v in (B, C))
    start = torch.zeros(batch, cfg.nheads, cfg.headdim, cfg.d_state, dtype=hidden.dtype)
    y, _ = reference.scalar_identity_scan(x, dt, dt, -mixer.A_log.exp(), B, C, start)
    return mixer.out_proj(mixer.norm((y + mixer.D[:, None] * x).flatten(2) * F.silu(z)))


@pytest.mark.parametrize("arch", ARCHS)
def test_it_is_the_computation_on_the_tokens_that_are_kept(make_task, arch):
    model = make_task(arch).model.double()
    ids = ids_of(make_task(arch), 40)
    rule = Decimation((0, 2), (17, 9), 3)
    got = model(ids, intervention=rule)
    # layer by layer, by hand: 40 tokens, 17 + 3 of them behind layer 0 and 9 + 3 behind layer 2
    residual, left = model.backbone.embedding(ids), torch.arange(40).expand(2, -1)
    for index, layer in enumerate(model.layers()):
        steps = []
        layer.mixer(layer.norm(residual), zero_layer(model, index), lambda d, steps=steps: steps.append(d.dt) or d)
        count = {0: 17, 2: 9}.get(index)
        everything = torch.arange(residual.shape[1]).expand(2, -1)
        chosen = everything if count is None else largest(steps[0], count, 3)
        mixed = mixed_by_hand(layer.mixer, layer.norm(residual), chosen)
        residual = torch.stack([row[index] for row, index in zip(residual, chosen, strict=True)]) + mixed
        left = left.gather(1, chosen)
    assert left.shape == (2, 12)
    assert torch.equal(got.kept, left)
    torch.testing.assert_close(got.hidden, model.backbone.norm_f(residual), rtol=1e-9, atol=1e-9)
    assert not torch.equal(got.kept[0], got.kept[1])  # each text keeps its own
    alone = model(ids[1:], intervention=rule)
    torch.testing.assert_close(got.hidden[1:], alone.hidden, rtol=1e-9, atol=1e-9)


def zero_layer(model, index):
    return model.zero_state(2).layers[index]


@pytest.mark.parametrize("arch", ARCHS)
def test_a_budget_that_all_tokens_fit_leaves_every_logit(make_task, arch):
    model, ids = make_task(arch).model, ids_of(make_task(arch), 60)
    plain = model(ids).logits()
    for rule in (Decimation((1,), (60,), 1), Decimation((0, 1, 2), (57, 57, 57), 3)):
        (block,) = model.stream(ids, intervention=rule)
        assert torch.equal(block.logits(), plain)
        assert block.kept is None
    (block,) = model.stream(ids, intervention=Decimation((1,), (56,), 3))
    assert block.kept.shape == (2, 59)


@pytest.mark.parametrize("arch", ARCHS)
def test_decoding_goes_on_from_what_was_kept_and_is_left_alone(make_task, arch):
    task = make_task(arch)
    setup = setup_of(fit(find_method("decimamba:1"), task), task.model, 64)
    assert isinstance(setup.intervention, WholePrompt)
    ids = ids_of(task, 65)
    (block,) = task.model.stream(ids[:, :64], intervention=setup.intervention)
    assert block.kept.shape == (2, 20 + 1)  # T = 16, and no fewer than 20; the last one to go on from
    assert block.kept[:, -1].tolist() == [63, 63]
    assert block.state.position == 64
    after = task.model(ids[:, 64:], block.state, setup.intervention)
    assert torch.equal(after.logits(), task.model(ids[:, 64:], block.state).logits())
    added = task.model.generate(ids[:, :64], 3, intervention=setup.intervention)
    assert torch.equal(added[:, 0], block.logits()[:, -1].argmax(-1))
    again = task.model.generate(ids[:, :64], 3, intervention=setup.intervention)
    assert torch.equal(added, again)


def test_setups_know_length_and_tail(make_task):
    task = make_task()
    found = fit(find_method("decimamba:0+2"), task)
    # L_base = T = 16; of 16 and 8 both are held at 20: 21 tokens with one of them the tail are within the budget
    assert setup_of(found, task.model, 21).name == "none"
    setup = setup_of(found, task.model, 22)
    assert setup.intervention.budgets == {0: 20, 2: 20}
    assert (setup.by_length, setup.last_only, setup.intervention.tail) == (True, True, 1)
    names = {setup_of(found, task.model, n, tail).name for n, tail in ((64, 1), (128, 1), (128, 101))}
    assert len(names) == 3
    assert setup_of(found, task.model, 128, 101).intervention.tail == 101


def test_a_text_within_the_first_budget_may_exceed_the_second(make_task):
    # L_base = T = 64: 64 and 32 tokens before a tail of one
    task = make_task(train_length=64, fit_length=128)
    found = fit(find_method("decimamba:0+2"), task)
    assert setup_of(found, task.model, 33).intervention is None
    rule = setup_of(found, task.model, 34).intervention
    assert rule is not None
    assert rule.budgets == {0: 64, 2: 32}
    (block,) = task.model.stream(ids_of(task, 34), intervention=rule)
    assert block.kept.shape == (2, 33)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_layer_is_the_one_with_the_fewest_bits_on_validation_text(make_task, arch):
    ticks = []
    task = make_task(arch, tick=ticks.append)
    found = fit(find_method("decimamba"), task)
    # 4 T + 101 = 165 tokens, one passage each of 2 documents of 300
    ids = np.stack([d.ids[:165] for d in task.texts.validation])
    bits = [last_bits(task.model, ids, Decimation((k,), (20,), 101), 100).mean() for k in range(3)]
    np.testing.assert_allclose(found.arrays["search_bits"], bits, rtol=1e-5)
    assert found.arrays["layers"].tolist() == [int(np.argmin(bits))]
    assert found.passes == sum(ticks) / 32 == 3 * 2 * 165 / 32
    assert f"layer {np.argmin(bits)} of 3" in found.how
    assert "165 tokens" in found.how


def test_a_search_needs_text_that_is_long_enough(make_task):
    task = make_task()
    # 101 tokens of tail, and as many again that are dropped as are kept (20 at least, T = 16 here): 141 tokens
    short = replace(task, texts=replace(task.texts, validation=(Document("s", np.arange(140) % 50),)))
    with pytest.raises(RefusedInputError, match="140 tokens are too short to search for a layer; expected 141"):
        fit(find_method("decimamba"), short)
    fit(find_method("decimamba:1"), short)
    longer = replace(task, texts=replace(task.texts, validation=(Document("s", np.arange(141) % 50),)))
    assert len(set(fit(find_method("decimamba"), longer).arrays["search_bits"])) == 3


def test_it_is_read_again_and_not_made_again(make_task, tmp_path, monkeypatch):
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        first = fit(find_method("decimamba"), make_task(run=run))
    monkeypatch.setattr(module, "last_bits", lambda *_: pytest.fail("made again"))
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        again = fit(find_method("decimamba"), make_task(run=run))
    assert again.to_dict() == first.to_dict()
    for key, array in first.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)
    model = make_task().model
    assert setup_of(again, model, 64).name == setup_of(first, model, 64).name


@pytest.mark.parametrize("rest", ["", "x", "1+", "2+1", "1+1", "-1", "1.5", "1,2"])
def test_wrong_layers_are_refused(rest):
    with pytest.raises(RefusedInputError, match="ascending order, as in decimamba:1"):
        find_method(f"decimamba:{rest}")


def test_layers_that_the_model_lacks_are_refused(make_task):
    assert find_method("decimamba:1+2").name == "decimamba:1+2"
    with pytest.raises(RefusedInputError, match="layers from 0 to 2"):
        fit(find_method("decimamba:3"), make_task())
