"""Scales from a diagnosis alone: no loss is evaluated, nothing is trained.

A mode whose horizon tau exceeds the training length T goes on filling its state after T, to a size that the layers
behind it have never seen. The default rule, the soft clip, raises its rate |A| until its final size is what it had at
T: s = 1 / (1 - e^{-T/tau}), so that tau becomes tau (1 - e^{-T/tau}) <= T, and short horizons stay as they are.

Horizons drawn in mend perplexity and cost recall. A goal says which of the two matters, and a proposal says what it
gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.foreign.forward import ForeignModel
from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis, diagnose
from .evaluate.perplexity import stack_documents
from .evidence import Evidence
from .goals import rule_for
from .memory import MemoryChange, factors_on_modes, memory_change
from .rules import Rule
from .training_windows import WINDOWS

GROWTH_TO_ACT = 2.0
"""States that stay within this factor of their size at T are left alone. Ours: on calibration text the bundled control
without a breakdown stays below it, the models that break down exceed it many times. Where states were followed to less
than four times T, where even a mode without decay has hardly grown, the growth of such a mode under noise, the square
root of L / T, takes its place."""

TIMES_TO_SEE = 64
"""States are followed to at least this many training lengths, where the texts reach that far: whether a model breaks
down is a fact about the model, not about the length asked for."""


def growth_to_act(train_length: int, target_length: int) -> float:
    """Return the growth of a state from T to L from which on it counts as out of range."""
    return float(min(GROWTH_TO_ACT, (target_length / train_length) ** 0.5))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Scales and why they are what they are."""

    scales: Scales
    """The factors; empty where the model is best left alone."""
    rule: str
    """Name of the rule; ``none`` where the model is left alone."""
    reason: str
    """In words."""
    diagnosis: Diagnosis
    """What it rests on."""
    goal: str = "perplexity"
    """What it is for."""
    target_length: int | None = None
    """L that it prepares for; None for as far as the diagnosis followed the states."""
    texts_sha256: dict[str, list[str]] = field(default_factory=dict)
    """Hashes of the documents that it rests on, by role; none where the diagnosis was made of bare tokens."""

    @property
    def acts(self) -> bool:
        """True unless the model is left alone."""
        return not self.scales.is_identity

    def memory(self, lag_tokens: int | None = None) -> MemoryChange:
        """Return what the scales do to memory, over a text of the target length.

        Args:
            lag_tokens: how far back. Default: the training length.

        Returns:
            The change.
        """
        return memory_change(self.diagnosis, self.scales, lag_tokens=lag_tokens, length=self.target_length)

    def _on_modes(self) -> tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]:
        last = max((f.onset_tokens for f in self.scales.factors), default=0)
        return factors_on_modes(Evidence.of(self.diagnosis), self.scales, last)

    def _repr_html_(self) -> str:
        return html_table(self.rows(), f"{self.rule}: {self.reason}")

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer: quantiles of the factors on the decay rate |A| dt, and horizons before and after."""
        rows = []
        for layer, (tau, (s, gain)) in enumerate(
            zip(self.diagnosis.spectrum.horizons_tokens(), self._on_modes(), strict=True)
        ):
            rows.append({
                "layer": layer,
                "factor_min": float(s.min()),
                "factor_median": float(np.median(s)),
                "factor_max": float(s.max()),
                "share_scaled_over_1.1": float((s > 1.1).mean()),
                "horizon_max_before_tokens": float(tau.max()),
                "horizon_max_after_tokens": float((tau / s).max()),
                "write_gain_median": float(np.median(gain)),
            })
        return rows

    def provenance(self) -> dict[str, Any]:
        """Return how the factors were made, to stand beside them."""
        found = self.diagnosis
        moments = found.spectrum.moments
        return {
            "made_by": "propose",
            "model": found.spectrum.name,
            "rule": self.rule,
            "goal": self.goal,
            "train_length": found.train_length,
            "target_length": self.target_length or found.target_length,
            "states_followed_to": found.target_length,
            "calibration_tokens": moments.tokens if moments else 0,
            "texts_sha256": self.texts_sha256,
            "memory": self.memory().sentence(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what a file of scales holds."""
        return self.scales.to_dict() | {"note": self.reason, "provenance": self.provenance()}

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}; {self.memory().sentence()}"


def _effect(rule: Rule) -> str:
    """Say what a rule has done."""
    name, _, number = rule.name.partition(":")
    if name == "hard-clip":
        return f"every horizon beyond {number}T is drawn in to it"
    told = {"soft-clip": "every horizon is drawn in below T", "soft-clip-noise": "every horizon is drawn in below 2T"}
    return told.get(name, f"{rule.name}, {rule.description}")


