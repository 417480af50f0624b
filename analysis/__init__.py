"""From measurement to mending: diagnose, propose scales, evaluate them, keep the results of a run.

Names are imported when first used, so that a command line can start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, diagnose
    from .evaluate.perplexity import fresh_window_bits, perplexity, token_bits
    from .proposal import Proposal, propose
    from .runs import RunFolder
    from .study import Study, run_study

_HOME = {
    "Diagnosis": "diagnosis",
    "Proposal": "proposal",
    "RunFolder": "runs",
    "Study": "study",
    "diagnose": "diagnosis",
    "fresh_window_bits": "evaluate.perplexity",
    "perplexity": "evaluate.perplexity",
    "propose": "proposal",
    "run_study": "study",
    "token_bits": "evaluate.perplexity",
}

__all__ = [
    "Diagnosis",
    "Proposal",
    "RunFolder",
    "Study",
    "diagnose",
    "fresh_window_bits",
    "perplexity",
    "propose",
    "run_study",
    "token_bits",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
