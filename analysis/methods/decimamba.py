"""DeciMamba: at a layer found by search, only the tokens with the largest steps go on (``decimation``).

Source: DeciMamba (arXiv 2406.14528) and its released code, assafbk/DeciMamba, for Mamba-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.model import Model

from ..evaluate.bits import last_bits
from ..evaluate.passages import Passages, cut_passages
from ..evaluate.position_sums import LAST
from .citations import DECIMATION, Citation
from .decimation import Decimation, budgets
from .method import VALIDATION, Description, Fitted, Role, Setting, Setup, Task

BETA = 0.5
"""What the budget shrinks by from one decimating layer to the next. Source: DeciMamba's default."""
LEAST = 20
"""Tokens before the tail that are kept at least. Source: DeciMamba's default."""
SEARCH_TIMES = 4
"""Context of the layer search in T. Source: DeciMamba searches at 8000 tokens for models used at T = 2000."""
SEARCH_WINDOWS = 8
"""Validation passages of the search. Ours: the source's 3 have 300 scored tokens, whose mean is mostly chance."""


@dataclass(frozen=True, slots=True)
class DeciMamba:
    """Tokens with small steps end at a layer."""

    reads: ClassVar[frozenset[Role]] = VALIDATION

    layers: tuple[int, ...] = ()
    """Decimating layers, ascending; empty for the best single one on validation text."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "decimamba" + (f":{'+'.join(map(str, self.layers))}" if self.layers else "")

    def describe(self) -> Description:
        """Say what it does."""
        search = Setting(
            "layer",
            f"each single one tried by the last {LAST} tokens of up to {SEARCH_WINDOWS} validation texts with "
            f"{SEARCH_TIMES} T tokens of context",
            "the source's search and its length in T; it tries layers 8 to 24 on test text, with 3 windows",
        )
        given = Setting("layers", "+".join(map(str, self.layers)), "given")
        return Description(
            "at a layer, only the tokens with the largest step sizes and the last ones go on, as a shorter text; "
            "losses exist for the last tokens alone, and decoding is left alone",
            (
                given if self.layers else search,
                Setting("beta", f"{BETA:g}", "DeciMamba's default"),
                Setting("L_base", "T", "DeciMamba's passkey setting, 2000 for a model trained on 2000"),
                Setting("least tokens", str(LEAST), "DeciMamba's default"),
                Setting("of equal steps", "the earlier is kept", "ours: the source leaves it to the sort"),
                Setting("on Mamba-2", "step sizes of heads in place of channels", "our extension"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return (DECIMATION,)

    def fit(self, task: Task) -> Fitted:
        """Search for the layer, unless layers are given.

        Args:
            task: the model and the texts.

        Returns:
            Layers and L_base.

        Raises:
            RefusedInputError: the model has no such layer, or validation text is too short for a search.
        """
        count = task.model.config.n_layer
        if self.layers and self.layers[-1] >= count:
            raise RefusedInputError(f"method {self.name!r}: expected layers from 0 to {count - 1} of {task.model.name}")
        if self.layers:
            return self._fitted(self.layers, task, "layers as given")
        passages = _search_passages(task)
        found = np.array([self._tried(layer, passages, task) for layer in range(count)])
        if not np.isfinite(found).any():
            raise RefusedInputError(
                f"method {self.name!r}: {task.model.name} breaks down numerically whichever layer drops tokens; give a "
                "layer to use it all the same, as in decimamba:1"
            )
        best = int(found.argmin())
        told = ", ".join(f"{layer}: {bits:.3f}" for layer, bits in enumerate(found))
        how = (
            f"layer {best} of {count}, by the last {LAST} tokens of {len(passages)} validation texts of "
            f"{passages.length} tokens (bits by layer {told})"
        )
        return self._fitted((best,), task, how, found, count * passages.tokens.size / task.fit_length)

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens of the search."""
        read = SEARCH_TIMES * task.train_length + LAST + 1
        return 0.0 if self.layers else float(task.model.config.n_layer * SEARCH_WINDOWS * read)

    def _tried(self, layer: int, passages: Passages, task: Task) -> float:
        def measure() -> float | None:
            rule = Decimation((layer,), budgets(task.train_length, BETA, LEAST, 1), LAST + 1)
            rows = []
            try:
                for row in passages.tokens:
                    rows.append(last_bits(task.model, row[None], rule, LAST).mean())
                    task.tick(len(row))
            except NonFiniteStateError:
                return None
            return float(np.mean(rows))

        bits = task.cell(f"decimamba/{layer}", measure)
        return np.inf if bits is None else float(bits)

    def _fitted(
        self, layers: tuple[int, ...], task: Task, how: str, tried: np.ndarray | None = None, passes: float = 0.0
    ) -> Fitted:
        arrays = {"layers": np.array(layers, np.int64), "base": np.array([task.train_length])}
        if tried is not None:
            arrays["search_bits"] = tried
        no = "no: which tokens are dropped depends on the whole prompt"
        return Fitted(self.name, None, how, passes=passes, bakes=no, arrays=arrays)

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return how a model runs on a text of ``length`` tokens; within its budget, as it is."""
        layers, base = [int(k) for k in fitted.arrays["layers"]], int(fitted.arrays["base"][0])
        allowed = budgets(base, BETA, LEAST, len(layers))
        if length - tail <= min(allowed):
            return Setup(model)
        name = f"decimamba-{'+'.join(map(str, layers))}-{base}-{length}-{tail}"
        return Setup(model, Decimation(layers, allowed, tail), name=name, by_length=True, last_only=True)


def _search_passages(task: Task) -> Passages:
    """Cut validation text for the search, its length what the text has if that is less."""
    documents = task.texts.validation
    reach, tail = max(map(len, documents), default=0), LAST + 1
    length = min(SEARCH_TIMES * task.train_length + tail, reach)
    if length - tail < 2 * max(task.train_length, LEAST):  # layers that drop a few tokens cannot be told apart
        raise RefusedInputError(
            f"method 'decimamba': validation texts of {reach} tokens are too short to search for a layer; expected "
            f"{2 * max(task.train_length, LEAST) + tail}, or give a layer, as in decimamba:1"
        )
    enough = sum(len(document) >= length for document in documents)
    passages = cut_passages(documents, length, -(-SEARCH_WINDOWS // enough))
    return passages.part(np.linspace(0, len(passages) - 1, min(SEARCH_WINDOWS, len(passages))).round().astype(int))


def decimamba_of(name: str, rest: str) -> DeciMamba:
    """Return the method of ``decimamba:LAYERS``.

    Args:
        name: the whole name, for the message.
        rest: layers with a plus between them.

    Returns:
        The method.

    Raises:
        RefusedInputError: not whole numbers in ascending order.
    """
    parts = rest.split("+")
    layers = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(layers) < len(parts) or list(layers) != sorted(set(layers)):
        raise RefusedInputError(
            f"method {name!r}: expected layers in ascending order, as in decimamba:1 or decimamba:1+2"
        )
    return DeciMamba(layers)
