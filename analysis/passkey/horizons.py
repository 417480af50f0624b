"""What theory knows of a model's heads before any training on the task: step sizes on windows of T tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from ..diagnosis import diagnose
from ..evaluate.perplexity import stack_documents
from ..evidence import Evidence
from ..training_windows import WINDOWS


def measured(
    model: Model, documents: Sequence[Document], train_length: int, *, observers: Sequence[Observer] = ()
) -> Evidence:
    """Measure every mode's horizon.

    Args:
        model: a loaded model.
        documents: calibration texts, half of which reach twice the training length.
        train_length: T.
        observers: see every layer's work on the way.

    Returns:
        Evidence for rules that rest on horizons alone.

    Raises:
        TextError: the texts are shorter than that.
    """
    T = train_length
    enough = max(2, math.ceil(WINDOWS / max(1, len(documents))))
    reach = sorted((len(d) // T for d in documents), reverse=True)[(len(documents) - 1) // 2]
    tokens = stack_documents([d.ids for d in documents], max(2, min(enough, reach)) * T)
    return Evidence.of(diagnose(model, tokens, train_length=T, target_length=2 * T, observers=observers))
