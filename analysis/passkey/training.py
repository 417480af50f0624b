"""Training sequences of the passkey task, with the distance to the key growing from step to step.

A sequence is filled with examples one after the other, each with a new key and the answer behind it, for as long as
another one fits, then with plain noise. An example has ``cap`` tokens of noise, or uniformly fewer, half the time each;
the cap grows by one token every ``steps_per_token`` steps until one example fills the sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .keys import draw_key
from .recipe import PasskeyShare
from .task import PasskeyTask


def noise_cap(share: PasskeyShare, step: int, room: int) -> int:
    """Return the most noise of a step, in tokens."""
    return min(room, share.first_noise + int(step / share.steps_per_token))


def passkey_rows(
    task: PasskeyTask, share: PasskeyShare, rng: np.random.Generator, step: int, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Draw the passkey sequences of one step.

    Args:
        task: with training keys and noise; its seed is not used.
        share: the recipe's part on this task.
        rng: keyed by seed and step.
        step: steps done so far.
        shape: sequences, and tokens of each, one more than the training length.

    Returns:
        Ids, and where a digit stands that can be known (the needle's second mention, and the answer).
    """
    rows = [_row(task, share, rng, step, shape[1]) for _ in range(shape[0])]
    ids, known = (np.stack(parts) for parts in zip(*rows, strict=True))
    return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(known)


def _row(
    task: PasskeyTask, share: PasskeyShare, rng: np.random.Generator, step: int, length: int
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.bool_]]:
    ids, known = np.empty(0, np.int64), np.zeros(length, bool)
    end_of_line = task.encode(b"\n", "a line's end")
    smallest = task.smallest_context()
    while (room := task.context_for(length - len(ids) - len(end_of_line)) - smallest) >= 0:
        cap = noise_cap(share, step, room)
        tokens = cap if rng.random() < 0.5 else int(rng.integers(cap + 1))
        sentence = int(rng.integers(len(task.noise.starts)))
        example = task.example(smallest + tokens, float(rng.random()), draw_key(rng, "train", task.variant), sentence)
        first, answer = len(ids), len(ids) + len(example.ids)
        known[first + example.second_mention[0] : first + example.second_mention[1]] = True
        known[answer : answer + len(example.key_ids)] = True
        ids = np.concatenate([ids, example.ids, example.key_ids, end_of_line])
    rest, _ = task.noise.take(int(rng.integers(len(task.noise.starts))), length - len(ids))
    return np.concatenate([ids, rest]), known
