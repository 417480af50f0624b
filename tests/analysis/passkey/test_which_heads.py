"""Test ``mambascope.analysis.passkey.which_heads``: horizons before and after, counts, and agreement with theory."""

import numpy as np
import pytest
import torch

from mambascope.analysis.evidence import Evidence, LayerEvidence
from mambascope.analysis.passkey.which_heads import RULE, HeadChange, WhichHeads, _compared, which_heads
from mambascope.analysis.proposal import propose_for
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document
from tests.spectra.tiny import tiny_model


def evidence(horizons, arch="mamba2"):
    """One layer, T = 100."""
    tau = np.array(horizons)
    dt = np.ones(tau.shape[0])
    return Evidence(arch, 100, 400, (LayerEvidence(1 / tau, tau, dt, dt, 1 / tau, 2 / tau, None),))


def test_horizons_counts_and_rank_correlation_by_hand():
    # the slower a head, the more theory clips it, and the more these scales lengthen it: ranks are reversed, rho = -1
    proposed = np.array([[1.0, 1.5, 3.0, 9.0]])
    scales = scaling("dt", [[2.0, 1.05, 0.5, 0.5]]).then(scaling("a", [[1.0, 1.0, 1.0, 0.5]]))
    found = _compared("m", evidence([10.0, 100.0, 200.0, 800.0]), proposed, scales)
    assert [row.factor for row in found.rows] == pytest.approx([2.0, 1.05, 0.5, 0.25])
    assert [row.gain for row in found.rows] == pytest.approx([2.0, 1.05, 0.5, 0.5])
    assert [row.scaled_horizon_tokens for row in found.rows] == pytest.approx([5, 100 / 1.05, 400, 3200])
    assert [row.scaled_horizon_in_T for row in found.rows] == pytest.approx([0.05, 1 / 1.05, 4, 32])
    assert [row.what for row in found.rows] == ["clipped", "kept", "lengthened", "lengthened"]
    assert found.rank_correlation == pytest.approx(-1)
    told = found.sentences()
    assert len(told) == 3
    assert "lengthens the memory of 2 of 4 heads, clips that of 1 and leaves 1" in told[0]
    # medians of 2 T and 8 T, and of 4 T and 32 T
    assert "of the lengthened: 5 T before and 18 T after (medians); of the clipped: 0.1 T before and 0.05 T" in told[1]
    assert "has the wrong way round which heads: rank correlation of the factors -1.00" in told[2]
    assert told[2].endswith("and 2 of the 2 lengthened heads are ones that it clips.")


def test_scales_that_began_at_a_rule_are_told_by_what_changed():
    proposed = np.array([[1.0, 2.0, 4.0, 8.0, 16.0]])
    # hard-clip:1 at T = 100 clips these horizons by 1, 1, 2, 4 and 8; training has eased it by .99, .9, .8, .7 and .6
    scales = scaling("a", [[0.99, 0.9, 1.6, 2.8, 4.8]])
    found = _compared("m", evidence([10.0, 100.0, 200.0, 400.0, 800.0]), proposed, scales, "hard-clip:1")
    # ranks of the factors 2, 1, 3, 4, 5 against 1, 2, 3, 4, 5: rho = 1 - 6 (1 + 1) / (5 * 24) = 0.9
    assert found.rank_correlation == pytest.approx(0.9)
    assert found.change_correlation == pytest.approx(-1)
    assert "of which much is the start" in found.sentences()[2]
    assert "began at hard-clip:1, and what it changed correlates with soft-clip by -1.00" in found.sentences()[2]


def test_factors_that_are_all_alike_have_no_rank():
    found = _compared("m", evidence([10.0, 100.0]), np.array([[1.0, 2.0]]), scaling("a", 0.5))
    assert found.rank_correlation is found.p_value is None
    assert "no rank correlation" in found.sentences()[2]


def test_a_channel_counts_by_its_slowest_state_and_the_mean_factor():
    tau = np.array([[10.0, 40.0], [5.0, 8.0]])
    scales = scaling("a", [[[4.0, 1.0], [0.25, 0.25]]])
    found = _compared("m", evidence(tau, "mamba"), np.array([[1.0, 2.0]]), scales)
    assert [row.factor for row in found.rows] == pytest.approx([2.0, 0.25])  # geometric means
    assert [row.horizon_tokens for row in found.rows] == [40, 8]
    assert [row.scaled_horizon_tokens for row in found.rows] == pytest.approx([40, 32])


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_theory_agrees_with_itself_and_with_the_proposal(arch):
    model, rng = tiny_model(arch), np.random.default_rng(0)
    documents = [Document(str(k), rng.integers(0, 50, 300)) for k in range(3)]
    proposal = propose_for(model, documents, 16, 64, rule=RULE, always=True).scales
    ours, other = which_heads(model, documents, 16, {"itself": proposal, "shorter": scaling("a", 2.0)})
    assert ours.rank_correlation == pytest.approx(1)
    factors = torch.tensor([row.factor for row in ours.rows])
    torch.testing.assert_close(factors, torch.tensor([row.proposed for row in ours.rows]))
    assert len(ours.rows) == 3 * (48 if arch == "mamba" else 6)
    assert {row.what for row in other.rows} == {"clipped"}
    assert ours.to_dict()["heads"][0].keys() >= {"layer", "head", "factor", "horizon_in_T", "what"}
    assert isinstance(ours, WhichHeads)
    assert isinstance(ours.rows[0], HeadChange)
