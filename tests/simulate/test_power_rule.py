"""Test ``mambascope.simulate.power_rule``: the exponent gives the asked-for rate or is refused."""

import numpy as np
import pytest

from mambascope.simulate.power_rule import POWERLESS, a_power
from mambascope.simulate.scale_rules import a_rule


def test_exponents_by_hand():
    found = a_power([0.01, 0.1, 0.5, 2, 16], 10.0)
    np.testing.assert_allclose(found.exponent, [0.5, 0, -2.32, 4.32, 1.83], atol=5e-3)
    assert found.solved.all()
    assert float(a_power(0.99, 10.0).exponent) == 1  # -228 would do it, and would tear every neighbour apart
    assert not a_power(0.99, 10.0).solved


def test_power_is_the_factor():
    a, train = np.geomspace(1e-4, 50, 61), 256
    s = a_rule(a * 1e-3, train, 16 * train, 0.05).rate
    found = a_power(a, s)
    np.testing.assert_allclose((a**found.exponent)[found.solved], (s * a)[found.solved], rtol=1e-12)
    assert np.all(np.isfinite(found.exponent))
    refused = ~found.solved
    assert np.all(np.abs(np.log(a[refused])) < POWERLESS)
    assert np.all(found.exponent[refused] == 1)
    assert np.all(found.exponent[a < 0.9] <= 1)  # modes slow by a small a want exponents below 1, the others above
    assert np.all(found.exponent[a > 1.2] >= 1)


def test_nothing_to_do_is_never_refused():
    found = a_power([0.5, 1.0, 2.0], 1.0)
    assert found.exponent.tolist() == [1, 1, 1]
    assert found.solved.all()
    with pytest.raises(FloatingPointError):
        a_power(0.0, 2.0)
