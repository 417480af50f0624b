"""The part of a training recipe that is on the passkey task."""

from __future__ import annotations

import msgspec


class PasskeyShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a training is on passkey sequences, and how they grow. Defaults: ours, from trials on one CPU."""

    share: float = 0.5
    """Part of each batch; the rest is windows of text."""
    digit_weight: float = 10.0
    """Weight in the loss of a digit that can be known, against 1 for every other token."""
    first_noise: int = 8
    """Most tokens of noise in the first step."""
    steps_per_token: float = 4.0
    """Steps after which one more token of noise may come between."""
    least_kept: float = 1.0
    """Mamba-2: behind each needle all states are multiplied once by a factor, log-uniform from this to 1, while what
    comes after is written in full: to find a key that is so weak, a model must write little of the noise. The factor's
    logarithm grows with the noise until one example fills the sequence."""

    def __post_init__(self) -> None:
        """Refuse numbers that make no training.

        Raises:
            ValueError: a share outside 0 to 1, or another number that is too small.
        """
        if not 0 < self.share <= 1 or self.digit_weight <= 0 or self.first_noise < 0 or self.steps_per_token <= 0:
            raise ValueError("passkey: share must be in (0, 1], weights and steps positive, first_noise not negative")
        if not 0 < self.least_kept <= 1:
            raise ValueError("passkey: least_kept must be in (0, 1]")
