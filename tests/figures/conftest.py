"""Small studies made by hand: nothing is trained, every number is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mambascope.analysis.calibration import Calibrated, Step
from mambascope.analysis.calibration.objective import Bits
from mambascope.analysis.diagnosis import Diagnosis
from mambascope.analysis.evaluate.perplexity import rows_by_length
from mambascope.analysis.forecast import Forecast
from mambascope.analysis.memory import memory_change
from mambascope.analysis.proposal import propose
from mambascope.analysis.rule_table import TABLE_RULES, RuleTable
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Study
from mambascope.analysis.study_calibration import Refined, refining_plan
from mambascope.analysis.study_forecast import outcome
from mambascope.spectra.eigenvalues import Spectrum
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.norms import StateNorms
from mambascope.spectra.scales import scaling

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


def _against(rule, harm):
    """Differences from a default with a harm of 0.001, told apart from 0 if they are beyond 0.005."""
    found = 0.0 if rule == "soft-clip" else harm - 0.001
    spread = 0.0 if rule == "soft-clip" else 0.005
    ends = {"against_default_ci_low": found - spread, "against_default_ci_high": found + spread}
    return {"against_default": found} | ends


def make_rules(study, *, worst=None, saved=True):
    """All rules on two corpora at two lengths; the worst harm of each is ``worst`` or grows down the list."""
    found, lengths, texts, memory = study.proposal.diagnosis, (256, L), [], []
    for k, rule in enumerate(TABLE_RULES):
        harm = 0.001 * (k + 1) if rule != "none" else 4.0
        harm = (worst or {}).get(rule, harm)
        bakes = "no" if rule in {"onset", "joint"} else "yes"
        for n in lengths:
            row = {"model": study.name, "rule": rule, "length": n}
            texts += [
                row
                | {"corpus": c, "documents": d, "harm": harm - less, "inside": 0.0001}
                | {"harm_ci_low": harm - less - 0.1, "harm_ci_high": harm - less + 0.1}
                | {"inside_ci_low": -0.001, "inside_ci_high": 0.0012}
                | _against(rule, harm - less)
                for c, d, less in (("books", 4, 0.0), ("gov", 3, 0.0005))
            ]
            kept = 0.9 if rule == "none" else 0.05 * k
            change = {"energy_older_before": 0.9, "energy_older_after": kept}
            passages = {"saved_at_52": 0.02 + 0.001 * k, "saved_at_52_se": 0.002} if saved else {}
            memory.append(row | {"bakes": bakes} | change | passages)
    return RuleTable(study.name, found.train_length, texts, memory, {"math": "none of its 2 documents reaches 1,024"})


def make_refined(study, gain=-0.002):
    """Factors moved by a tenth, and test bits that are lower than the start's by a constant."""
    plan = refining_plan(study.train_length, study.target_length, 10)
    start = study.proposal.scales
    moved = scaling("a", start.factors[0].values * 1.1)
    steps = [Step(k, 8.0 + 20 * k, None, Bits(2.2 - 0.01 * k, 2.2, 2.1) if k % 5 == 0 else None) for k in range(11)]
    found = Calibrated(moved, start, plan, tuple(steps), 10, {})
    bits = study.bits | {"calibrated": study.bits["spectrum"] + gain}
    control, lengths = bits.pop("fresh-window"), sorted({row.length for row in study.rows})
    gains = rows_by_length("calibrated", bits["calibrated"], lengths, bits["spectrum"])
    rows = (*study.rows, *rows_by_length("calibrated", bits["calibrated"], lengths, control))
    refined = Refined(found, tuple(gains), memory_change(study.proposal.diagnosis, moved))
    return dataclasses.replace(study, bits=bits | {"fresh-window": control}, rows=rows, refined=refined)


def make_forecast(study, share=1.0):
    """A forecast of ``share`` times a harm that rises like that of the study's own bits, and the study with it."""
    ages = np.array([0.75, 1, 2, 4, 8, 16, 32]) * T
    tail = 3.557  # mean of log2(n / T) over the second half of L
    harm = share * np.clip(np.log2(ages / T), 0, None) * study.harm("none") / tail
    found = Forecast(study.name, T, L, "closed", ages, harm * np.linspace(0.9, 1.1, 5)[:, None], np.ones((7, 2)))
    return dataclasses.replace(study, forecast=outcome(found, study.bits["none"], study.bits["fresh-window"]))


@pytest.fixture(scope="session")
def forecast_of():
    return make_forecast


@pytest.fixture(scope="session")
def rules_of():
    return make_rules


@pytest.fixture(scope="session")
def refined_of():
    return make_refined


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
