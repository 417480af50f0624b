"""State updates per second of the simulator against numpy and scipy, dense Gaussian input, one thread, one run.

Every method draws independent standard normals for each channel and step and runs h = lambda h + z on 1,024 channels.
"""

import time

import numpy as np
import pytest
import scipy.signal

from mambascope.simulate.laws import uniform
from mambascope.simulate.recurrence import Recurrence
from mambascope.simulate.threefry import key_words

pytestmark = pytest.mark.bench
CHANNELS = 1024
BLOCK = 1000  # steps whose noise numpy draws at once


def rate(work, updates, repeats=5):
    """Best of several; a machine is never faster than it is."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return updates / best


def test_simulator_against_numpy_and_scipy(capsys):
    recurrence, key = Recurrence("diagonal", CHANNELS, uniform(0, 0.99)), key_words(1)
    decay = np.exp(-recurrence.rates(key, 0, 1)[0])
    rng, noise, rows = np.random.default_rng(0), np.empty((BLOCK, CHANNELS)), np.empty((CHANNELS, BLOCK))
    times = np.array([20_000])

    def numpy_loop():
        h = np.zeros(CHANNELS)
        for _ in range(4):
            rng.standard_normal(out=noise)
            for z in noise:
                np.multiply(h, decay, out=h)
                np.add(h, z, out=h)

    def filtered(draw):
        state = np.zeros((CHANNELS, 1))
        for _ in range(2):
            if draw:
                rng.standard_normal(out=rows)
            for c in range(CHANNELS):  # contiguous in time, which suits it best
                _, state[c] = scipy.signal.lfilter([1.0], [1.0, -decay[c]], rows[c], zi=state[c])

    recurrence.squared_norms(key, times, 0, 1)
    rng.standard_normal(out=rows)
    ours = rate(lambda: recurrence.squared_norms(key, times, 0, 1), times[0] * CHANNELS)
    draws = rate(lambda: rng.standard_normal(out=noise), noise.size)
    loop = rate(numpy_loop, 4 * noise.size, 3)
    whole = rate(lambda: filtered(True), 2 * noise.size, 2)
    given = rate(lambda: filtered(False), 2 * noise.size, 2)
    with capsys.disabled():
        print(
            f"\nsimulator {ours:.3g} updates/s; numpy draws {draws:.3g} normals/s, ratio {ours / draws:.1f}"
            f"\nnumpy loop {loop:.3g}, ratio {ours / loop:.1f}; lfilter with its noise {whole:.3g}, "
            f"ratio {ours / whole:.1f}; lfilter on noise drawn before {given:.3g}, ratio {ours / given:.1f}"
        )
    assert ours >= 10 * loop
    assert ours >= 5 * whole
    assert ours >= 10 * draws  # 1e9 a second where numpy draws 1e8
