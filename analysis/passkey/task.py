"""Passkey prompts of an exact length: head, context with the needle at a depth, and the question.

Pieces are encoded one by one and their ids joined, so that a context has exactly N tokens with any tokenizer. Text and
key of an example depend on the seed, the part and N, not on the depth: cells of one length differ in the depth alone.
Source: prompt, needle and depths of Ben-Kish et al. 2024 (DeciMamba), as in its released code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Encode, Ids

from .keys import DIGITS, Part, Variant, draw_key
from .noise import Noise

HEAD = "There is an important pass key hidden inside a lot of irrelevant text. Find it and memorize it:\n"
TAIL = "\nAnswer: "
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
JITTER = 0.1
"""Share of the noise within which a needle may lie off its depth. Source: the released code of DeciMamba."""


NEEDLE = ("The pass key is", ". Remember it.", " is the pass key. ")
"""What stands around the two mentions of a key."""


def needle(key: str) -> str:
    """Return the text that hides a key."""
    return f" {key}".join(NEEDLE)


@dataclass(frozen=True)
class Example:
    """One prompt and its answer."""

    ids: Ids
    """The prompt, (prompt_tokens,)."""
    key: str
    """The answer's digits."""
    key_ids: Ids
    """The answer as token ids."""
    needle_start: int
    """Position in the prompt of the needle's first token."""
    needle_tokens: int
    """Tokens of the needle."""
    second_mention: tuple[int, int]
    """Positions in the prompt between which the needle repeats the key (which can be known there)."""
    noise_before: float
    """Share of the noise that stands before the needle: the depth as it came out."""


@dataclass(frozen=True)
class Examples:
    """The examples of one cell, all of the same length."""

    context_tokens: int
    """N: tokens of noise and needle."""
    prompt_tokens: int
    """Tokens of the whole prompt, which is longer by its head and tail."""
    depth: float
    """Share of the noise before the needle that was asked for."""
    items: tuple[Example, ...]
    """The examples."""

    def tokens(self) -> Ids:
        """Return the prompts, (examples, prompt_tokens)."""
        return np.stack([item.ids for item in self.items])

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class PasskeyTask:
    """Makes examples of any length and depth for one encoder, one noise and one part of the keys."""

    encode: Encode
    """A model's encoder; bytes for a byte-level model."""
    noise: Noise
    """Made with the same encoder, of texts of the same part."""
    part: Part = "test"
    """Whose keys."""
    seed: int = 0
    """Same seed, same bytes."""
    variant: Variant = "padded"
    """Five digits, or one to five as in the released code."""
    jitter: float = 0.0
    """Needles lie off their depth by up to this share of the noise. Default: ours, so that a depth is what it says;
    the released code has 0.1."""

    @classmethod
    def of_texts(cls, texts: Iterable[bytes], encode: Encode, **options: object) -> PasskeyTask:
        """Make a task whose noise comes from texts; the options are the other fields."""
        return cls(encode, Noise.of(texts, encode), **options)  # type: ignore[arg-type]

    def context_for(self, length: int) -> int:
        """Return the context's tokens with which prompt and answer fill a length.

        Args:
            length: tokens of prompt and answer, such as the training length.

        Returns:
            N; an answer is taken to have ``DIGITS`` tokens, which it has at most.
        """
        return length - len(self._ids(HEAD)) - len(self._ids(TAIL)) - DIGITS

    def prompt_tokens(self, context_tokens: int) -> int:
        """Return the tokens of a prompt with a context of so many."""
        return len(self._ids(HEAD)) + context_tokens + len(self._ids(TAIL))

    def smallest_context(self) -> int:
        """Return the tokens that hold any needle and no noise: each digit, and a space before a key, may be a token."""
        return sum(len(self._ids(part)) for part in NEEDLE) + 2 * (DIGITS + 1)

    def examples(self, context_tokens: int, depth: float, count: int, *, first: int = 0) -> Examples:
        """Make the examples of one cell.

        Args:
            context_tokens: N, tokens of noise and needle together.
            depth: 0 puts the needle before all noise, 1 after all of it.
            count: how many.
            first: number of the first; example k is the same whatever the count.

        Returns:
            The examples.

        Raises:
            RefusedInputError: the needle does not fit, or a depth outside 0 to 1, or no example.
        """
        if not 0 <= depth <= 1 or count < 1:
            raise RefusedInputError(f"depth {depth:g}, {count} examples: expected a depth of 0 to 1, and 1 or more")
        numbers = range(first, first + count)
        items = tuple(self._numbered(context_tokens, depth, number) for number in numbers)
        return Examples(context_tokens, len(items[0].ids), depth, items)

    def _numbered(self, context_tokens: int, depth: float, number: int) -> Example:
        name = f"{self.part}/{self.variant}/{context_tokens}/{number}"
        word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        rng = np.random.Generator(np.random.Philox(key=[self.seed, word]))
        key, first = draw_key(rng, self.part, self.variant), int(rng.integers(len(self.noise.starts)))
        moved = float(np.clip(depth + self.jitter * rng.uniform(-1, 1), 0, 1))
        return self.example(context_tokens, moved, key, first)

    def example(self, context_tokens: int, depth: float, key: str, sentence: int) -> Example:
        """Make one example.

        Args:
            context_tokens: N.
            depth: share of the noise before the needle.
            key: the digits.
            sentence: number of the first sentence of the noise.

        Returns:
            The example.

        Raises:
            RefusedInputError: the needle does not fit.
        """
        hidden, head, tail = self._ids(needle(key)), self._ids(HEAD), self._ids(TAIL)
        tokens = context_tokens - len(hidden)
        if tokens < 0:
            raise RefusedInputError(
                f"a context of {context_tokens} tokens cannot hold the needle of {len(hidden)}; "
                f"give at least {self.smallest_context()}"
            )
        noise, ends = self.noise.take(sentence, tokens)
        at = place(noise, ends, depth, self.noise.space)
        ids = np.concatenate([head, noise[:at], hidden, noise[at:], tail])
        start = len(head) + at
        before, after = self._ids(f"{NEEDLE[0]} {key}{NEEDLE[1]} "), self._ids(NEEDLE[2])
        if not np.array_equal(before, hidden[: len(before)]):  # the space is one token with the first digits
            before = before[:-1]
        mention = (start + len(before), start + len(hidden) - len(after))
        return Example(ids, key, self._ids(key), start, len(hidden), mention, at / tokens if tokens else depth)

    def _ids(self, text: str) -> Ids:
        return self.encode(text.encode(), "the passkey prompt")


def place(noise: Ids, ends: npt.NDArray[np.int64], depth: float, space: int) -> int:
    """Return the offset in the noise at which the needle goes.

    Args:
        noise: the ids of the noise.
        ends: offsets at which a sentence starts, and the noise's end.
        depth: share of the noise that should come before.
        space: id of a single space, or -1.

    Returns:
        The nearest sentence boundary; where none is within ``JITTER`` of the depth, the nearest word's (in a tokenizer
        without a token for the space: that very token).
    """
    wanted = round(depth * len(noise))
    nearest = int(ends[np.abs(ends - wanted).argmin()])
    if abs(nearest - wanted) <= JITTER * len(noise):
        return nearest
    words = np.flatnonzero(noise == space) + 1
    return int(words[np.abs(words - wanted).argmin()]) if len(words) else wanted
