"""The main job on one model: spectrum, states, breakdown, scales, and what the scales are worth on held-back text.

Everything measured goes into the run folder as it comes, so that a stopped study goes on where it was. Calibration text
gives the scales, validation text chooses the best constant, test text gives the numbers; the three are told apart by
content. A forecast of the harm comes before all of it: it reads windows of the training length alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.model import Model
from mambascope.spectra.norms import StateNorms, state_norms, trajectory_lengths
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

from .arrays import Arrays, kept_arrays
from .diagnosis import WINDOWS, diagnose, training_windows
from .evaluate.perplexity import PerplexityRow, fresh_window_bits, rows_by_length, stack_documents, token_bits
from .evaluate.position_sums import curve_edges
from .forecast_check import Checked
from .proposal import Proposal, propose
from .rule_table import RuleTable
from .runs import RunFolder
from .study_arrays import diagnosis_arrays, diagnosis_of, norm_arrays, norms_of, spectrum_arrays, spectrum_of
from .study_forecast import foretell, outcome
from .study_forecast import planned_tokens as planned_forecast
from .texts import Texts, Tick, token_counter

if TYPE_CHECKING:
    from .study_calibration import Refined

__all__ = ["CONSTANTS", "Study", "Texts", "Tick", "bits_by_position", "planned_tokens", "run_study", "token_counter"]

Floats = npt.NDArray[np.float64]

LEAST_FOR_WRITES = 4
"""Least T at which writes are measured: they are read at T/4, T/2 and T."""

CONSTANTS = (1.0, 8.0, 64.0, 512.0, 4096.0)
"""Factors on A tried as one constant for the whole model. Ours: the paper's Figure 2 has 2 and 3, too small here; at
4096 no bundled model has any memory left, and 32768 gives the same validation bits to 0.0004."""


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
    forecast: Checked | None = None
    """Harm foretold from calibration windows of T tokens beside that of the test bits; None where T is too short."""
    options: tuple[str, ...] = ()
    """Words that a command on this model needs beside its name, such as ``--train-length 2k``."""
    rules: RuleTable | None = None
    """Every rule on validation text; None where it was not asked for or no scales were proposed."""
    refined: Refined | None = None
    """The proposal refined on text; None where it was not asked for or no scales were proposed."""

    @property
    def best_constant(self) -> float:
        """The constant factor with the fewest validation bits."""
        return min(self.constants, key=lambda s: self.constants[s])

    def harm(self, method: str) -> float | None:
        """Return a method's harm at the target length; None where it was not run."""
        return self.row(method, self.target_length).harm if method in self.bits else None

    def row(self, method: str, length: int) -> PerplexityRow:
        """Return the row of a method at a length."""
        return next(r for r in self.rows if r.method == method and r.length == length)


def planned_tokens(texts: Texts, train_length: int, target_length: int) -> int:
    """Estimate how many tokens a study runs through the model."""

    def of(documents: Sequence[Document]) -> int:
        return target_length * sum(len(d) >= target_length for d in documents)

    norms = 2 * 2 * _trajectory_length(texts, target_length)  # two documents, unscaled and scaled
    windows = 2 * WINDOWS * train_length
    constants = len(CONSTANTS) * of(texts.validation)
    foretold = planned_forecast(texts.calibration, train_length, target_length)
    return foretold + of(texts.calibration) + windows + constants + 5 * of(texts.test) + norms


def reported_lengths(train_length: int, target_length: int) -> list[int]:
    """Return T, 4 T, 16 T ... and L."""
    lengths = [train_length]
    while lengths[-1] * 4 < target_length:
        lengths.append(lengths[-1] * 4)
    return [*lengths, target_length]


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
    options: Sequence[str] = (),
    key: str | None = None,
    tick: Tick = lambda _: None,
) -> Study:
    """Foretell a model's harm, measure it, propose scales, and evaluate them.

    Args:
        model: a loaded model.
        texts: calibration, validation and test documents.
        run: keeps what has been measured.
        train_length: T.
        target_length: L, above T; every set needs a document of L tokens.
        argument: how the model was given. Default: its name.
        options: words that a command on this model needs beside its name.
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

    where: dict[str, Any] = {"train_length": train_length, "target_length": target_length}
    foretold = foretell(model, texts.calibration, run, **where, key=prefix, tick=tick)  # first: it is a forecast

    def keep(cell: str, compute: Callable[[], Arrays]) -> Arrays:
        return kept_arrays(run, f"{prefix}/{cell}", compute)

    def measure() -> Arrays:
        writes = train_length >= LEAST_FOR_WRITES
        return diagnosis_arrays(diagnose(model, calibration, **where, writes=writes, observers=watch))

    found = diagnosis_of(keep("diagnosis", measure), model, train_length, target_length)
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
    lengths = reported_lengths(train_length, target_length)
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
        forecast=outcome(foretold, bits["none"], bits["fresh-window"]),
        options=tuple(options),
    )


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
    curve: dict[str, list[Any]] = {"start": [], "stop": [], "mean": [], "low": [], "high": []}
    for start, stop in itertools.pairwise(curve_edges(length, bins_per_doubling)):
        of_documents = bits[:, start - 1 : stop - 1].mean(1)
        error = float(of_documents.std(ddof=1) / np.sqrt(len(of_documents))) if len(of_documents) > 1 else 0.0
        mean = float(of_documents.mean())
        values = {"start": start, "stop": stop, "mean": mean, "low": mean - error, "high": mean + error}
        for name, value in values.items():
            curve[name].append(value)
    return curve
