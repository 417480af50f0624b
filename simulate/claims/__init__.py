"""The paper's claims, one file each, in the order of the paper. ``load(key)`` gives one, ``KEYS`` names them all."""

from __future__ import annotations

import difflib
from importlib import import_module

from .claim import Claim, Curve, Drawn, Experiment, Trials

__all__ = ["KEYS", "Claim", "Curve", "Drawn", "Experiment", "Trials", "load"]

_MODULES = {
    "eq-3": "equation_3",
    "eq-6": "equation_6",
    "lemma-4.1": "lemma_4_1",
    "theorem-4.2": "theorem_4_2",
    "corollary-4.3": "corollary_4_3",
    "corollary-4.4": "corollary_4_4",
    "eq-9-growth": "equation_9_growth",
    "eq-9-vanishing": "equation_9_vanishing",
    "theorem-b.1": "theorem_b_1",
    "b.3": "section_b_3",
    "b.4-1": "section_b_4_1",
    "b.4-2": "section_b_4_2",
    "spectrum": "transition_spectrum",
    "scaling-dt": "scaling_dt",
    "compressing": "compressing",
    "divergence": "divergent_trend",
}

KEYS = tuple(_MODULES)


def load(key: str) -> Claim:
    """Return a claim.

    Args:
        key: one of ``KEYS``.

    Returns:
        The claim.

    Raises:
        KeyError: no claim has this key; the message names the nearest.
    """
    if key not in _MODULES:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise KeyError(f"claim {key!r} is not known{hint} (all: {', '.join(KEYS)})")
    claim = import_module(f".{_MODULES[key]}", __name__).CLAIM
    assert isinstance(claim, Claim)
    return claim
