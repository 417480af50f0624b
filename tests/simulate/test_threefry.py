"""Test ``mambascope.simulate.threefry``: known answers, independence of layout, moments, distribution, tails."""

import numba
import numpy as np
import pytest
from scipy import stats

from mambascope.simulate.threefry import (
    DECAYS,
    INPUTS,
    MIXING,
    key_words,
    normal_pair,
    normals,
    open_uniform,
    scramble,
    uniforms,
)

PI = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89))
ONES = ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 4)
ZEROS = ((0,) * 4, (0,) * 4)


@numba.jit(nopython=True)
def block(key, counter):
    return scramble(key[0], key[1], key[2], key[3], counter[0], counter[1], counter[2], counter[3])


@numba.jit(nopython=True)
def pairs(first, second):
    out = np.empty((first.size, 2), np.float32)
    for k in range(first.size):
        out[k, 0], out[k, 1] = normal_pair(first[k], second[k])
    return out


@pytest.mark.parametrize(
    ("counter_and_key", "expected"),
    [  # the authors' published test vectors of Threefry-4x32 with 20 rounds (Random123, kat_vectors)
        (ZEROS, (0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8)),
        (ONES, (0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732)),
        (PI, (0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84)),
    ],
)
def test_known_answers(counter_and_key, expected):
    counter, key = (np.array(words, np.uint32) for words in counter_and_key)
    assert tuple(int(v) for v in block(key, counter)) == expected


def test_keys_differ_by_seed_label_and_type():
    keys = [key_words(0), key_words(1), key_words(0, "a"), key_words(0, "a", "b"), key_words(0, "ab"), key_words(0, 1)]
    keys += [key_words(0, "1"), key_words(-1), key_words(2**70)]
    assert len({k.tobytes() for k in keys}) == len(keys)
    assert all(k[3] == 0 for k in keys)
    assert key_words(5, "x").tobytes() == key_words(5, "x").tobytes()


def test_a_number_depends_on_key_purpose_trial_and_channel_alone():
    key = key_words(7)
    whole = uniforms(key, DECAYS, 0, 40, 9)
    np.testing.assert_array_equal(uniforms(key, DECAYS, 13, 5, 4), whole[13:18, :4])
    assert not np.isin(uniforms(key, MIXING, 0, 40, 9), whole).any()
    np.testing.assert_array_equal(normals(key, INPUTS, 3, 2, 6), normals(key, INPUTS, 0, 9, 6)[3:5])
    beyond = uniforms(key, DECAYS, 2**32 + 5, 1, 9)  # trial numbers have 64 bits
    assert not np.isin(beyond, whole).any()


def test_normals_equal_box_and_muller_in_double_precision():
    words = np.random.default_rng(0).integers(0, 2**32, (2, 200_000), dtype=np.uint32)
    words[:, :4] = [[0, 2**32 - 1, 1, 2**31], [0, 2**32 - 1, 2**30, 2**31]]
    found = pairs(words[0], words[1]).astype(np.float64)
    radius = np.sqrt(-2 * np.log(words[0] * 2.0**-32 + 2.0**-33))
    low = (words[1] << np.uint32(2)).view(np.int32) * 2.0**-32 * np.pi / 2
    sign = np.where(words[1] >> np.uint32(31), -1.0, 1.0)
    expected = np.stack([radius * np.sin(low), sign * radius * np.cos(low)], axis=1)
    swapped = ((words[1] >> np.uint32(30)) & np.uint32(1)).astype(bool)
    expected[swapped] = expected[swapped, ::-1]
    # the uniform is rounded to 24 bits: half a unit of them moves a radius r by 2^-24 / r, at most sqrt(2^-23)
    rounding = np.minimum(2.0**-24 / radius, 2.0**-11.5)[:, None]
    assert (np.abs(found - expected) <= rounding + 4e-7 * np.abs(expected)).all()


@pytest.fixture(scope="module")
def drawn():
    """Four million normals of the simulator's own stream, as (trials, channels)."""
    return normals(key_words(20), INPUTS, 0, 4000, 1000)


def test_moments(drawn):
    """Each statistic is standard normal under the truth; |z| > 6 has a chance of 2e-9."""
    n, z = drawn.size, drawn.ravel()
    found = {
        "mean": z.mean() * np.sqrt(n),
        "variance": (np.mean(z**2) - 1) * np.sqrt(n / 2),
        "skewness": np.mean(z**3) * np.sqrt(n / 15),
        "kurtosis": (np.mean(z**4) - 3) * np.sqrt(n / 96),
        "pairs": np.mean(drawn[:, 0::2] * drawn[:, 1::2]) * np.sqrt(n / 2),
        "channels": np.mean(drawn[:, 2:] * drawn[:, :-2]) * np.sqrt(n),
        "trials": np.mean(drawn[1:] * drawn[:-1]) * np.sqrt(n),
        "squares of pairs": np.mean((drawn[:, 0::2] ** 2 - 1) * (drawn[:, 1::2] ** 2 - 1)) * np.sqrt(n / 2) / 2,
    }
    assert max(map(abs, found.values())) < 6, found


def test_distribution(drawn):
    """Kolmogorov-Smirnov on 4e6 numbers; a chance of 1e-6 for a false alarm. The control: a variance off by 1 %."""
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-6
    assert stats.kstest(1.005 * drawn.ravel(), "norm").pvalue < 1e-6


@pytest.mark.parametrize("beyond", [2.0, 3.0, 4.0, 4.75])
def test_tails(drawn, beyond):
    """Counts beyond a threshold are Poisson; both tails, 1e-6 each side. The control: tails of Student's t_30."""
    expected = drawn.size * stats.norm.sf(beyond)
    low, high = stats.poisson.ppf(1e-6, expected), stats.poisson.isf(1e-6, expected)
    for sign in (1, -1):
        assert low <= np.count_nonzero(sign * drawn > beyond) <= high
    heavy = drawn.size * stats.t.sf(beyond, 30)
    assert heavy > high


def test_uniforms_are_open_and_even():
    u = uniforms(key_words(3), DECAYS, 0, 1000, 1000).ravel()
    assert 0 < u.min() < 1e-5
    assert 1 - 1e-5 < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-6
    assert open_uniform(np.uint32(0)) > 0
    assert open_uniform(np.uint32(2**32 - 1)) < 1
