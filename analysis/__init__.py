"""From measurement to mending: diagnose, propose scales, evaluate them, keep the results of a run.

Names are imported when first used, so that a command line can start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baking import Baked, bake
    from .calibration import Calibrated, calibrate
    from .compare import Comparison, run_compare
    from .diagnosis import Diagnosis, diagnose
    from .engine import run_in_order
    from .evaluate.intervals import paired
    from .evaluate.passages import cut_passages
    from .evaluate.perplexity import fresh_window_bits, perplexity, token_bits
    from .forecast import Forecast
    from .harness_scores import HarnessScores, lm_eval_scores
    from .head_norms import HeadNorms, measure_head_norms
    from .memory import memory_change
    from .methods import find_method
    from .norm_forms import scale_rule
    from .proposal import Proposal, propose
    from .rules import find_rule
    from .runs import RunFolder
    from .scaled_heads import ScaledHeads
    from .starts_study import StartsStudy, study_starts
    from .study import Study, run_study
    from .verification import Verification, verify
    from .write_statistics import write_moments

_HOME = {
    "Baked": "baking",
    "Calibrated": "calibration",
    "Comparison": "compare",
    "Diagnosis": "diagnosis",
    "Forecast": "forecast",
    "HarnessScores": "harness_scores",
    "HeadNorms": "head_norms",
    "Proposal": "proposal",
    "RunFolder": "runs",
    "ScaledHeads": "scaled_heads",
    "StartsStudy": "starts_study",
    "Study": "study",
    "Verification": "verification",
    "bake": "baking",
    "calibrate": "calibration",
    "cut_passages": "evaluate.passages",
    "diagnose": "diagnosis",
    "find_method": "methods",
    "find_rule": "rules",
    "fresh_window_bits": "evaluate.perplexity",
    "lm_eval_scores": "harness_scores",
    "measure_head_norms": "head_norms",
    "memory_change": "memory",
    "paired": "evaluate.intervals",
    "perplexity": "evaluate.perplexity",
    "propose": "proposal",
    "run_compare": "compare",
    "run_in_order": "engine",
    "run_study": "study",
    "scale_rule": "norm_forms",
    "study_starts": "starts_study",
    "token_bits": "evaluate.perplexity",
    "verify": "verification",
    "write_moments": "write_statistics",
}

__all__ = [
    "Baked",
    "Calibrated",
    "Comparison",
    "Diagnosis",
    "Forecast",
    "HarnessScores",
    "HeadNorms",
    "Proposal",
    "RunFolder",
    "ScaledHeads",
    "StartsStudy",
    "Study",
    "Verification",
    "bake",
    "calibrate",
    "cut_passages",
    "diagnose",
    "find_method",
    "find_rule",
    "fresh_window_bits",
    "lm_eval_scores",
    "measure_head_norms",
    "memory_change",
    "paired",
    "perplexity",
    "propose",
    "run_compare",
    "run_in_order",
    "run_study",
    "scale_rule",
    "study_starts",
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
