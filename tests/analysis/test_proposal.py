"""Test ``mambascope.analysis.proposal`` and ``goals``: rules by name, goals, what is given up, what is stored."""

import json

import numpy as np
import pytest

from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.goals import GOALS
from mambascope.analysis.proposal import followed_tokens, propose, propose_for
from mambascope.analysis.rules import RULES
from mambascope.simulate import soft_clip
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import load
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import text_files


def texts(length):
    return [Document(p.name, np.frombuffer(p.read_bytes(), np.uint8)[:length]) for p in text_files("calibration")]


@pytest.fixture(scope="module", params=["mamba2-tiny", "mamba-tiny"])
def broken(request):
    tokens, reach = followed_tokens(texts(2048), 256, 2048)
    return diagnose(load(request.param), tokens, train_length=256, target_length=reach, writes=True)


@pytest.fixture(scope="module")
def usual():
    tokens, reach = followed_tokens(texts(2048), 256, 2048)
    return diagnose(load("mamba2-tiny-usual"), tokens, train_length=256, target_length=reach, writes=True)


def test_the_default_is_the_soft_clip_bit_for_bit(broken):
    found = propose(broken)
    expected = np.stack([soft_clip(1 / tau, 256) for tau in broken.spectrum.horizons_tokens()])
    np.testing.assert_array_equal(found.scales.factors[0].values.numpy(), expected)
    assert [f.kind for f in found.scales.factors] == ["a"]
    assert (found.rule, found.goal) == ("soft-clip", "perplexity")
    assert next(iter(GOALS)) == "perplexity"
    assert not RULES[found.rule].why_not_baked(load("mamba2-tiny").config)


def test_goals_keep_more_memory_the_more_they_are_for_recall(broken):
    kept = [float(propose(broken, goal=goal).memory().energy_after.mean()) for goal in GOALS]
    before = float(propose(broken).memory().energy_before.mean())
    assert kept == sorted(kept)
    assert kept[0] < 0.4 * before
    assert 0.6 * before < kept[-1] < before
    assert "NOT on a recall task" in GOALS["retrieval"].why
    for goal in GOALS.values():
        found = propose(broken, goal=goal.name)
        assert found.rule == goal.rule
        assert "tokens back" in str(found)


@pytest.mark.parametrize("rule", [*RULES, "hard-clip:3"])
def test_every_rule_makes_a_proposal_that_tells_itself(broken, rule, tmp_path):
    found = propose(broken, rule=rule, target_length=4096)
    assert found.acts == (rule != "none")
    assert len(found.rows()) == len(found.memory().rows()) == 4
    assert found.memory().length == 4096
    path = tmp_path / "scales.json"
    path.write_text(json.dumps(found.to_dict()))
    assert json.dumps(Scales.load(path).to_dict()) == json.dumps(found.scales.to_dict())
    stored = json.loads(path.read_text())
    assert stored["note"] == found.reason
    assert stored["provenance"] | {"rule": rule, "target_length": 4096} == stored["provenance"]


@pytest.mark.parametrize("rule", ["soft-clip", "hard-clip:4", "solved", "joint", "layer-a", "layer-dt"])
def test_the_control_is_left_alone_and_would_hardly_be_changed(usual, rule):
    found = propose(usual, rule=rule)
    assert not found.acts
    assert "no memory is given up" in str(found)
    forced = propose(usual, rule=rule, always=True)
    factors = np.array([[row["factor_min"], row["factor_max"]] for row in forced.rows()])
    assert 0.8 < factors.min() <= factors.max() < 1.35


def test_rules_follow_the_length_asked_for(broken):
    near, far = (propose(broken, rule="rescaled-time", target_length=n).scales for n in (512, 4096))
    assert near.factors[0].values[0] == 8 * far.factors[0].values[0]
    for n in (512, 4096):
        assert propose(broken, target_length=n).scales.factors[0].values.equal(propose(broken).scales.factors[0].values)


def test_what_is_missing_or_unknown_is_refused(broken):
    with pytest.raises(RefusedInputError, match="rests on measured writes"):
        propose(
            diagnose(load("mamba2-tiny"), np.zeros((1, 600), int), train_length=256, target_length=600), rule="solved"
        )
    with pytest.raises(RefusedInputError, match="expected one of perplexity, balanced, retrieval"):
        propose(broken, goal="speed")
    with pytest.raises(RefusedInputError, match=r"did you mean soft-clip\? Expected one of soft-clip"):
        propose_for(load("mamba2-tiny"), texts(600), 256, 512, rule="softclip")


def test_documents_of_any_length_are_diagnosed_with_writes():
    found = propose_for(load("mamba2-tiny"), texts(700), 256, 100_000, rule="solved")
    assert found.diagnosis.target_length == 700
    assert found.target_length == 100_000
    assert found.acts
