"""All rules by name: evidence in, scales out, no loss evaluated.

A name may carry a number: ``hard-clip:4`` draws horizons in to 4T, ``winsorize:8`` clips 8 % on either side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from mambascope.spectra.config import Config
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest
from mambascope.spectra.scales import Scales

from . import mode_rules, shared_rules
from .evidence import Evidence

RuleFunction = Callable[..., Scales]
Folds = Literal["always", "without gated norm", "never"]
"""Whether a rule's factors go into weights: not where heads under one gated norm (Mamba-2) have different dt factors,
and never with an onset."""

MODULATION = "Mamba Modulation (arXiv 2509.19633)"
WINSORIZATION = "transition-spectrum winsorization (FARS, analemma.ai, 2026)"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what is known of it before it is applied."""

    name: str
    """What it is called on a command line."""
    function: RuleFunction
    """Evidence in, scales out."""
    description: str
    """In one line."""
    source: str
    """Where it is from."""
    folds: Folds = "always"
    """Whether ``mambascope bake`` can fold its factors."""
    needs_writes: bool = False
    """True if it rests on measured writes."""
    number: tuple[str, float] | None = None
    """Name and least value of the number that the name may carry."""

    def __call__(self, evidence: Evidence) -> Scales:
        """Return the scales for a model's evidence."""
        return self.function(evidence)

    def why_not_baked(self, config: Config) -> str:
        """Return why its factors cannot be folded into such a model's weights; empty if they can."""
        if self.folds == "never":
            return "acts from token T on, and weights are the same at every position"
        if self.folds == "without gated norm" and config.arch == "mamba2" and config.rmsnorm:
            return "gives heads under one gated norm different dt factors, which no weights express"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return what a listing shows, as plain JSON values."""
        return {
            "rule": self.name,
            "description": self.description,
            "bakes": {"always": "yes", "without gated norm": "Mamba-1", "never": "no"}[self.folds],
            "source": self.source,
        }


_OURS = "ours"
_RULES = (
    Rule("soft-clip", mode_rules.soft_clip_rule, "tau -> tau (1 - e^{-T/tau}) < T: as if a constant drove it", _OURS),
    Rule("soft-clip-noise", mode_rules.noise_clip_rule, "the same for noise: tau -> tau (1 - e^{-2T/tau}) < 2T", _OURS),
    Rule("hard-clip", mode_rules.hard_clip_rule, "tau <= T, or C T as hard-clip:C", _OURS, number=("times", 0.0)),
    Rule("solved", mode_rules.solved_rule, "norm at L = norm at T, with measured coherence", _OURS, needs_writes=True),
    Rule(
        "joint", mode_rules.joint_head_rule, "A and dt of every head: mean and variance at L as at T", _OURS,
        "without gated norm", needs_writes=True,
    ),
    Rule(
        "joint-layer", mode_rules.joint_layer_rule, "A of every head, one dt a layer: norm at L as at T", _OURS,
        needs_writes=True,
    ),
    Rule(
        "layer-a", shared_rules.layer_a_rule, "one factor on A a layer: least mean divergence", MODULATION,
        needs_writes=True,
    ),
    Rule(
        "layer-a-power", shared_rules.layer_power_rule, "one power of |A| a layer: least mean divergence", MODULATION,
        needs_writes=True,
    ),
    Rule(
        "layer-dt", shared_rules.layer_dt_rule, "one factor on dt a layer: least mean divergence",
        "MambaExtend's kind", needs_writes=True,
    ),
    Rule(
        "head-dt", shared_rules.head_dt_rule, "one factor on dt a head or channel; memory gets longer", _OURS,
        "without gated norm", needs_writes=True,
    ),
    Rule("rescaled-time", shared_rules.rescaled_time_rule, "dt -> dt T/L: L tokens pass like T", "MambaExtend's kind"),
    Rule(
        "onset", mode_rules.onset_head_rule, "nothing up to T, then hold every mode at its size", _OURS, "never",
        needs_writes=True,
    ),
    Rule(
        "winsorize", mode_rules.winsorize_rule, "clip a layer's true decays at 5 %, or Q % as winsorize:Q", _OURS,
        number=("percent", 0.0),
    ),
    Rule(
        "winsorize-static", mode_rules.winsorize_static_rule, "clip a layer's e^{-|A|} at 5 %, blind to dt",
        WINSORIZATION, number=("percent", 0.0),
    ),
    Rule("none", mode_rules.no_scales, "change nothing", "the model as trained"),
)  # fmt: skip
RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}
"""By name, the default first."""


def find_rule(name: str) -> Rule:
    """Return the rule of a name, with its number if it carries one.

    Args:
        name: as in ``soft-clip`` or ``hard-clip:4``.

    Returns:
        The rule.

    Raises:
        RefusedInputError: unknown, or a number that is out of range or that the rule does not take.
    """
    plain, colon, text = name.partition(":")
    rule = RULES.get(plain)
    if rule is None:
        hint = nearest(plain, RULES)
        raise RefusedInputError(
            f"rule {name!r}: {hint + ' Expected' if hint else 'expected'} one of {', '.join(RULES)} "
            "(see `mambascope propose --rules`)"
        )
    if not colon:
        return rule
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    most = 50.0 if rule.number and rule.number[0] == "percent" else math.inf
    if rule.number is None or not rule.number[1] < value < most:
        below = "" if math.isinf(most) else f" and below {most:g}"
        takes = f"a number above {rule.number[1]:g}{below}, as in {plain}:4" if rule.number else "no number"
        raise RefusedInputError(f"rule {name!r}: {plain} takes {takes}")
    return replace(rule, name=name, function=functools.partial(rule.function, **{rule.number[0]: value}))
