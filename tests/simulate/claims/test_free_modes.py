"""Test ``mambascope.simulate.claims.free_modes``."""

import numpy as np

from mambascope.simulate.claims.free_modes import free_decay
from mambascope.simulate.replay import Change

A, DT = np.array([0.2, 1.0, 3.0]), np.random.default_rng(0).exponential(0.3, (5, 3))


def test_what_is_left_is_the_exponential_of_the_summed_steps():
    np.testing.assert_allclose(free_decay(A, DT), np.exp(-A * DT.sum(0)), rtol=1e-14)
    np.testing.assert_allclose(free_decay(A, DT, [Change("a_power", 0.5)]), np.exp(-np.sqrt(A) * DT.sum(0)), rtol=1e-14)


def test_inputs_add_to_it():
    left, written = free_decay(A, DT), free_decay(A, DT, writes=1.0)
    assert (written > left + DT[-1]).all()
