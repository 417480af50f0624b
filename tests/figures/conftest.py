"""Small studies made by hand: nothing is trained, every number is known."""

from __future__ import annotations

import numpy as np
import pytest

from mambascope.analysis.diagnosis import Diagnosis
from mambascope.analysis.evaluate.perplexity import rows_by_length
from mambascope.analysis.proposal import propose
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Study
from mambascope.spectra.eigenvalues import Spectrum
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.norms import StateNorms

T, L = 64, 1024
SHAPES = {"mamba2": (5,), "mamba": (6, 4)}


def spectrum_of(name, arch, n_layer, factors=None):
    rng = np.random.default_rng(1)
    rates = [np.exp(rng.normal(-1.0, 1.5, SHAPES[arch])) for _ in range(n_layer)]
    if factors is not None:
        rates = [rate * s for rate, s in zip(rates, factors, strict=True)]
    dt = [np.exp(rng.normal(-4.0, 1.0, SHAPES[arch][0])) for _ in range(n_layer)]
    wide = [d if arch == "mamba2" else d[:, None] for d in dt]
    loss = [-np.expm1(-rate * d) for rate, d in zip(rates, wide, strict=True)]
    moments = ModeMoments(999, tuple(dt), tuple(d**2 for d in dt), tuple(loss), tuple(x**2 for x in loss))
    return Spectrum(name, arch, tuple(rates), moments)


def norms_of(name, arch, n_layer, lengths, power):
    rng = np.random.default_rng(2)
    heads = (SHAPES[arch][0], 3) if arch == "mamba2" else (SHAPES[arch][0], 1)
    base = rng.uniform(1, 2, (1, n_layer, 2, *heads))
    grown = np.array([max(1.0, n / T) ** power for n in lengths])
    conv = rng.uniform(0.4, 0.6, (len(lengths), n_layer, 2, 7))
    return StateNorms(name, tuple(lengths), base * grown[:, None, None, None, None], conv)


def make_study(name="tiny", arch="mamba2", *, acts=True, documents=3, n_layer=2, harm=4.0, left=0.004):
    found = Diagnosis(
        spectrum_of(name, arch, n_layer), norms_of(name, arch, n_layer, (T, 256, L), 0.9 if acts else 0.01), T, L
    )
    proposal = propose(found)
    assert proposal.acts == acts
    factors = proposal.scales.factors[0].values.numpy() if acts else None
    rng = np.random.default_rng(3)
    control = 2 + rng.normal(0, 0.3, (documents, L - 1))
    beyond = np.clip(np.log2(np.arange(1, L) / T), 0, None) / 4  # from 0 at T to 1 at L
    each = 1 + 0.05 * rng.normal(0, 1, (documents, 1))
    bits = {
        "none": control + harm * beyond * each,
        "constant": control + 0.1 * each,
        "spectrum": control + left * each if acts else control + harm * beyond * each,
        "fresh-window": control,
    }
    lengths = (16, 64, 256, L, 4 * L)
    return Study(
        name=name,
        argument=name,
        arch=arch,
        parameters=12345,
        train_length=T,
        target_length=L,
        proposal=proposal,
        scaled_spectrum=spectrum_of(name, arch, n_layer, factors),
        norms=norms_of(name, arch, n_layer, lengths, 0.9 if acts else 0.01),
        scaled_norms=norms_of(name, arch, n_layer, lengths, 0.0 if acts else 0.01),
        constants={1.0: 6.0, 4.0: 3.0, 16.0: 2.125},
        bits=bits,
        rows=tuple(r for m, b in bits.items() for r in rows_by_length(m, b, (T, 256, L), bits["fresh-window"])),
    )


@pytest.fixture(scope="session")
def make():
    return make_study


@pytest.fixture(scope="session")
def studies():
    """Mamba-2 that is mended, Mamba-1 that is mended, one that is left alone, one with a single document."""
    return {
        "mamba2": make_study("two/tiny", "mamba2"),
        "mamba": make_study("one-tiny", "mamba"),
        "alone": make_study("alone", "mamba", acts=False, harm=0.0),
        "single": make_study("single", "mamba2", documents=1),
    }


@pytest.fixture
def run(tmp_path):
    with RunFolder.open(tmp_path / "run", command={"verb": "report"}, seed=0) as folder:
        yield folder
