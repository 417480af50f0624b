"""What theory predicts for the norm of a Mamba state, and simulations that hold it to account; no torch, no files.

* closed forms: ``modes``, ``growth``, ``random_steps``, ``markov_steps``, ``norm_law``; scale rules: ``scale_rules``,
  ``step_rules``, ``power_rule``, ``small_rate``;
* the simulator: ``recurrence`` with its ``laws`` and ``step_laws``, ``montecarlo``, ``exact`` (quadrature), ``replay``;
  where sampling fails: ``near_one``;
* the paper's claims: ``claims``, judged by ``verdict`` from derivations in ``symbolic``.

Rates r = |A| dt are the argument everywhere, never rounded decays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .laws import Beta, Listed, LogUniform, Uniform, point, two_point, uniform
    from .modes import energy_gain, mean_gain, overshoot, second_moment, soft_clip
    from .montecarlo import Estimate, estimate
    from .norm_law import NormLaw
    from .recurrence import Recurrence
    from .replay import Change, Replayed
    from .scale_rules import Factors, onset_rule, scale_rule
    from .step_laws import Constant, InputLaw, Markov, SoftplusNormal, Trace
    from .step_transforms import Gamma

_HOME = {
    "laws": ("Beta", "Listed", "LogUniform", "Uniform", "point", "two_point", "uniform"),
    "modes": ("energy_gain", "mean_gain", "overshoot", "second_moment", "soft_clip"),
    "montecarlo": ("Estimate", "estimate"),
    "norm_law": ("NormLaw",),
    "recurrence": ("Recurrence",),
    "replay": ("Change", "Replayed"),
    "scale_rules": ("Factors", "onset_rule", "scale_rule"),
    "step_laws": ("Constant", "InputLaw", "Markov", "SoftplusNormal", "Trace"),
    "step_transforms": ("Gamma",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Beta",
    "Change",
    "Constant",
    "Estimate",
    "Factors",
    "Gamma",
    "InputLaw",
    "Listed",
    "LogUniform",
    "Markov",
    "NormLaw",
    "Recurrence",
    "Replayed",
    "SoftplusNormal",
    "Trace",
    "Uniform",
    "energy_gain",
    "estimate",
    "mean_gain",
    "onset_rule",
    "overshoot",
    "point",
    "scale_rule",
    "second_moment",
    "soft_clip",
    "two_point",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value
