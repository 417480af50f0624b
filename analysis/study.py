"""The main job on one model: spectrum, states, breakdown, scales, and what the scales are worth on held-back text.

Everything measured goes into the run folder as it comes, so that a stopped study goes on where it was. Calibration text
gives the scales, validation text chooses the best constant, test text gives the numbers; the three are told apart by
content.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Observation, Observer
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.model import Model
from mambascope.spectra.norms import StateNorms, state_norms, trajectory_lengths
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

from .arrays import Arrays, kept_arrays
from .diagnosis import WINDOWS, Diagnosis, diagnose, training_windows
from .evaluate.perplexity import PerplexityRow, fresh_window_bits, rows_by_length, stack_documents, token_bits
from .proposal import Proposal, propose
from .runs import RunFolder

Floats = npt.NDArray[np.float64]
Tick = Callable[[int], None]

CONSTANTS = (1.0, 8.0, 64.0, 512.0, 4096.0)
"""Factors on A tried as one constant for the whole model. Ours: the paper's Figure 2 has 2 and 3, too small here; at
4096 no bundled model has any memory left, and 32768 gives the same validation bits to 0.0004."""


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


@dataclass(frozen=True, slots=True)
class Study:
    """All that a report says of one model."""

    name: str
    """Model's name."""
    argument: str
    """How the model was given: a name, folder or hub id."""
    arch: str
    """``mamba`` or ``mamba2``."""
    parameters: int
    """Number of weights."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    proposal: Proposal
    """The spectrum-guided scales and the diagnosis behind them."""
    scaled_spectrum: Spectrum
    """Spectrum of the model with the scales, on the same windows."""
    norms: StateNorms
    """State norms along the test text, unscaled."""
    scaled_norms: StateNorms
    """The same with the scales."""
    constants: dict[float, float]
    """Validation tail bits at the target length by constant factor on A."""
    bits: dict[str, Floats]
    """Bits of every test token but the first, (documents, L - 1), by method."""
    rows: tuple[PerplexityRow, ...]
    """The same, summarised by method and length."""

    @property
    def best_constant(self) -> float:
        """The constant factor with the fewest validation bits."""
        return min(self.constants, key=lambda s: self.constants[s])

    def row(self, method: str, length: int) -> PerplexityRow:
        """Return the row of a method at a length."""
        return next(r for r in self.rows if r.method == method and r.length == length)


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


def planned_tokens(texts: Texts, train_length: int, target_length: int) -> int:
    """Estimate how many tokens a study runs through the model."""

    def of(documents: Sequence[Document]) -> int:
        return target_length * sum(len(d) >= target_length for d in documents)

    norms = 2 * 2 * _trajectory_length(texts, target_length)  # two documents, unscaled and scaled
    windows = 2 * WINDOWS * train_length
    constants = len(CONSTANTS) * of(texts.validation)
    return of(texts.calibration) + windows + constants + 5 * of(texts.test) + norms


def _trajectory_length(texts: Texts, target_length: int) -> int:
    return min(2 * target_length, max(len(d) for d in texts.test))


def run_study(
    model: Model,
    texts: Texts,
    run: RunFolder,
    *,
    train_length: int,
    target_length: int,
    argument: str | None = None,
    key: str | None = None,
    tick: Tick = lambda _: None,
) -> Study:
    """Measure a model, propose scales, and evaluate them.

    Args:
        model: a loaded model.
        texts: calibration, validation and test documents.
        run: keeps what has been measured.
        train_length: T.
        target_length: L, above T; every set needs a document of L tokens.
        argument: how the model was given. Default: its name.
        key: what the run folder files the model's cells under; one for each model. Default: its name.
        tick: called with numbers of tokens as they pass through the model.

    Returns:
        The study.

    Raises:
        TextError: too little text.
        RefusedInputError: a document stands in two sets.
    """
    texts.check()
    prefix = key or model.name
    watch: list[Observer] = [token_counter(tick)]
    calibration = stack_documents([d.ids for d in texts.calibration], target_length)
    validation = stack_documents([d.ids for d in texts.validation], target_length)
    test = stack_documents([d.ids for d in texts.test], target_length)

    def keep(cell: str, compute: Callable[[], Arrays]) -> Arrays:
        return kept_arrays(run, f"{prefix}/{cell}", compute)

    def measure() -> Arrays:
        found = diagnose(model, calibration, train_length=train_length, target_length=target_length, observers=watch)
        return spectrum_arrays(found.spectrum) | norm_arrays(found.norms)

    arrays = keep("diagnosis", measure)
    found = Diagnosis(spectrum_of(arrays, model), norms_of(arrays, model), train_length, target_length)
    proposal = propose(found)
    scales = proposal.scales.check(model.config)

    windows = training_windows(calibration, train_length)
    scaled_spectrum = spectrum_of(
        keep("scaled-spectrum", lambda: spectrum_arrays(spectrum(model, windows, scales=scales, observers=watch))),
        model,
    )

    def tail(s: float) -> float:
        bits = token_bits(model, validation, scaling("a", s), observers=watch)
        return float(bits[:, target_length // 2 - 1 :].mean())

    constants = {s: float(run.cell(f"{prefix}/constant/{s:g}", functools.partial(tail, s))) for s in CONSTANTS}
    best = min(constants, key=lambda s: constants[s])

    def evaluate(method: str, scales: Scales | None) -> Floats:
        return keep(f"bits-{method}", lambda: {"bits": token_bits(model, test, scales, observers=watch)})["bits"]

    bits = {
        "none": evaluate("none", None),
        "constant": evaluate(f"constant-{best:g}", scaling("a", best)),
        "spectrum": evaluate("spectrum", scales) if proposal.acts else evaluate("none", None),
        "fresh-window": keep(
            "bits-fresh-window", lambda: {"bits": fresh_window_bits(model, test, train_length, observers=watch)}
        )["bits"],
    }
    lengths = [train_length]
    while lengths[-1] * 4 < target_length:
        lengths.append(lengths[-1] * 4)
    lengths.append(target_length)
    rows = [row for method, of in bits.items() for row in rows_by_length(method, of, lengths, bits["fresh-window"])]

    longest = _trajectory_length(texts, target_length)
    text = stack_documents([d.ids for d in texts.test], longest)[:2]

    def norms(scales: Scales | None) -> Arrays:
        at = sorted({*trajectory_lengths(longest), train_length, target_length})
        return norm_arrays(state_norms(model, text, at, intervention=scales, observers=watch))

    return Study(
        name=model.name,
        argument=argument or model.name,
        arch=model.config.arch,
        parameters=sum(p.numel() for p in model.parameters()),
        train_length=train_length,
        target_length=target_length,
        proposal=proposal,
        scaled_spectrum=scaled_spectrum,
        norms=norms_of(keep("norms-none", lambda: norms(None)), model),
        scaled_norms=norms_of(keep("norms-spectrum", lambda: norms(scales)), model),
        constants=constants,
        bits=bits,
        rows=tuple(rows),
    )


_MOMENTS = ("mean_dt", "mean_dt_squared", "loss_first", "loss_second")


def spectrum_arrays(found: Spectrum) -> Arrays:
    """Return a measured spectrum as named arrays."""
    assert found.moments is not None
    arrays: Arrays = {"rates": np.stack(found.rates), "tokens": np.array([found.moments.tokens])}
    return arrays | {name: np.stack(getattr(found.moments, name)) for name in _MOMENTS}


def spectrum_of(arrays: Arrays, model: Model) -> Spectrum:
    """Make a spectrum from ``spectrum_arrays``."""
    moments = ModeMoments(int(arrays["tokens"][0]), *(tuple(arrays[name]) for name in _MOMENTS))
    return Spectrum(model.name, model.config.arch, tuple(arrays["rates"]), moments)


def norm_arrays(norms: StateNorms) -> Arrays:
    """Return state norms as named arrays."""
    return {"lengths": np.array(norms.lengths_tokens), "vector_l2": norms.vector_l2, "conv_l2": norms.conv_l2}


def norms_of(arrays: Arrays, model: Model) -> StateNorms:
    """Make state norms from ``norm_arrays``."""
    lengths = tuple(int(n) for n in arrays["lengths"])
    return StateNorms(model.name, lengths, arrays["vector_l2"], arrays["conv_l2"])


def bits_by_position(bits: Floats, bins_per_doubling: int = 2) -> dict[str, list[Any]]:
    """Average bits over bins of position that grow geometrically, for a curve.

    Args:
        bits: (documents, length - 1), as ``token_bits`` gives them.
        bins_per_doubling: resolution.

    Returns:
        ``start`` and ``stop`` (positions), ``mean``, and ``low``, ``high``: the mean less and plus one standard error
        over documents.
    """
    length = bits.shape[1] + 1
    steps = range(int(np.log2(max(length, 16) / 16) * bins_per_doubling) + 1)
    edges = sorted({1, length, *(n for k in steps if (n := round(16 * 2 ** (k / bins_per_doubling))) < length)})
    curve: dict[str, list[Any]] = {"start": [], "stop": [], "mean": [], "low": [], "high": []}
    for start, stop in itertools.pairwise(edges):
        of_documents = bits[:, start - 1 : stop - 1].mean(1)
        error = float(of_documents.std(ddof=1) / np.sqrt(len(of_documents))) if len(of_documents) > 1 else 0.0
        mean = float(of_documents.mean())
        values = {"start": start, "stop": stop, "mean": mean, "low": mean - error, "high": mean + error}
        for name, value in values.items():
            curve[name].append(value)
    return curve
