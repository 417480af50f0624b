"""Windows of the training length: the texts on which a model is what it was when it was trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Tokens

WINDOWS = 64
"""Windows of the training length on which step sizes are measured. Ours: between two halves from different books the
mean step sizes of heads then differ by less than 5 % (RMS; tests/analysis/test_diagnosis.py)."""


def training_windows(tokens: Tokens, train_length: int, windows: int = WINDOWS) -> npt.NDArray[np.integer]:
    """Cut windows of the training length, evenly spread over the documents.

    Args:
        tokens: ids, (documents, length).
        train_length: T.
        windows: how many at most, but at least one of each document.

    Returns:
        Ids, (windows, train_length).

    Raises:
        TextError: the documents are shorter than one window.
    """
    ids = np.asarray(tokens)
    room = ids.shape[1] // train_length
    if room == 0:
        raise TextError(f"calibration text of {ids.shape[1]} tokens is shorter than the training length {train_length}")
    each = max(1, min(room, windows // len(ids)))
    starts = [k * room // each * train_length for k in range(each)]
    return np.concatenate([ids[:, s : s + train_length] for s in starts])[: max(windows, len(ids))]
