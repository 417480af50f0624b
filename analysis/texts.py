"""The three disjoint sets of documents that a measurement rests on, and a counter of the tokens that pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from mambascope.spectra.dynamics import Observation, Observer
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Document

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Texts:
    """Three disjoint sets of documents."""

    calibration: tuple[Document, ...]
    """What scales are made from."""
    validation: tuple[Document, ...]
    """What a setting is chosen on."""
    test: tuple[Document, ...]
    """What is reported."""

    def check(self) -> Texts:
        """Return the texts if no document is there twice.

        Returns:
            The texts themselves.

        Raises:
            RefusedInputError: the same content stands in two sets, or twice in one and would count as independent.
        """
        seen: dict[str, tuple[str, str, int]] = {}
        for role in ("calibration", "validation", "test"):
            for document in getattr(self, role):
                other, name, first = seen.setdefault(document.sha256, (role, document.name, id(document)))
                if first != id(document) and other == role:
                    raise RefusedInputError(
                        f"{document.name} has the same content as {name}: given twice as {role} text, it would count "
                        "as two independent documents; give it once"
                    )
                if other != role:
                    raise RefusedInputError(
                        f"{document.name} ({role}) has the same content as {name} ({other}); "
                        "calibration, validation and test texts must differ, or the result means nothing"
                    )
        return self


class _Stored(msgspec.Struct):
    provenance: dict[str, Any] = {}  # msgspec copies such defaults


def refuse_fitted_on(scales: str | PathLike[str], documents: Sequence[Document]) -> None:
    """Refuse to score what a file of scales was made from; proposals and calibrations write down what they read.

    Args:
        scales: the file; one that cannot be read is for its reader to refuse.
        documents: what is to be scored.

    Raises:
        RefusedInputError: one of the documents was measured, or seen by a calibration in its steps or choices.
    """
    seen: list[str] = []
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, TypeError):
        stored = msgspec.json.decode(Path(scales).read_bytes(), type=_Stored)
        kept = stored.provenance.get("texts_sha256", {})
        seen = [each for role in ("calibration", "validation") for each in kept.get(role, [])]
    for document in documents:
        if document.sha256 in seen:
            raise RefusedInputError(
                f"{document.name} has the same content as a text that the scales in {scales} were fitted on or chosen "
                "by; score them on another text, or the result means nothing"
            )


class TokenCounter:
    """Observer that reports tokens as they pass, for a progress bar."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions: any blocks will do."""
        return ()

    def update(self, observation: Observation) -> None:
        """Count a block once, at the first layer."""
        if observation.layer == 0:
            dt = observation.dynamics.dt
            self.tick(dt.shape[0] * dt.shape[1])


def token_counter(tick: Tick) -> Observer:
    """Return an observer that calls ``tick`` with the number of tokens of each block."""
    return TokenCounter(tick)
