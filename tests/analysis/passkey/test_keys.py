"""Test ``mambascope.analysis.passkey.keys``: the parts share no key, however a key is written."""

import numpy as np
import pytest

from mambascope.analysis.passkey.keys import KEYS, draw_key, part_of

PARTS = ("train", "validation", "test")


def test_each_key_has_one_part_and_the_parts_have_the_sizes_that_are_stated():
    parts = np.array([part_of(number) for number in range(KEYS)])
    counts = [int((parts == part).sum()) for part in PARTS]
    assert sum(counts) == KEYS
    assert np.allclose(counts, [50_000, 25_000, 25_000], atol=800)  # 5 standard deviations of a binomial


@pytest.mark.parametrize("variant", ["padded", "released"])
@pytest.mark.parametrize("part", PARTS)
def test_drawn_keys_are_of_their_part(part, variant, rng):
    keys = [draw_key(rng, part, variant) for _ in range(2000)]
    assert {part_of(int(key)) for key in keys} == {part}
    assert len(set(keys)) > 1900
    if variant == "padded":
        assert {len(key) for key in keys} == {5}
    else:
        assert all(key == str(int(key)) for key in keys)
        assert {len(key) for key in keys} >= {3, 4, 5}