def propose(
    diagnosis: Diagnosis,
    *,
    rule: str | None = None,
    goal: str = "perplexity",
    target_length: int | None = None,
    always: bool = False,
) -> Proposal:
    """Turn a diagnosis into scales.

    Args:
        diagnosis: from ``diagnose``; with writes, if the rule rests on them.
        rule: a name out of ``RULES``. Default: the goal's.
        goal: ``perplexity``, ``balanced`` or ``retrieval``.
        target_length: L to prepare for. Default: as far as the diagnosis followed the states.
        always: propose even where the states were seen to stay in range.

    Returns:
        The proposal.

    Raises:
        RefusedInputError: unknown rule or goal, or one that rests on writes that were not measured.
    """
    chosen = rule_for(rule, goal)
    if chosen.needs_writes and diagnosis.writes is None:
        raise RefusedInputError(f"rule {chosen.name!r} rests on measured writes: diagnose(..., writes=True)")
    growth = diagnosis.growth()
    worst = int(growth.argmax())
    times = diagnosis.target_length / diagnosis.train_length
    enough = growth_to_act(diagnosis.train_length, diagnosis.target_length)
    if growth[worst] < enough and not always:
        reason = (
            f"left alone: at {times:g} times the training length no layer's state has grown by {enough:.3g} times "
            f"(most in layer {worst}: {growth[worst]:.2f}), so states stay in the range that training showed"
        )
        return Proposal(Scales(), "none", reason, diagnosis, goal, target_length)
    scales = chosen(Evidence.of(diagnosis, target_length))
    taus = diagnosis.spectrum.horizons_tokens()
    share = float(np.concatenate([tau.ravel() > diagnosis.train_length for tau in taus]).mean())
    reason = (
        f"{share:.0%} of all modes remember more than the {diagnosis.train_length} tokens of training, and layer "
        f"{worst}'s state has grown {growth[worst]:.1f} times at {times:g} times that length: "
        f"{_effect(chosen)}"
    )
    return Proposal(scales, chosen.name, reason, diagnosis, goal, target_length)


def followed_tokens(
    texts: Sequence[Document], train_length: int, target_length: int
) -> tuple[npt.NDArray[np.integer], int]:
    """Choose the texts on which states are followed, and how far.

    Args:
        texts: calibration documents of any length.
        train_length: T.
        target_length: how far to follow, where half of the usable documents reach that far.

    Returns:
        Ids, (documents, at least the reach), and the reach in tokens.

    Raises:
        TextError: no document reaches twice the training length.
    """
    usable = [d.ids for d in texts if len(d) >= 2 * train_length]
    if not usable:
        raise TextError(
            f"the calibration texts reach {max((len(d) for d in texts), default=0)} tokens; at least "
            f"{2 * train_length} (twice the training length) are needed to see whether states leave their range: "
            "give longer texts"
        )
    half = int(np.quantile([len(ids) for ids in usable], 0.5, method="lower"))
    reach = min(half, target_length)
    return stack_documents(usable, min(len(ids) for ids in usable if len(ids) >= reach)), reach


def planned_tokens(texts: Sequence[Document], train_length: int, target_length: int) -> int:
    """Return about how many tokens ``propose_for`` reads of texts: as far as it follows them, and its windows.

    Args:
        texts: calibration documents.
        train_length: T.
        target_length: L.

    Returns:
        The tokens.
    """
    tokens, reach = followed_tokens(texts, train_length, max(target_length, TIMES_TO_SEE * train_length))
    return len(tokens) * reach + WINDOWS * train_length


def propose_for(
    model: Model | ForeignModel,
    texts: Sequence[Document],
    train_length: int,
    target_length: int,
    *,
    rule: str | None = None,
    goal: str = "perplexity",
    always: bool = False,
    observers: Sequence[Observer] = (),
) -> Proposal:
    """Diagnose on calibration documents of any length and propose.

    Args:
        model: a loaded model, or a watched one of transformers: factors are then those of its Mamba layers.
        texts: calibration documents; where fewer than half of them reach the length to look at, states are followed
            as far as half of them go, and the diagnosis says so by its own target length.
        train_length: T.
        target_length: L; states are followed to there, or to ``TIMES_TO_SEE`` T if that is more.
        rule: a name out of ``RULES``. Default: the goal's.
        goal: ``perplexity``, ``balanced`` or ``retrieval``.
        always: propose even where the states stay in range.
        observers: see every layer's work on the way.

    Returns:
        The proposal.

    Raises:
        TextError: no document reaches twice the training length.
        RefusedInputError: unknown rule or goal, or for a watched model one whose factors cannot be baked, which is the
            only way for them to act there.
    """
    chosen = rule_for(rule, goal)
    if isinstance(model, ForeignModel):
        _refuse_unbaked(chosen, model)
    tokens, reach = followed_tokens(texts, train_length, max(target_length, TIMES_TO_SEE * train_length))
    found = diagnose(
        model,
        tokens,
        train_length=train_length,
        target_length=reach,
        writes=chosen.needs_writes,
        observers=observers,
    )
    target_length = max(target_length, 2 * train_length)
    proposal = propose(found, rule=rule, goal=goal, target_length=target_length, always=always)
    read = [document.sha256 for document in texts if len(document) >= tokens.shape[1]]
    proposal = replace(proposal, texts_sha256={"calibration": read})
    if isinstance(model, ForeignModel):
        _refuse_unbaked(chosen, model, proposal.scales)
    return proposal


def _refuse_unbaked(rule: Rule, model: ForeignModel, scales: Scales | None = None) -> None:
    """Refuse a rule whose factors a watched model could not be given: all that acts on it is what is baked."""
    config = model.checkpoint.config
    why = "rests on measured writes" if rule.needs_writes else rule.why_not_baked(config)
    if config.arch == "mamba2" and scales and any(factor.kind == "dt" for factor in scales.factors):
        why = "gives dt factors, which cannot be baked under the gated norm of these layers"
    if why:
        raise RefusedInputError(f"rule {rule.name!r} {why}; take one of kind 'a', such as soft-clip")
