"""figures/calibration.py: every look at the selection windows, and every factor before and after."""

import numpy as np
import pytest

from mambascope.figures.calibration import calibration_figure


def test_looks_and_the_kept_step_are_drawn(studies, refined_of):
    study = refined_of(studies["mamba2"])
    passes, _ = calibration_figure(study).axes
    lines = {line.get_label(): line for line in passes.lines}
    looks = [(s.passes, s.selection.tail) for s in study.refined.found.history if s.selection]
    assert list(zip(*lines["looked at"].get_data(), strict=True)) == looks
    assert lines["kept: step 10"].get_xdata()[0] == 208
    assert lines["start: spectrum-guided"].get_ydata()[0] == 2.2
    assert passes.get_xlabel() == "forward passes over windows of 1,024 tokens"


@pytest.mark.parametrize("name", ["mamba2", "mamba"])
def test_factors_are_drawn_before_and_after(studies, refined_of, name):
    study = refined_of(studies[name])
    axes = calibration_figure(study).axes[1]
    drawn = [line for line in axes.lines if line.get_label().startswith("layer")]
    assert len(drawn) == 2
    for layer, line in enumerate(drawn):
        values = study.proposal.scales.factors[0].values[layer].numpy().ravel()
        assert set(line.get_xdata()) <= set(values)
        np.testing.assert_allclose(line.get_ydata(), 1.1 * np.array(line.get_xdata()))
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_a_study_that_was_not_refined_is_refused(studies):
    with pytest.raises(ValueError, match="no scales were refined"):
        calibration_figure(studies["mamba"])
