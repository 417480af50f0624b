"""Test ``mambascope.simulate.recurrence`` and its kernels against the recurrence written out in numpy."""

import os
import platform
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from mambascope.simulate._kernels import exp_negative, fill_normals
from mambascope.simulate.laws import LogUniform, point, uniform
from mambascope.simulate.recurrence import Recurrence
from mambascope.simulate.step_laws import Constant, InputLaw, Markov, SoftplusNormal, Trace
from mambascope.simulate.step_transforms import Gamma
from mambascope.simulate.threefry import key_words

TIMES = np.array([1, 2, 7, 64, 65])
KEY = key_words(4, "test")

VARIETIES = {
    "diagonal": Recurrence("diagonal", 5, uniform(0.1, 0.95)),
    "scalar identity": Recurrence("scalar_identity", 5, LogUniform(0.01, 1), steps=Constant(0.3)),
    "zero-order hold": Recurrence("diagonal", 3, LogUniform(0.01, 9), steps=Constant(0.4), discretisation="zoh"),
    "mixing": Recurrence("diagonal", 4, uniform(0, 0.9), mixing=6),
    "correlated, with mean": Recurrence("diagonal", 3, uniform(0, 0.9), inputs=InputLaw(2.0, 0.3, -0.6)),
    "correlated and mixed": Recurrence("diagonal", 3, uniform(0, 0.9), inputs=InputLaw(0.5, 0.3, 0.8), mixing=2),
    "constant input": Recurrence("diagonal", 2, uniform(0, 0.9), inputs=InputLaw(0.0, 1.5)),
}
RANDOM_STEPS = {
    "gamma": Gamma(0.5, 0.2),
    "softplus": SoftplusNormal(-2, 1),
    "markov": Markov((0.01, 0.5, 0.1), ((0.9, 0.1, 0.0), (0.0, 0.9, 0.1), (0.2, 0.0, 0.8))),
    "trace": Trace(((0.1, 0.2, 0.3, 0.4), (0.9, 0.8, 0.7, 0.6))),
}


