"""The cells of a comparison: which test passages a corpus gives, and scales scored on them, each set once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.tokens import Document

from .arrays import Arrays, kept_arrays
from .evaluate.bits import WINDOWS_AT_ONCE, Floats
from .evaluate.intervals import by_document
from .evaluate.passages import Ints, Passages, cut_passages
from .evaluate.position_sums import PositionSums, edges_for, score_fresh
from .evaluate.setups import score_setup
from .methods.method import Setup
from .methods.plain import FRESH
from .runs import RunFolder
from .study import Tick, token_counter

MIN_DOCUMENTS = 6
"""A corpus is read up to the longest length that so many of its documents reach (or all of them, if it has fewer).
Ours: with fewer, an interval over documents says next to nothing."""
WINDOWS_INSIDE = 16
"""Windows of the training length taken from each document. Ours: what the proposal costs inside T on the 8 bundled test
books is then known to 0.002 bits, as differences on the same windows vary little."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One set of scales on one corpus."""

    sums: PositionSums
    """Bits of the long passages."""
    inside: PositionSums
    """Bits of windows of the training length."""

    @property
    def finite(self) -> bool:
        """False where a state broke down numerically; positions that were not scored are no breakdown."""
        return not bool(np.isinf(self.sums.sums).any() or np.isinf(self.inside.sums).any())


@dataclass(frozen=True, slots=True)
class Cut:
    """The test passages of a corpus."""

    corpus: str
    """Its name."""
    passages: Passages
    """Of its longest length."""
    windows: Passages
    """Of the training length."""
    lengths: tuple[int, ...]
    """Lengths that are reported."""

    def tail(self, scored: Scored, length: int) -> Floats:
        """Return the tail bits of each document."""
        return by_document(scored.sums.tail(length), self.passages)

    def inside(self, scored: Scored) -> Floats:
        """Return the bits inside the training length of each document."""
        return by_document(scored.inside.whole(self.windows.length), self.windows)


def reached(documents: Sequence[Document], lengths: Sequence[int], enough: int = MIN_DOCUMENTS) -> tuple[int, ...]:
    """Return the lengths that enough documents of a corpus reach.

    Args:
        documents: of the corpus.
        lengths: what is asked for.
        enough: documents wanted; all of them where there are fewer.

    Returns:
        The lengths, ascending.

    Raises:
        RefusedInputError: no length, or not even the shortest is reached by as many.
    """
    if not lengths:
        raise RefusedInputError("no length is left for this corpus; its limit is below the shortest of --lengths")
    wanted = min(enough, len(documents))
    found = tuple(n for n in sorted(lengths) if sum(len(d) >= n for d in documents) >= max(1, wanted))
    if not found:
        raise RefusedInputError(
            f"fewer than {max(1, wanted)} documents reach {min(lengths)} tokens; give longer texts or shorter --lengths"
        )
    return found


def cut_corpus(
    name: str, test: Sequence[Document], lengths: Sequence[int], train_length: int, starts: int, documents: int | None
) -> Cut:
    """Cut the test passages of a corpus.

    Args:
        name: of the corpus.
        test: its documents.
        lengths: lengths asked for.
        train_length: T.
        starts: passages of a document at most.
        documents: documents at most; None for all.

    Returns:
        The passages.
    """
    here = reached(test, lengths)
    kept = [d for d in test if len(d) >= here[-1]][:documents]
    return Cut(name, cut_passages(kept, here[-1], starts), cut_passages(kept, train_length, WINDOWS_INSIDE), here)


class Scorer:
    """Scores setups on one corpus; equal ones are run once, as far as any method needs them."""

    def __init__(self, cut: Cut, batch: int, run: RunFolder | None, prefix: str, tick: Tick) -> None:
        self.cut, self.batch, self.run = cut, batch, run
        self.prefix, self.tick, self.watch = f"{prefix}sums/{cut.corpus}/", tick, [token_counter(tick)]
        self._far: dict[str, int] = {}
        self._seen: dict[str, Scored] = {}

    def expect(self, setup: Setup, length: int) -> None:
        """Say before any scoring that a length will be asked of a setup."""
        self._far[setup.name] = max(length, self._far.get(setup.name, 0))

    def __call__(self, setup: Setup, within: Setup | None = None) -> Scored:
        """Return a setup scored on this corpus.

        Args:
            setup: how the model runs on the long passages.
            within: how it runs on windows of the training length, where the method knows how much it will read.
                Default: the same.

        Returns:
            The sums.
        """
        name, inside = setup.name, within or setup
        if name not in self._seen:
            far, windows = self._far[name], self.cut.windows
            edges = edges_for([n for n in self.cut.lengths if n <= far])
            self._seen[name] = Scored(
                self._kept(f"{name}-{far}", lambda: self._sums(setup, self.cut.passages, edges, self.batch)),
                self._kept(
                    f"{inside.name}-inside",
                    lambda: self._sums(inside, windows, edges_for([windows.length]), WINDOWS_AT_ONCE),
                ),
            )
        return self._seen[name]

    def control(self, unscaled: Setup, train_length: int) -> Scored:
        """Score the fresh-window control; inside the training length it is the unscaled model."""

        def fresh() -> PositionSums:
            edges = edges_for(self.cut.lengths)
            return score_fresh(unscaled.model, self.cut.passages, edges, train_length, observers=self.watch)

        return Scored(self._kept(FRESH, fresh), self(unscaled).inside)

    def _sums(self, setup: Setup, passages: Passages, edges: Ints, batch: int) -> PositionSums:
        try:
            return score_setup(setup, passages, edges, batch=batch, tick=self.tick)
        except NonFiniteStateError:
            return PositionSums(edges, np.full((len(passages), len(edges) - 1), np.inf))

    def _kept(self, name: str, compute: Callable[[], PositionSums]) -> PositionSums:
        def arrays() -> Arrays:
            return compute().arrays()

        return PositionSums.of_arrays(
            arrays() if self.run is None else kept_arrays(self.run, self.prefix + name, arrays)
        )
