"""analysis/methods/winsorize.py: each layer's decays clipped at its percentiles, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambascope.analysis.methods import find_method, fit, setup_of
from mambascope.analysis.mode_rules import winsorize_static_rule
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.mode_statistics import ModeStatistics


def with_decays(task, layer, decays):
    task.model.layers()[layer].mixer.A_log.copy_(torch.tensor(-np.log(decays)).log())
    return task


def clipped(task, name, layer):
    """Return decays after the method's factors."""
    factors = fit(find_method(name), task).scales.factors[0].values[layer].numpy()
    return np.exp(-task.model.layers()[layer].mixer.A_log.double().exp().numpy() * factors)


def test_worked_percentiles_of_six_heads(make_task):
    task = with_decays(make_task(), 1, np.array([0.5, 0.1, 0.9, 0.3, 0.2, 0.4]))
    # sorted: .1 .2 .3 .4 .5 .9; percentile q lies at index 5 q / 100. q = 20: indices 1 and 4, so .2 and .5
    np.testing.assert_allclose(clipped(task, "winsorize:20", 1), [0.5, 0.2, 0.5, 0.3, 0.2, 0.4], rtol=1e-6)
    # q = 10: indices .5 and 4.5, halfway between neighbours: (.1 + .2) / 2 = .15 and (.5 + .9) / 2 = .7
    np.testing.assert_allclose(clipped(task, "winsorize:10", 1), [0.5, 0.15, 0.7, 0.3, 0.2, 0.4], rtol=1e-6)


def test_a_layer_of_mamba1_is_one_spectrum_over_channels_and_states(make_task):
    task = make_task("mamba")
    decays = np.exp(-task.model.layers()[2].mixer.A_log.double().exp().numpy())
    low, high = np.percentile(decays, (8, 92))
    new = clipped(task, "winsorize", 2)
    assert new.shape == (48, 8)
    np.testing.assert_allclose(new, decays.clip(low, high), rtol=1e-12)


def test_untouched_modes_have_a_factor_of_exactly_one_and_the_others_are_counted(make_task):
    # 6 heads at 8 %: index .4, so the lowest and the highest head of each layer, 2 of 6
    found = fit(find_method("winsorize"), make_task())
    values = found.scales.factors[0].values
    assert (values == 1).sum() == 3 * 4
    assert "33.3% of the modes changed" in found.how
    assert found.bakes == "yes"
    assert found.passes == 0


def test_the_rule_of_the_same_source_clips_alike(make_task):
    task = make_task("mamba")

    rates = [layer.mixer.A_log.double().exp().numpy() for layer in task.model.layers()]
    by_rule = winsorize_static_rule(SimpleNamespace(layers=[SimpleNamespace(rate=rate) for rate in rates]), 5.0)
    assert fit(find_method("winsorize:5"), task).scales.to_dict() == by_rule.to_dict()


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_no_percent_leaves_every_logit_and_some_do_not(make_task, arch):
    task = make_task(arch)
    ids = torch.from_numpy(task.texts.test[0].ids[None, :40].astype(np.int64))
    plain = task.model(ids).logits()
    neutral = fit(find_method("winsorize:0"), task)
    assert torch.equal(task.model(ids, intervention=neutral.scales).logits(), plain)
    assert setup_of(neutral, task.model, 128).name == "none"
    acting = setup_of(fit(find_method("winsorize:20"), task), task.model, 128)
    assert not torch.equal(task.model(ids, intervention=acting.intervention).logits(), plain)
    assert task.model.generate(ids, 3, intervention=acting.intervention).shape == (1, 3)


def test_no_text_is_read(make_task, monkeypatch):
    monkeypatch.setattr(ModeStatistics, "update", lambda *_: pytest.fail("text was read"))
    ticks = []
    fit(find_method("winsorize"), make_task(tick=ticks.append))
    assert not ticks


def test_it_is_read_again_from_a_run_folder(make_task, tmp_path):
    found = []
    for _ in range(2):
        with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
            found.append(fit(find_method("winsorize:7"), make_task(run=run)).to_dict())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["winsorize:50", "winsorize:-1", "winsorize:x", "winsorize:nan", "winsorize:"])
def test_wrong_percents_are_refused(name):
    with pytest.raises(RefusedInputError, match="from 0 to below 50"):
        find_method(name)
    assert find_method("winsorize:7.5").name == "winsorize:7.5"
    assert "secondary" in str(find_method("winsorize:7.5").describe())
