"""A rule to copy: draw every horizon in to a third of the training length."""

from __future__ import annotations

import numpy as np

from mambascope.spectra.scales import Scales, scaling

from .evidence import Evidence


def third_clip_rule(evidence: Evidence) -> Scales:
    """Multiply the rate of a mode that remembers more than T / 3 tokens until it remembers T / 3."""
    longest = evidence.train_length / 3
    return scaling("a", np.stack([np.maximum(1.0, layer.horizon_tokens / longest) for layer in evidence.layers]))
