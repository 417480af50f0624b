"""What a study measures as named arrays, so that a run folder can keep it: spectrum, writes, state norms, diagnosis."""

from __future__ import annotations

import numpy as np

from mambascope.spectra.eigenvalues import Spectrum
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.model import Model
from mambascope.spectra.norms import StateNorms

from .arrays import Arrays
from .diagnosis import Diagnosis
from .write_statistics import WriteMoments

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


_WRITES = ("mean_dt", "rate", "write_energy", "mean_write_squared", "coherent", "squares")


def diagnosis_arrays(found: Diagnosis) -> Arrays:
    """Return a diagnosis as named arrays, its writes among them where they were measured."""
    arrays = spectrum_arrays(found.spectrum) | norm_arrays(found.norms)
    if found.writes is not None:
        arrays["writes/windows"] = np.array([w.windows for w in found.writes])
        arrays |= {f"writes/{name}": np.stack([getattr(w, name) for w in found.writes]) for name in _WRITES}
    return arrays


def diagnosis_of(arrays: Arrays, model: Model, train_length: int, target_length: int) -> Diagnosis:
    """Make a diagnosis from ``diagnosis_arrays``."""
    writes = None
    if "writes/windows" in arrays:
        of_layers = zip(*(arrays[f"writes/{name}"] for name in ("windows", *_WRITES)), strict=True)
        writes = tuple(WriteMoments(train_length, int(windows), *of) for windows, *of in of_layers)
    return Diagnosis(spectrum_of(arrays, model), norms_of(arrays, model), train_length, target_length, writes)
