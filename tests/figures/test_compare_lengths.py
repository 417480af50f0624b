"""figures/compare_lengths.py: multiples of T beside plain lengths."""

import argparse

import pytest

from mambascope.figures.compare_lengths import length_or_times, lengths_or_times


@pytest.mark.parametrize(
    ("text", "at_256", "plain"),
    [
        ("16T,64T,128T", [4096, 16384, 32768], ["16T", "64T", "128T"]),
        ("T..8t", [256, 512, 1024, 2048], ["1T", "2T", "4T", "8T"]),
        ("4k,16T", [4096], [4096, "16T"]),
        ("512..2k", [512, 1024, 2048], [512, 1024, 2048]),
    ],
)
def test_lengths_are_read_for_each_model(text, at_256, plain):
    found = lengths_or_times(text)
    assert found.at(256) == at_256
    assert found.plain() == plain


def test_the_same_words_are_other_tokens_for_another_model():
    assert lengths_or_times("16T,64T").at(512) == [8192, 32768]
    assert length_or_times("8T").at(512) == 4096


@pytest.mark.parametrize("text", ["", "16x", "0T", "T4", "2k..T", "8T..2T", "-1T"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        lengths_or_times(text)
