"""Windows of the training length from calibration text, for methods that look at the model as it was trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mambascope.spectra.errors import TextError
from mambascope.spectra.tokens import Document

from ..evaluate.passages import Ints, cut_passages


def calibration_windows(documents: Sequence[Document], train_length: int, most: int) -> Ints:
    """Cut windows that do not overlap, spread over the documents.

    Args:
        documents: of the calibration text; those shorter than a window are left out.
        train_length: T, tokens of a window.
        most: windows at most, but at least one.

    Returns:
        Ids, (windows, T).

    Raises:
        TextError: no document is as long as a window.
    """
    enough = [document for document in documents if len(document) >= train_length]
    if not enough:
        longest = max(map(len, documents), default=0)
        raise TextError(
            f"no calibration text has {train_length} tokens, the training length (the longest has {longest}); give "
            "longer ones with --calibration"
        )
    tokens = cut_passages(enough, train_length, -(-most // len(enough))).tokens
    chosen = np.linspace(0, len(tokens) - 1, min(most, len(tokens))).round().astype(int)
    return np.asarray(tokens[chosen])