def noise(width, trials, steps):
    """The simulator's own normals, (trials, steps, width)."""
    lanes = width * trials
    channel = np.repeat(np.arange(width, dtype=np.uint32), trials)
    low = np.tile(np.arange(trials, dtype=np.uint32), width)
    out, z = np.empty((trials, 4 * -(-steps // 4), width)), np.empty((4, lanes), np.float32)
    for block in range(-(-steps // 4)):
        fill_normals(KEY, block, channel, low, np.zeros(lanes, np.uint32), z)
        out[:, 4 * block : 4 * block + 4] = z.reshape(4, width, trials).transpose(2, 0, 1)
    return out[:, :steps]


def by_hand(recurrence, trials):
    """Squared norms of the recurrence, step by step in numpy, from the same random numbers."""
    a, dt = recurrence.rates(KEY, 0, trials), recurrence.steps.dt
    z = noise(recurrence.mixing or recurrence.channels, trials, TIMES[-1])
    law = recurrence.inputs
    e = z.copy()
    for t in range(1, z.shape[1]):
        e[:, t] = law.rho * e[:, t - 1] + np.sqrt(1 - law.rho**2) * z[:, t]
    u = law.mean + np.sqrt(law.variance) * e
    if recurrence.mixing:
        u = np.einsum("ndm,ntm->ntd", recurrence.mixing_matrix(KEY, 0, trials), u)
    gain = dt if recurrence.discretisation == "euler" else -np.expm1(-a * dt) / a
    h, norms = np.zeros_like(a), []
    for t in range(z.shape[1]):
        h = np.exp(-a * dt) * h + gain * u[:, t]
        if t + 1 in TIMES:
            norms.append(np.square(h).sum(1))
    return np.stack(norms, axis=1)


@pytest.mark.parametrize("name", VARIETIES)
def test_equals_the_recurrence_written_out(name):
    found = VARIETIES[name].squared_norms(KEY, TIMES, 0, 9)
    np.testing.assert_allclose(found, by_hand(VARIETIES[name], 9), rtol=1e-12)


@pytest.mark.parametrize("name", [*VARIETIES, *RANDOM_STEPS])
def test_a_trial_has_the_same_bits_wherever_it_runs(name):
    """Alone, in any group, with any neighbours: byte for byte."""
    recurrence = VARIETIES.get(name) or Recurrence("diagonal", 3, uniform(0, 0.9), steps=RANDOM_STEPS[name])
    whole = recurrence.squared_norms(KEY, TIMES, 0, 1500)
    for first, count in ((0, 1), (1, 6), (680, 5), (682, 700), (1499, 1)):
        part = recurrence.squared_norms(KEY, TIMES, first, count)
        assert part.tobytes() == whole[first : first + count].tobytes()


@pytest.mark.parametrize("channels", [1, 7, 1024, 3000])
def test_the_bits_do_not_depend_on_the_number_of_channels_beside_it(channels):
    times = np.array([3, 20])
    recurrence = Recurrence("diagonal", channels, uniform(0, 0.9))
    whole = recurrence.squared_norms(KEY, times, 0, 12)
    parts = [recurrence.squared_norms(KEY, times, n, 1) for n in range(12)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_intermediate_times_change_nothing():
    recurrence = VARIETIES["mixing"]
    whole = recurrence.squared_norms(KEY, TIMES, 0, 20)
    np.testing.assert_array_equal(recurrence.squared_norms(KEY, TIMES[-1:], 0, 20), whole[:, -1:])


@pytest.mark.parametrize(
    ("law", "mean", "square"),
    [
        (Gamma(0.5, 0.2), 0.1, 0.5 * 1.5 * 0.04),
        (Gamma(3.0, 0.1), 0.3, 3 * 4 * 0.01),
        (SoftplusNormal(-4, 2), None, None),
        (RANDOM_STEPS["markov"], None, None),
    ],
)
def test_step_sizes_have_the_moments_of_their_law(law, mean, square):
    """One step from zero with a constant input of 1 shows dt itself. |z| > 5.5 has a chance of 4e-8."""
    recurrence = Recurrence("diagonal", 1, point(0.5), steps=law, inputs=InputLaw(0.0, 1.0))
    dt = np.sqrt(recurrence.squared_norms(KEY, np.array([1]), 0, 100_000)[:, 0])
    if isinstance(law, SoftplusNormal):
        drawn = np.logaddexp(0, law.mu + law.sigma * np.random.default_rng(0).standard_normal(4_000_000))
        mean, square = drawn.mean(), np.square(drawn).mean()
    if isinstance(law, Markov):
        pi = law.stationary()
        mean, square = pi @ law.values, pi @ np.square(law.values)
        assert set(np.round(dt, 12)) == set(law.values)
    assert abs(dt.mean() - mean) / (dt.std() / np.sqrt(dt.size)) < 5.5
    assert abs(np.square(dt).mean() - square) / (np.square(dt).std() / np.sqrt(dt.size)) < 5.5


def test_a_chain_stays_where_it_is_as_often_as_it_should():
    """With no decay and input 1 the state is the sum of steps: two equal steps in a row show the chain's memory."""
    law = Markov((1.0, 2.0), ((0.9, 0.1), (0.3, 0.7)))
    recurrence = Recurrence("diagonal", 1, point(1.0), steps=law, inputs=InputLaw(0.0, 1.0))
    total = np.sqrt(recurrence.squared_norms(KEY, np.array([1, 2]), 0, 50_000))
    first, second = total[:, 0].round(), (total[:, 1] - total[:, 0]).round()
    for i, value in enumerate(law.values):
        here = second[first == value]
        stayed = np.mean(here == value)
        assert abs(stayed - law.transition[i][i]) < 5.5 * np.sqrt(0.25 / here.size)


def test_a_trace_is_read_in_order_and_wraps():
    rows = RANDOM_STEPS["trace"].rows
    recurrence = Recurrence("diagonal", 1, point(1.0), steps=RANDOM_STEPS["trace"], inputs=InputLaw(0.0, 1.0))
    total = np.sqrt(recurrence.squared_norms(KEY, np.arange(1, 7), 0, 500))
    steps = np.diff(np.concatenate([np.zeros((500, 1)), total], axis=1), axis=1).round(10)
    allowed = {tuple(np.resize(np.roll(row, -k), 6).round(10)) for row in rows for k in range(4)}
    assert {tuple(row) for row in steps} == allowed


def test_rates_and_mixing_drawn_once():
    recurrence = Recurrence("diagonal", 4, uniform(0, 0.9), mixing=3, redraw=False)
    rates, B = recurrence.rates(KEY, 5, 8), recurrence.mixing_matrix(KEY, 5, 8)
    assert (rates == rates[0]).all()
    assert (B[0] == B).all()
    assert not (Recurrence("diagonal", 4, uniform(0, 0.9)).rates(KEY, 5, 8) == rates[0]).all(axis=1)[1:].any()


def test_exponential_of_the_kernels():
    r = np.concatenate([np.geomspace(1e-17, 700, 20_001), [0.0, 708.0, 709.0, 1e9, np.inf]])
    found = np.array([exp_negative(v) for v in r])
    np.testing.assert_allclose(found[:-3], np.exp(-r[:-3]), rtol=4e-16)
    assert (found[-3:] == 0).all()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares two kinds of x86-64 processors")
def test_the_bits_are_the_same_on_another_processor():
    """Compiled for the oldest 64-bit processor, without vector or fused instructions: byte for byte the same."""
    code = (
        "import numpy as np; from mambascope.simulate import Recurrence, uniform, InputLaw;"
        "from mambascope.simulate.threefry import key_words; import hashlib;"
        "r = Recurrence('diagonal', 5, uniform(0.1, 0.9), inputs=InputLaw(1.0, 0.2, 0.5), mixing=3);"
        "print(hashlib.sha256(r.squared_norms(key_words(4, 'bits'), np.array([3, 50]), 0, 40).tobytes()).hexdigest())"
    )
    digests = []
    for plain in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            other = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2", "NUMBA_CACHE_DIR": folder}
            environment = os.environ | (other if plain else {})
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        digests.append(done.stdout)
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


@pytest.mark.parametrize("times", [[], [0, 3], [3, 3], [4, 2], [2**31 + 1]])
def test_times_that_make_no_sense_are_refused(times):
    with pytest.raises(ValueError, match="ascending steps"):
        VARIETIES["diagonal"].squared_norms(KEY, np.array(times, dtype=np.int64), 0, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Recurrence("full", 2, point(0.5)),
        lambda: Recurrence("diagonal", 0, point(0.5)),
        lambda: Recurrence("diagonal", 2, point(0.5), mixing=0),
        lambda: Constant(0.0),
        lambda: Gamma(-1.0, 1.0),
        lambda: SoftplusNormal(0.0, 0.0),
        lambda: Markov((1.0, 2.0), ((0.5, 0.4), (0.5, 0.5))),
        lambda: Markov((1.0, -2.0), ((0.5, 0.5), (0.5, 0.5))),
        lambda: Trace(((1.0,), (1.0, 2.0))),
        lambda: Trace(((1.0, -3.0),)),
        lambda: Trace(((1.0, float("nan")),)),
        lambda: Markov((0.0, 0.0), ((0.5, 0.5), (0.5, 0.5))),
        lambda: InputLaw(-1.0),
        lambda: InputLaw(1.0, 0.0, 1.0),
    ],
)
def test_impossible_recurrences_are_refused(make):
    with pytest.raises(ValueError, match=r"expected|needs"):
        make()
