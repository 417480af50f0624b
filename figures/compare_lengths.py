"""Lengths in multiples of a model's own training length: ``16T``, ``T..64T``, beside plain ones: ``32k``."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from .arguments import length


@dataclass(frozen=True, slots=True)
class OneLength:
    """A number of tokens, or of training lengths."""

    count: int
    """How many."""
    times_T: bool
    """True for training lengths, False for tokens."""

    def at(self, train_length: int) -> int:
        """Return tokens, for a model trained on so many."""
        return self.count * (train_length if self.times_T else 1)

    def __str__(self) -> str:
        return f"{self.count}T" if self.times_T else str(self.count)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Several of them."""

    parts: tuple[OneLength, ...]
    """As they were written, ranges written out."""

    def at(self, train_length: int) -> list[int]:
        """Return tokens, ascending, for a model trained on so many."""
        return sorted({part.at(train_length) for part in self.parts})

    def plain(self) -> list[int | str]:
        """Return what a manifest says of them: tokens, and multiples of T as words."""
        return [str(part) if part.times_T else part.count for part in self.parts]


def length_or_times(text: str) -> OneLength:
    """Read one length.

    Args:
        text: what the user wrote.

    Returns:
        The length.

    Raises:
        argparse.ArgumentTypeError: it is none.

    >>> length_or_times("16T").at(256), length_or_times("4k").at(256), length_or_times("T").at(256)
    (4096, 4096, 256)
    """
    if match := re.fullmatch(r"([0-9]{0,6})[tT]", text.strip()):
        if match[1] and not int(match[1]):
            raise argparse.ArgumentTypeError(f"{text!r} is not a length; write T, 16T")
        return OneLength(int(match[1] or 1), times_T=True)
    try:
        return OneLength(length(text), times_T=False)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length; write 2048, 2k, 1m, 16T") from None


def lengths_or_times(text: str) -> Lengths:
    """Read several lengths, with commas; ``A..B`` is A, 2A, 4A up to B.

    Args:
        text: what the user wrote.

    Returns:
        The lengths.

    Raises:
        argparse.ArgumentTypeError: a part is no length, or a range runs backwards or mixes tokens with multiples.

    >>> lengths_or_times("T..4T,2k").at(256)
    [256, 512, 1024, 2048]
    """
    found: list[OneLength] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        low = length_or_times(first)
        high = length_or_times(last) if dots else low
        if low.times_T != high.times_T:
            raise argparse.ArgumentTypeError(f"{part!r} mixes tokens and multiples of T; write 4T..64T or 1k..16k")
        if high.count < low.count:
            raise argparse.ArgumentTypeError(f"{part!r} runs backwards; write {last}..{first}")
        count = low.count
        while count <= high.count:
            found.append(OneLength(count, low.times_T))
            count *= 2
    return Lengths(tuple(dict.fromkeys(found)))
