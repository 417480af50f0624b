"""Test ``mambascope.simulate.claims.stationary``."""

import math

import pytest

from mambascope.simulate.claims.stationary import MISSING, stationary_steps
from mambascope.simulate.modes import energy_gain


@pytest.mark.parametrize("decay", [0.002, 0.3, 0.9, 0.99, 0.9999])
def test_no_more_is_missing_than_promised_and_no_step_is_wasted(decay):
    rate, steps = -math.log(decay), stationary_steps(decay)
    level = float(energy_gain(rate, math.inf))
    assert steps % 4 == 0
    assert 1 - float(energy_gain(rate, steps)) / level <= MISSING
    assert steps == 4 or 1 - float(energy_gain(rate, steps - 4)) / level > MISSING
