"""From measurement to mending: diagnose, propose scales, evaluate them, keep the results of a run.

Names are imported when first used, so that a command line can start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baking import Baked, bake
    from .calibration import Calibrated, calibrate
    from .diagnosis import Diagnosis, diagnose
    from .engine import run_in_order
    from .evaluate.perplexity import fresh_window_bits, perplexity, token_bits
    from .head_norms import HeadNorms, measure_head_norms
    from .norm_forms import scale_rule
    from .proposal import Proposal, propose
    from .runs import RunFolder
    from .scaled_heads import ScaledHeads
    from .study import Study, run_study
    from .verification import Verification, verify
    from .write_statistics import write_moments

_HOME = {
    "Baked": "baking",
    "Calibrated": "calibration",
    "Diagnosis": "diagnosis",
    "HeadNorms": "head_norms",
    "Proposal": "proposal",
    "RunFolder": "runs",
    "ScaledHeads": "scaled_heads",
    "Study": "study",
    "Verification": "verification",
    "bake": "baking",
    "calibrate": "calibration",
    "diagnose": "diagnosis",
    "fresh_window_bits": "evaluate.perplexity",
    "measure_head_norms": "head_norms",
    "perplexity": "evaluate.perplexity",
    "propose": "proposal",
    "run_in_order": "engine",
    "run_study": "study",
    "scale_rule": "norm_forms",
    "token_bits": "evaluate.perplexity",
    "verify": "verification",
    "write_moments": "write_statistics",
}

__all__ = [
    "Baked",
    "Calibrated",
    "Diagnosis",
    "HeadNorms",
    "Proposal",
    "RunFolder",
    "ScaledHeads",
    "Study",
    "Verification",
    "bake",
    "calibrate",
    "diagnose",
    "fresh_window_bits",
    "measure_head_norms",
    "perplexity",
    "propose",
    "run_in_order",
    "run_study",
    "scale_rule",
    "token_bits",
    "verify",
    "write_moments",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
