"""Diagnose a foreign model by watching it, and propose factors for its Mamba layers that ``bake`` takes.

The rules need what the modes do on text and how the states grow, which watching transformers gives; what is written
into the states is not measured here. Layers, in the factors and in what is said, are the Mamba layers among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.foreign.forward import ForeignModel
from mambascope.spectra.foreign.measures import foreign_spectrum, foreign_state_norms
from mambascope.spectra.model import Tokens
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis, training_windows
from .goals import rule_for
from .proposal import TIMES_TO_SEE, Proposal, followed_tokens, propose


def diagnose_foreign(
    model: ForeignModel,
    tokens: Tokens,
    *,
    train_length: int,
    target_length: int,
    observers: Sequence[Observer] = (),
) -> Diagnosis:
    """Measure the modes of a foreign model's Mamba layers on calibration text.

    Args:
        model: a watched model.
        tokens: calibration ids, (documents, length), length at least the target length.
        train_length: T.
        target_length: L, above T.
        observers: see every Mamba layer's work on the way.

    Returns:
        The diagnosis, as ``diagnose`` gives it, without writes.

    Raises:
        TextError: the text is shorter than the target length, or the target is not beyond T.
    """
    if target_length <= train_length:
        raise TextError(f"target length {target_length} must be beyond the training length {train_length}")
    found = foreign_spectrum(model, training_windows(tokens, train_length), observers=observers)
    lengths = [train_length]
    while lengths[-1] * 2 < target_length:
        lengths.append(lengths[-1] * 2)
    norms = foreign_state_norms(model, tokens, [*lengths, target_length], observers=observers)
    return Diagnosis(found, norms, train_length, target_length)


def propose_foreign(
    model: ForeignModel,
    texts: Sequence[Document],
    train_length: int,
    target_length: int,
    *,
    rule: str | None = None,
    goal: str = "perplexity",
    always: bool = False,
    observers: Sequence[Observer] = (),
) -> Proposal:
    """Diagnose a foreign model on calibration documents of any length and propose; arguments as ``propose_for``.

    Args:
        model: a watched model.
        texts: calibration documents.
        train_length: T.
        target_length: L; states are followed to there, or to ``TIMES_TO_SEE`` T if that is more.
        rule: a name out of ``RULES``. Default: the goal's.
        goal: ``perplexity``, ``balanced`` or ``retrieval``.
        always: propose even where the states stay in range.
        observers: see every Mamba layer's work on the way.

    Returns:
        The proposal; its factors are those of the Mamba layers.

    Raises:
        TextError: no document reaches twice the training length.
        RefusedInputError: unknown rule or goal, or one whose factors could not be baked, which is the only way for
            them to act.
    """
    chosen = rule_for(rule, goal)
    config = model.checkpoint.config
    why = "rests on measured writes" if chosen.needs_writes else chosen.why_not_baked(config)
    if why:
        raise RefusedInputError(f"rule {chosen.name!r} {why}; take one of kind 'a', such as soft-clip")
    tokens, reach = followed_tokens(texts, train_length, max(target_length, TIMES_TO_SEE * train_length))
    found = diagnose_foreign(model, tokens, train_length=train_length, target_length=reach, observers=observers)
    target_length = max(target_length, 2 * train_length)
    proposal = propose(found, rule=rule, goal=goal, target_length=target_length, always=always)
    if config.arch == "mamba2" and any(factor.kind == "dt" for factor in proposal.scales.factors):
        raise RefusedInputError(
            f"rule {chosen.name!r} gives dt factors, which cannot be baked under the gated norm of these Mamba-2 "
            "layers; take one of kind 'a', such as soft-clip"
        )
    return replace(proposal, reason=f"Mamba layers counted among themselves: {proposal.reason}")
