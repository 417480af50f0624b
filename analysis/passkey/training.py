"""Training sequences of the passkey task, with the distance to the key growing from step to step.

A sequence is filled with examples one after the other, each with a new key and the answer behind it, for as long as
another one fits, then with plain noise. An example has ``cap`` tokens of noise, or uniformly fewer, half the time each;
the cap grows by one token every ``steps_per_token`` steps until one example fills the sequence.

A key that is met again after the training length is weak beside the noise that was written since. Sequences of the
training length show nothing like that by themselves; a state that is made smaller just behind the needle does. How
much smaller it may be made grows with the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.dynamics import Dynamics

from .keys import draw_key
from .recipe import PasskeyShare
from .task import PasskeyTask


def noise_cap(share: PasskeyShare, step: int, room: int) -> int:
    """Return the most noise of a step, in tokens."""
    return min(room, share.first_noise + int(step / share.steps_per_token))


@dataclass(frozen=True, slots=True)
class PasskeyRows:
    """The passkey sequences of a step, (sequences, tokens) each."""

    ids: Tensor
    """Tokens."""
    known: Tensor
    """Where a digit stands that can be known: the needle's second mention, and the answer."""
    forgets: Tensor
    """Nats that every head forgets at a token besides what it forgets by itself, float32."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """An intervention for Mamba-2: states lose a given factor before a token is written; the writes are unchanged."""

    nats: Tensor
    """Logarithm of 1 / factor by sequence and token, (batch, length)."""

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions."""
        return ()

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Lengthen the steps that set the decay, in every layer alike."""
        del layer, position
        return Dynamics(dynamics.dt - self.nats[..., None] / dynamics.A, dynamics.A, dynamics.gain)


def passkey_rows(
    task: PasskeyTask, share: PasskeyShare, rng: np.random.Generator, step: int, shape: tuple[int, int]
) -> PasskeyRows:
    """Draw the passkey sequences of one step.

    Args:
        task: with training keys and noise; its seed is not used.
        share: the recipe's part on this task.
        rng: keyed by seed and step.
        step: steps done so far.
        shape: sequences, and tokens of each, one more than the training length.

    Returns:
        The sequences.
    """
    rows = [_row(task, share, rng, step, shape[1]) for _ in range(shape[0])]
    ids, known, forgets = (torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True))
    return PasskeyRows(ids, known, forgets)


def _row(
    task: PasskeyTask, share: PasskeyShare, rng: np.random.Generator, step: int, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    ids, known, forgets = np.empty(0, np.int64), np.zeros(length, bool), np.zeros(length, np.float32)
    end_of_line = task.encode(b"\n", "a line's end")
    smallest = task.smallest_context()
    whole = task.context_for(length - len(end_of_line)) - smallest
    most_forgotten = -math.log(share.least_kept) * noise_cap(share, step, whole) / max(1, whole)
    while (room := task.context_for(length - len(ids) - len(end_of_line)) - smallest) >= 0:
        cap = noise_cap(share, step, room)
        tokens = cap if rng.random() < 0.5 else int(rng.integers(cap + 1))
        sentence = int(rng.integers(len(task.noise.starts)))
        example = task.example(smallest + tokens, float(rng.random()), draw_key(rng, "train", task.variant), sentence)
        first, answer = len(ids), len(ids) + len(example.ids)
        known[first + example.second_mention[0] : first + example.second_mention[1]] = True
        known[answer : answer + len(example.key_ids)] = True
        if share.least_kept < 1:
            forgets[first + example.needle_start + example.needle_tokens] = most_forgotten * rng.random()
        ids = np.concatenate([ids, example.ids, example.key_ids, end_of_line])
    rest, _ = task.noise.take(int(rng.integers(len(task.noise.starts))), length - len(ids))
    return np.concatenate([ids, rest]).astype(np.int64), known, forgets
