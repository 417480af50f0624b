"""Windows of text for a calibration: drawn anew for a step, or spread over the documents once.

Every draw is keyed by (seed, step) and a stream number, so that a run that was killed and resumed draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mambascope.spectra.errors import TextError

Ids = npt.NDArray[np.integer]

WINDOWS, DIRECTIONS, STARTS = 0, 1, 2
"""Streams of random numbers: windows of text, SPSA's directions, random starts."""


def generator(seed: int, step: int, stream: int) -> np.random.Generator:
    """Return the random numbers of one step and purpose; no two of them overlap."""
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, stream]))


def long_enough(documents: Sequence[Ids], length: int, role: str) -> list[Ids]:
    """Return the documents that reach a length, or raise a ``TextError`` that counts them; ``role`` is their name."""
    usable = [ids for ids in documents if len(ids) >= length]
    if not usable:
        longest = max((len(ids) for ids in documents), default=0)
        raise TextError(
            f"0 of {len(documents)} {role} documents reach {length} tokens (the longest has {longest}); "
            "give longer texts or a shorter --target-length"
        )
    return usable


def draw_windows(documents: Sequence[Ids], length: int, count: int, seed: int, step: int) -> Ids:
    """Draw windows at random places, a document in proportion to the places it has.

    Args:
        documents: ids of each.
        length: tokens of a window.
        count: windows.
        seed: root seed.
        step: which draw.

    Returns:
        Ids, (count, length).

    Raises:
        TextError: no document is long enough.
    """
    usable = long_enough(documents, length, "calibration")
    places = np.cumsum([len(ids) - length + 1 for ids in usable])
    chosen = generator(seed, step, WINDOWS).integers(0, places[-1], size=count)
    which = np.searchsorted(places, chosen, side="right")
    before = np.concatenate([[0], places[:-1]])
    first = chosen - before[which]
    return np.stack([usable[i][f : f + length] for i, f in zip(which, first, strict=True)])


def spread_windows(documents: Sequence[Ids], length: int, count: int, role: str) -> Ids:
    """Take windows that do not overlap, as many from each document as from the others, evenly spread.

    Args:
        documents: ids of each.
        length: tokens of a window.
        count: windows wanted; fewer if the documents hold fewer.
        role: what to call the documents in an error.

    Returns:
        Ids, (windows, length). With no more windows than documents these are the documents' first tokens.

    Raises:
        TextError: no document is long enough.
    """
    usable = long_enough(documents, length, role)[:count]
    windows = []
    for index, ids in enumerate(usable):
        wanted = count // len(usable) + (index < count % len(usable))
        here = min(wanted, len(ids) // length)
        step = max(length, (len(ids) - length) // max(1, here - 1)) if here > 1 else 0
        windows += [ids[k * step : k * step + length] for k in range(here)]
    return np.stack(windows)
