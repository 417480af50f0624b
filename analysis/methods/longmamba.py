"""LongMamba: in heads that remember the whole training length, tokens with small steps are skipped.

Which heads, and how small a step, comes from windows of T tokens of the unscaled model (``step_statistics``); what is
done about it is an intervention (``step_filters``).

Source: LongMamba (arXiv 2504.16053) and its released code, GATECH-EIC/LongMamba, for Mamba-2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from mambascope.spectra.model import Model

from ..arrays import Arrays, kept_arrays
from ..texts import token_counter
from .calibration_windows import calibration_windows
from .citations import LONGMAMBA, Citation
from .method import CALIBRATION, Description, Fitted, Role, Setting, Setup, Task
from .step_filters import ThresholdFilter, WholePromptFilter
from .step_statistics import StepStatistics

Mask = Literal["threshold", "bound", "norm"]

WINDOWS = 100
"""Windows of the training length. Source: LongMamba's released code."""
TOP_SHARE = 0.1
"""q: steps above the smallest of the top q are clamped. Source: the first of its three values; which one the published
thresholds use is not said."""
LEAST_DECAY = 0.05
"""c: heads with D above it are global. Source: default of its command line."""
TIMES_THRESHOLD = 1.0
"""b: the threshold is b theta, the sum b S. Source: its default."""
_ROWS = 8  # windows that run side by side; no effect on the result beyond rounding

_WORDS: dict[Mask, str] = {
    "threshold": "tokens whose step is below a threshold for the text's length are skipped",
    "bound": "tokens are skipped from the smallest step on until the steps of a text add up as in training",
    "norm": "steps are multiplied by one factor a text and head until they add up as in training",
}


@dataclass(frozen=True, slots=True)
class LongMamba:
    """Steps of global heads held, over any length, to what they add up to in training."""

    reads: ClassVar[frozenset[Role]] = CALIBRATION

    mask: Mask = "threshold"
    """How."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "longmamba" if self.mask == "threshold" else f"longmamba:{self.mask}"

    def describe(self) -> Description:
        """Say what it does."""
        ahead = Setting("looks ahead", "yes", "the sum of a text's steps has those of tokens after the one scored")
        nearest = Setting("threshold for a length", "the nearest of those fitted, 0 up to T", "LongMamba's code")
        return Description(
            f"in heads that remember the training length, {_WORDS[self.mask]}; in the prompt only, decoding is left "
            "alone as in the released code",
            (
                Setting("windows", str(WINDOWS), "LongMamba's code; fewer where the text has fewer"),
                Setting("q, clamped share", f"{TOP_SHARE:g}", "LongMamba's code has 0.1, 0.15 and 0.2"),
                Setting("c, least decay of a global head", f"{LEAST_DECAY:g}", "LongMamba's default"),
                Setting("b, times the threshold or sum", f"{TIMES_THRESHOLD:g}", "LongMamba's default"),
                nearest if self.mask == "threshold" else ahead,
                Setting("theta", "the value after the one that exceeds S", "LongMamba's code, whose mask is > theta"),
                Setting("acts above", "T tokens", "ours; the released code acts above 1.5 T"),
                Setting("on Mamba-1", "by channel, its slowest of 16 states decides", "our extension"),
            ),
        )

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens of the windows."""
        return float(WINDOWS * task.train_length)

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return (LONGMAMBA,)

    def fit(self, task: Task) -> Fitted:
        """Measure step sizes inside T; the three masks share the measurement."""
        tokens = calibration_windows(task.texts.calibration, task.train_length, WINDOWS)
        lengths = lengths_to_fit(task.train_length, task.lengths)

        def measure() -> Arrays:
            found = StepStatistics(task.train_length, TOP_SHARE, lengths)
            with torch.no_grad():
                for first in range(0, len(tokens), _ROWS):
                    rows = tokens[first : first + _ROWS]
                    for _ in task.model.stream(rows, observers=[found, token_counter(task.tick)]):
                        pass
            return found.result()

        arrays = measure() if task.run is None else kept_arrays(task.run, f"{task.prefix}fit/step-sizes", measure)
        chosen = arrays["decay"] > LEAST_DECAY
        told = f"{chosen.mean():.0%} of the {'channels' if task.model.config.arch == 'mamba' else 'heads'} are global"
        if self.mask == "threshold" and chosen.any():
            alpha = arrays["alpha"][-1][chosen]
            clamped = (alpha < TOP_SHARE).mean()
            told += (
                f"; for {lengths[-1]} tokens alpha is {alpha.mean():.2%}, and below q in {clamped:.0%} of them, whose "
                "threshold is where steps were clamped and no longer grows with the length"
            )
        return Fitted(
            self.name,
            None,
            f"from {len(tokens)} windows of {task.train_length} calibration tokens: {told}",
            passes=tokens.size / task.fit_length,
            bakes="no: what is done to a token depends on its own step and on the length of the prompt",
            arrays=arrays,
        )

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return how a model runs on a text of ``length`` tokens; up to T, as it is."""
        del tail
        arrays = fitted.arrays
        lengths, chosen = arrays["lengths"], arrays["decay"] > LEAST_DECAY
        nearest = int(np.abs(lengths - length).argmin())
        theta = TIMES_THRESHOLD * arrays["theta"][nearest]
        if length <= lengths[0] or not chosen.any() or (self.mask == "threshold" and not theta.any()):
            return Setup(model)
        total = TIMES_THRESHOLD * arrays["total"]
        rule = (
            ThresholdFilter(theta, chosen, length)
            if self.mask == "threshold"
            else WholePromptFilter(total, chosen, self.mask == "norm")
        )
        rests_on = theta if self.mask == "threshold" else total
        content = hashlib.sha256(rests_on.tobytes() + chosen.tobytes()).hexdigest()[:16]
        return Setup(model, rule, name=f"longmamba-{self.mask}-{length}-{content}", by_length=True)


def lengths_to_fit(train_length: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths that thresholds are made for.

    Args:
        train_length: T.
        lengths: those asked for.

    Returns:
        T, its doublings up to the longest length, and every length asked for beyond T, ascending. Ours: the source has
        1.5 T to 96 T in uneven steps.

    >>> lengths_to_fit(16, (16, 48, 100))
    (16, 32, 48, 64, 100)
    """
    found = {train_length, *(n for n in lengths if n > train_length)}
    doubled = 2 * train_length
    while doubled <= max(lengths):
        found.add(doubled)
        doubled *= 2
    return tuple(sorted(found))
