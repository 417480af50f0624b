"""The text that a key is hidden in: whole sentences of real texts, one after the other, cut to an exact length.

A sentence ends at ``.``, ``!`` or ``?`` with the quotes and brackets that close on it, before a space and the start of
a next one; not after a title or an initial, nor between ``No.`` and a number. The rule is ours; the released code uses
a trained splitter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambascope.spectra.errors import TextError
from mambascope.spectra.tokens import Encode, Ids

SHORTEST = 10
"""Tokens of the shortest sentence that is used. Source: the released code of DeciMamba."""

_END = re.compile(r"(?<=[.!?])[\"'”’)\]]* (?=[\"'“‘(\[]?[A-Z0-9])")
_NO_END = re.compile(r"(?:^|[ (\"'“‘])(?:Mr|Mrs|Ms|Dr|St|Rev|Hon|Gen|Col|Capt|Lt|Prof|Messrs|[A-Z])\.$")
_NUMBERED = re.compile(r"(?:^|[ (\"'“‘])(?:No|Vol)\.$")


def sentences(text: str) -> list[str]:
    """Split a text into sentences; line breaks and runs of spaces become one space.

    Args:
        text: any text.

    Returns:
        Its sentences in order, without spaces around them.

    >>> sentences('He saw Mr. Dale. "Where?" she  cried. It rained.')
    ['He saw Mr. Dale.', '"Where?" she cried.', 'It rained.']
    """
    text = " ".join(text.split())
    found, first = [], 0
    for end in _END.finditer(text):
        pattern = _NUMBERED if text[end.end()].isdigit() else _NO_END
        if not pattern.search(text, max(first - 1, end.start() - 12, 0), end.start()):
            found.append(text[first : end.end()].rstrip())
            first = end.end()
    return [*found, text[first:]] if text[first:] else found


@dataclass(frozen=True)
class Noise:
    """Sentences as token ids, each with a space after it, laid in a ring."""

    ids: Ids
    """All sentences in order, (tokens,)."""
    starts: npt.NDArray[np.int64]
    """Where each sentence starts, (sentences,)."""
    space: int
    """Id of a single space: where no sentence ends near by, a word does."""

    @classmethod
    def of(cls, texts: Iterable[bytes], encode: Encode) -> Noise:
        """Make noise of texts.

        Args:
            texts: UTF-8; a broken character is replaced.
            encode: a model's encoder.

        Returns:
            All sentences of at least ``SHORTEST`` tokens, in order.

        Raises:
            TextError: there is none.
        """
        split = (sentence for text in texts for sentence in sentences(text.decode("utf-8", "replace")))
        long = (sentence for sentence in split if len(encode(sentence.encode(), "a sentence")) >= SHORTEST)
        pieces = [encode(f"{sentence} ".encode(), "a sentence") for sentence in long]
        if not pieces:
            raise TextError(f"no sentence of at least {SHORTEST} tokens in the text for the noise; give a longer one")
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        space = encode(b" ", "a space")
        return cls(np.concatenate(pieces), np.cumsum(lengths) - lengths, int(space[0]) if len(space) == 1 else -1)

    def take(self, first: int, tokens: int) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Take consecutive sentences, going round at the end; the last one is cut to make the length exact.

        Args:
            first: number of the first sentence.
            tokens: how many tokens.

        Returns:
            The ids, and the offsets at which a sentence starts or the text ends.
        """
        start = int(self.starts[first])
        inside = []
        for k in range((start + tokens) // len(self.ids) + 1):
            since = start - k * len(self.ids)
            low, high = np.searchsorted(self.starts, [since, since + tokens])  # a book has 10,000 sentences
            inside.append(self.starts[low:high] - since)
        return np.take(self.ids, np.arange(start, start + tokens), mode="wrap"), np.append(
            np.concatenate(inside), tokens
        )
