"""Test ``mambascope.simulate.claims.claim``."""

import numpy as np
import pytest

from mambascope.simulate.claims.claim import Drawn
from mambascope.simulate.threefry import INPUTS, key_words, normals


@pytest.mark.parametrize(("at_once", "calls"), [(None, [11]), (4, [4, 4, 3]), (11, [11]), (50, [11])])
def test_an_experiment_in_parts_is_the_same_experiment(at_once, calls):
    key, asked = key_words(0), []

    def draw(key, first, trials):
        asked.append(trials)
        return normals(key, INPUTS, first, trials, 3)

    np.testing.assert_array_equal(Drawn(draw, 1, at_once).run(key, 5, 11), normals(key, INPUTS, 5, 11, 3))
    assert asked == calls
