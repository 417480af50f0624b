"""All methods by name, and sets of them.

``constant:KIND:S`` and ``constant:KIND:best`` (KIND ``a``, ``a_power`` or ``dt``; ``constant:S`` is ``constant:a:S``),
``rule:NAME``, ``winsorize:Q``, ``decimamba:LAYERS`` and ``scales:FILE`` carry what they need in their names.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import KINDS, Kind, Scales

from ..goals import GOALS
from ..rules import find_rule
from .calibrated import CALIBRATIONS
from .constants import BestConstant, Constant
from .decimamba import DeciMamba, decimamba_of
from .finetune import FullFinetuning
from .longmamba import LongMamba
from .method import Fitted, Method, OwnSetup, Setup
from .on_passkey import ON_PASSKEY
from .plain import FRESH, FreshWindow, FromFile, Unscaled
from .proposed import ByRule, Spectrum
from .state_passing import StatePassing
from .winsorize import Winsorize, winsorize_of

PAPER_FACTORS: dict[Kind, tuple[float, ...]] = {"a": (2.0, 3.0), "a_power": (2.0, 3.0), "dt": (0.5,)}
"""Fixed factors of the set ``constants``: 2 and 3 of Mamba Modulation's Figure 2, which may be on A or A_log, and 0.5
on dt of jzhang38/LongMamba."""

_REBUILT: tuple[Method, ...] = (
    DeciMamba(), LongMamba(), LongMamba("bound"), LongMamba("norm"), Winsorize(), StatePassing(),
)  # fmt: skip
_NAMED: tuple[Method, ...] = (
    Unscaled(), FreshWindow(), Spectrum(), *CALIBRATIONS.values(), *_REBUILT, StatePassing(noise=True),
    FullFinetuning(), *ON_PASSKEY,
)  # fmt: skip
METHODS: dict[str, Method] = {method.name: method for method in _NAMED}
"""Those whose name is a plain word."""

FORMS = (
    "constant:KIND:S", "constant:KIND:best", "constant:S", "rule:NAME", "winsorize:Q", "decimamba:LAYERS",
    "scales:FILE",
)  # fmt: skip
"""Names that carry something."""

_BEST = tuple(f"constant:{kind}:best" for kind in KINDS)
_FIXED = tuple(f"constant:{kind}:{s:g}" for kind, factors in PAPER_FACTORS.items() for s in factors)
_GOAL_RULES = tuple(f"rule:{goal.rule}" for goal in reversed(GOALS.values()))
_REBUILT_NAMES = tuple(method.name for method in _REBUILT)
SETS: dict[str, tuple[str, ...]] = {
    "all": (
        "none",
        FRESH,
        *_FIXED,
        *_BEST,
        *CALIBRATIONS,
        *_REBUILT_NAMES,
        "state-passing:noise",
        "full-finetuning",
        "spectrum",
    ),
    "constants": (*_FIXED, *_BEST),
    "calibrated": tuple(CALIBRATIONS),
    "passkey": ("none", "spectrum", *_GOAL_RULES, "rule:onset", *(method.name for method in ON_PASSKEY)),
    "rivals": ("mambaextend", "mamba-modulation", "mamba-modulation:a", *_REBUILT_NAMES),
}
"""Words for several methods at once."""


def find_method(name: str) -> Method:
    """Return the method of a name.

    Args:
        name: as in ``spectrum``, ``constant:dt:0.5``, ``rule:hard-clip:4``.

    Returns:
        The method.

    Raises:
        RefusedInputError: unknown, with the nearest name that there is.
    """
    if name in METHODS:
        return METHODS[name]
    word, colon, rest = name.partition(":")
    if colon and word == "constant":
        return _constant(name, rest)
    if colon and word == "winsorize":
        return winsorize_of(name, rest)
    if colon and word == "decimamba":
        return decimamba_of(name, rest)
    if colon and word == "rule":
        return ByRule(find_rule(rest))
    if colon and word == "scales":
        if not Path(rest).is_file():
            raise RefusedInputError(f"method {name!r}: there is no file {rest}; make one with `mambascope propose`")
        return FromFile(Path(rest))
    near = difflib.get_close_matches(name, [*METHODS, *SETS["all"], *SETS, *(form.split(":")[0] for form in FORMS)], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RefusedInputError(f"method {name!r}: {hint}Expected one of {', '.join([*METHODS, *FORMS])}")


def _constant(name: str, rest: str) -> Constant | BestConstant:
    kind, colon, value = rest.rpartition(":")
    kind = kind if colon else "a"
    for known in KINDS:
        if kind == known:
            if value == "best":
                return BestConstant(known)
            try:
                factor = float(value)
            except ValueError:
                factor = math.nan
            if not (math.isfinite(factor) and factor > 0):
                raise RefusedInputError(f"method {name!r}: expected a number above 0 or best, as in constant:{kind}:2")
            return Constant(known, factor)
    near = difflib.get_close_matches(kind, KINDS, 1, 0.3)
    hint = f"did you mean constant:{near[0]}:{value}? " if near else ""
    raise RefusedInputError(f"method {name!r}: {hint}Expected a kind out of {', '.join(KINDS)}")


def chosen_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Return methods by name or set, each once.

    Args:
        names: names of methods and of sets.

    Returns:
        The methods, in the order in which they are first named.

    Raises:
        RefusedInputError: an unknown name, or none at all.
    """
    flat = [each for name in names for each in SETS.get(name, (name,))]
    found = [find_method(name) for name in flat]
    if not found:
        raise RefusedInputError(f"no method given; expected some of {', '.join([*SETS, *METHODS, *FORMS])}")
    return tuple({method.name: method for method in found}.values())


def setup_of(fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
    """Return how a model runs under a fitted method.

    Args:
        fitted: what a method's ``fit`` returned.
        model: the model it was fitted to.
        length: tokens that will be read.
        tail: tokens at the end whose outputs are wanted: 1 to generate, more to read losses off.

    Returns:
        Model, intervention and first state, under a name that is the same for what does the same.
    """
    method = find_method(fitted.method)
    if isinstance(method, OwnSetup):
        return method.setup(fitted, model, length, tail)
    scales = fitted.at(length)
    return Setup(model, scales, name=name_of(scales))


def name_of(scales: Scales | None) -> str:
    """Return a name for what scales do, the same for equal ones."""
    if scales is None or scales.is_identity:
        return "none"
    return hashlib.sha256(json.dumps(scales.to_dict()).encode()).hexdigest()[:24]
