"""What a training on the task lowers: bits per digit far away and inside T, and bits per token of ordinary text.

The last two keep the training length: what finds far keys and loses near ones, or the text, has failed. A look
takes the same sum on keys and noise of the validation part, the far term averaged over T, 2 T, 4 T, ... and the
longest length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from ..calibration.backprop import BLOCK_TOKENS, loss_and_gradient
from ..calibration.descent import LEAST, MOST
from ..calibration.objective import window_bits
from ..calibration.parameters import Floats, Parameters
from ..calibration.plan import GRADIENT_PASSES
from ..calibration.windows import draw_windows, spread_windows
from .answer_rows import AnswerRows, draw_answers, score_examples, spread_examples
from .curriculum import Curriculum
from .task import PasskeyTask

END_OF_ANSWER = b"\n"
"""What an answer ends with, as in the sequences that a model of the task is trained on; the released code of DeciMamba
has an end of text. Without it a key that is found may have digits behind it."""
TEXT_WEIGHT = 1.0
"""Weight of a bit per token of text against a bit per digit. Ours."""
_FAR, _NEAR = 3, 4  # streams of random numbers, after those of ``calibration.windows``

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Look:
    """A point on validation keys and text."""

    objective: float
    """What a point is chosen by, the less the better."""
    text_bits: float
    """Bits per token of windows of text."""
    key_bits: float | None = None
    """Bits per token of an answer, the mean over the lengths; None where no keys are looked at."""
    by_length: tuple[tuple[int, float, float], ...] = ()
    """Length, bits per token of an answer, and share of keys found."""


def looked_lengths(train_length: int, longest: int) -> list[int]:
    """Return T, 2 T, 4 T, ... and the longest length.

    >>> looked_lengths(512, 3000)
    [512, 1024, 2048, 3000]
    """
    found = [train_length]
    while found[-1] * 2 < longest:
        found.append(found[-1] * 2)
    return [*found, longest] if longest > found[-1] else found


@dataclass(frozen=True)
class PasskeyTexts:
    """What training and choice read, each part its own."""

    train: PasskeyTask
    """Keys of the part ``train``, noise of calibration texts."""
    validation: PasskeyTask
    """Keys of the part ``validation``, noise of validation texts."""
    calibration_documents: tuple[Document, ...]
    """Ordinary text to train on."""
    validation_documents: tuple[Document, ...]
    """Ordinary text to choose on."""


@dataclass(frozen=True)
class StepsOnPasskey:
    """The rows of every step, and the look; the same for scales and for weights."""

    texts: PasskeyTexts
    """What is read."""
    curriculum: Curriculum
    """Lengths by step."""
    batch: int
    """Rows of each of the three terms."""
    seed: int
    """Of every draw."""
    looks: int = 10
    """Validation examples of a length."""
    end: bytes = END_OF_ANSWER
    """What an answer ends with, learned like its digits."""

    def rows(self, step: int) -> list[tuple[float, AnswerRows]]:
        """Return a step's far keys, near keys and windows of text, each with its weight in the loss."""
        T, task = self.curriculum.train_length, self.texts.train
        far, near = (
            np.random.Generator(np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, stream]))
            for stream in (_FAR, _NEAR)
        )
        documents = [document.ids for document in self.texts.calibration_documents]
        shortest = task.prompt_tokens(task.smallest_context())
        length = int(near.integers(min(shortest, T), T + 1))
        return [
            (1.0, draw_answers(task, far, self.curriculum.draw(far, step), self.batch, self.end)),
            (1.0, draw_answers(task, near, length, self.batch, self.end)),
            (TEXT_WEIGHT, AnswerRows(draw_windows(documents, T, self.batch, self.seed, step), 0)),
        ]

    def look(self, model: Model, scales: Scales | None, count: Tick) -> Look:
        """Return what a model is worth on validation keys and text.

        Args:
            model: with whatever weights.
            scales: what it runs with.
            count: called with the tokens that are read.
        """
        T = self.curriculum.train_length
        by_length = []
        for length in looked_lengths(T, self.curriculum.longest):
            items = spread_examples(self.texts.validation, length, self.looks)
            by_length.append((length, *score_examples(model, items, self.texts.validation, scales, end=self.end)))
            count(len(items) * len(items[0].ids))
        windows = spread_windows([d.ids for d in self.texts.validation_documents], T, 2 * self.looks, "validation")
        text = window_bits(model, windows, scales, T).whole
        count(windows.size)
        keys = float(np.mean([bits for _, bits, _ in by_length]))
        return Look(keys + TEXT_WEIGHT * text, text, keys, tuple(by_length))


@dataclass
class PasskeyProblem:
    """The loss that Adam lowers over factors; a ``calibration.descent.Problem``."""

    model: Model
    """A loaded model, frozen."""
    steps: StepsOnPasskey
    """What each step reads."""
    parameters: Parameters
    """What moves."""
    tick: Tick = lambda _: None
    """Called with tokens as they pass through the model; those of a gradient count four times."""
    tokens: int = field(default=0, init=False)
    """All of them so far."""

    def __post_init__(self) -> None:
        """Fix the bounds."""
        self.least: Floats = np.full(self.parameters.size, LEAST)
        self.most: Floats = np.array([MOST[kind] for kind in self.parameters.kinds])

    def gradient(self, u: Floats, step: int) -> tuple[float, Floats]:
        """Return the loss of a step and its gradient with respect to the multipliers."""
        parameters, block = self.parameters, block_tokens(self.model)
        values, total, slope = parameters.values(u), 0.0, np.zeros(parameters.size)
        for weight, rows in self.steps.rows(step):
            found = loss_and_gradient(
                self.model, rows.ids, values, parameters.scales_of, first=rows.first, block_length=block
            )
            total += weight * found.bits
            slope += weight * parameters.pull(found.values)
            self.count(int(GRADIENT_PASSES * rows.ids.size))
        return total, slope

    def loss(self, u: Floats, step: int) -> float:
        """Return the loss of a step alone."""
        return self.gradient(u, step)[0]

    def look(self, u: Floats) -> Look:
        """Return what a point is worth on validation keys and text."""
        return self.steps.look(self.model, self.parameters.scales(u), self.count)

    def selection(self, u: Floats) -> float:
        """Return what a point is chosen by."""
        return self.look(u).objective

    def count(self, tokens: int) -> None:
        """Take note of tokens that were read."""
        self.tokens += tokens
        self.tick(tokens)


def block_tokens(model: Model) -> int:
    """Return the tokens of a row that are in a graph at once; a GPU takes larger ones."""
    return BLOCK_TOKENS * (4 if model.device.type == "cuda" else 1)
