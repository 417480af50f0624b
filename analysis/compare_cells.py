"""The cells of a comparison: which test passages a corpus gives, and one pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .arrays import Arrays
from .evaluate.bits import Floats
from .evaluate.intervals import by_document
from .evaluate.passages import Passages, cut_passages
from .evaluate.position_sums import LAST, PositionSums, edges_for, score_fresh
from .evaluate.setups import score_setup
from .methods import Fitted, setup_of
from .study import Tick, token_counter

MIN_DOCUMENTS = 6
"""A corpus is read up to the longest length that so many of its documents reach (or all of them, if it has fewer).
Ours: with fewer, an interval over documents says next to nothing."""
WINDOWS_INSIDE = 16
"""Windows of the training length taken from each document. Ours: what the proposal costs inside T on the 8 bundled test
books is then known to 0.002 bits, as differences on the same windows vary little."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One way to run the model, on one corpus."""

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

    def whole(self, scored: Scored, length: int) -> Floats:
        """Return the bits of each document; none where only the last tokens have any."""
        return by_document(scored.sums.whole(length), self.passages)

    def tail(self, scored: Scored, length: int) -> Floats:
        """Return the tail bits of each document; none where only the last tokens have any."""
        return by_document(scored.sums.tail(length), self.passages)

    def last(self, scored: Scored, length: int) -> Floats:
        """Return the bits of the last tokens of each document."""
        return by_document(scored.sums.last(length), self.passages)

    def inside(self, scored: Scored, *, last: bool = False) -> Floats:
        """Return the bits inside the training length of each document, of all tokens or of the last ones."""
        read = scored.inside.last if last else scored.inside.whole
        return by_document(read(self.windows.length), self.windows)


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


@dataclass(frozen=True)
class Pass:
    """One pass of one setup over the passages of a corpus: what a worker is given."""

    fitted: Fitted
    """The method."""
    model: Model
    """The model it was fitted to."""
    passages: Passages
    """What is read."""
    lengths: tuple[int, ...]
    """Lengths that are wanted; the last one is read."""
    setup_length: int
    """Length that the method is told."""
    batch: int
    """Passages that run side by side."""
    control_T: int | None = None
    """T, where this is the fresh-window control."""

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model."""
        return len(self.passages) * self.lengths[-1] * (1 if self.control_T is None else 2)


def run_pass(job: Pass, tick: Tick) -> Arrays:
    """Score one setup on the passages of one corpus.

    Args:
        job: what to run.
        tick: called with tokens.

    Returns:
        The sums; infinite where a state broke down numerically.
    """
    edges = edges_for(job.lengths)
    if job.control_T is not None:
        watch = [token_counter(tick)]
        return score_fresh(job.model, job.passages, edges, job.control_T, observers=watch).arrays()
    setup = setup_of(job.fitted, job.model, job.setup_length, LAST + 1)
    try:
        return score_setup(setup, job.passages, edges, batch=job.batch, tick=tick).arrays()
    except NonFiniteStateError:
        return PositionSums(edges, np.full((len(job.passages), len(edges) - 1), np.inf)).arrays()
