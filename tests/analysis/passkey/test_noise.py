"""Test ``mambascope.analysis.passkey.noise``: whole sentences in order, cut to the token."""

import numpy as np
import pytest

from mambascope.analysis.passkey.noise import SHORTEST, Noise, sentences
from mambascope.spectra.errors import TextError
from mambascope.spectra.tokens import encode_bytes

SAID = b'It rained on the town. "Did it?" said\nMrs. Dale.  No. 5 was\nDr. J. Fox (of Kent). He left at dawn!'


def test_sentences_end_where_a_reader_would_end_them():
    assert sentences(SAID.decode()) == [
        "It rained on the town.",
        '"Did it?" said Mrs. Dale.',
        "No. 5 was Dr. J. Fox (of Kent).",
        "He left at dawn!",
    ]
    assert sentences("no end here") == ["no end here"]
    assert sentences(" \n ") == []


def test_short_sentences_are_left_out_and_the_others_kept_in_order():
    noise = Noise.of([b"Too few. This one is long enough. No! So is the one at the end."], encode_bytes)
    assert bytes(noise.ids) == b"This one is long enough. So is the one at the end. "
    assert noise.starts.tolist() == [0, 25]
    assert SHORTEST == 10
    with pytest.raises(TextError, match="no sentence"):
        Noise.of([b"No. Or yes? No."], encode_bytes)


@pytest.mark.parametrize("tokens", [0, 1, 24, 25, 26, 51, 52, 200])
@pytest.mark.parametrize("first", [0, 1])
def test_noise_goes_round_and_has_the_exact_length(first, tokens):
    noise = Noise.of([b"This one is long enough. So is the one at the end."], encode_bytes)
    ids, ends = noise.take(first, tokens)
    ring = bytes(noise.ids) * 6
    start = int(noise.starts[first])
    assert bytes(ids) == ring[start : start + tokens]
    assert ends[-1] == tokens
    assert np.all(np.diff(ends) > 0)
    for end in ends[:-1]:
        assert bytes(ids[end : end + 2]) in {b"Th", b"So", b"T", b"S"}
    assert len(ends) - 1 == sum(start + k in {0, 25, 51, 76, 102, 127, 153, 178, 204, 229} for k in range(tokens))
