"""Test ``mambascope.analysis.breakdown`` and its words: worked by hand, and on the bundled models."""

from dataclasses import replace

import numpy as np
import pytest

from mambascope.analysis.breakdown import Breakdown, breakdown
from mambascope.analysis.breakdown_words import words
from mambascope.analysis.diagnosis import Diagnosis, diagnose
from mambascope.analysis.write_statistics import WriteMoments
from mambascope.simulate import energy_gain, mean_gain
from mambascope.spectra.eigenvalues import Spectrum
from mambascope.spectra.errors import TextError
from mambascope.spectra.loading import load
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.norms import StateNorms
from mambascope.spectra.zoo import text_files

T = 64
LENGTHS = (64, 128, 256, 512)
TAUS = np.array([4.0, 90.0, 1e6])


def known(kappa=0.05, faster=(1.0, 1.0), documents=3):
    """Two layers of three heads with a mean and white noise; ``faster`` adds growth per doubling to a layer."""
    dt, r = np.full(3, 0.1), 1 / TAUS
    q, c = 1 / (1 + kappa), kappa / (1 + kappa)

    def square(n):
        return c * mean_gain(r, n) ** 2 + q * energy_gain(r, n)

    squares = np.stack([square(n) for n in (T // 4, T // 2, T)])
    writes = WriteMoments(T, 8, dt, r, np.ones(3), np.full(3, c), c * mean_gain(r, T) ** 2, squares)
    norms = np.stack([
        np.stack([np.sqrt(square(n)) * f ** np.log2(n / T) for f in faster])[:, None] * np.ones((1, documents, 1))
        for n in LENGTHS
    ])  # (lengths, n_layer, documents, heads)
    moments = ModeMoments(1, (dt,) * 2, (dt**2,) * 2, (-np.expm1(-r),) * 2, (-np.expm1(-2 * r),) * 2)
    return Diagnosis(
        Spectrum("known", "mamba2", (r / 0.1,) * 2, moments),
        StateNorms("known", LENGTHS, norms[..., None], np.ones((4, 2, documents, 1))),
        train_length=T,
        target_length=512,
        writes=(writes,) * 2,
    )


def test_theory_is_exact_where_its_assumptions_hold():
    found = breakdown(known())
    np.testing.assert_allclose(found.predicted, found.norms, rtol=1e-8)
    np.testing.assert_allclose(found.growth(), found.predicted_growth(), rtol=1e-8)
    np.testing.assert_allclose(found.kappa, 0.05, rtol=1e-6)
    np.testing.assert_allclose(found.decay_second, np.tile(2 / TAUS, (2, 1)), rtol=1e-6)
    assert found.lengths_tokens == (16, 32, *LENGTHS)
    assert not found.beyond_the_bound()
    exponents = found.exponents()
    assert np.abs(exponents[:, :, 0]).max() < 0.02  # full long before T/4
    assert (exponents[:, :, 2] > 1.3).all()
    assert (exponents < 2).all()
    rows = found.layers()
    assert rows[0]["modes_beyond_T"] == pytest.approx(2 / 3)
    assert rows[0]["growth_measured"] == pytest.approx(rows[0]["growth_predicted"])
    heads = found.heads()
    assert [row["out_at_L"] for row in heads] == [False, True, True] * 2
    assert heads[2]["norm_at_512"] == pytest.approx(found.norms[-1, 0, 2])


def test_a_layer_beyond_the_doubling_bound_is_named_with_what_is_before_it():
    found = breakdown(known(faster=(1.0, 1.6)))
    assert [(layer, n) for layer, n, _ in found.beyond_the_bound()] == [(1, 64)]
    told = " ".join(words(found))
    assert "Inputs that change: layer 1" in told
    assert "layer 0 left the range as theory says" in told
    assert found.layers()[0]["inputs_change_at"] is None
    assert found.layers()[1]["inputs_change_at"] == 64
    calm = " ".join(words(breakdown(known())))  # negative control
    assert "Inputs that change" not in calm
    assert "probably" not in calm
    probably = " ".join(words(breakdown(known(kappa=1e-3, faster=(1.0, 1.12)))))
    assert "inputs of layer 1 have probably changed" in probably


def test_one_odd_document_proves_nothing():
    found = known()
    odd = found.norms.vector_l2.copy()
    odd[2, 1, 0] *= 20  # one document of three leaps at one length
    assert not breakdown(replace(found, norms=replace(found.norms, vector_l2=odd))).beyond_the_bound()
    all_of_them = found.norms.vector_l2.copy()
    all_of_them[2, 1] *= 20
    changed = breakdown(replace(found, norms=replace(found.norms, vector_l2=all_of_them))).beyond_the_bound()
    assert [(layer, n) for layer, n, _ in changed] == [(1, 128)]


def test_growth_beyond_T_is_that_of_the_documents_alone():
    """Documents three times as loud as the windows, at every length, grow like quiet ones."""
    quiet = known()
    loud = breakdown(replace(quiet, norms=replace(quiet.norms, vector_l2=3 * quiet.norms.vector_l2)))
    found = breakdown(quiet)
    np.testing.assert_allclose(loud.growth(), found.growth(), rtol=1e-12)
    np.testing.assert_allclose(loud.layer_growth(), found.layer_growth(), rtol=1e-12)
    np.testing.assert_allclose(loud.exponents(), found.exponents(), rtol=1e-9, atol=1e-9)
    assert loud.outgrown_at(2.0) == found.outgrown_at(2.0) == [256, 256]


def test_arrays_keep_everything():
    found = breakdown(known())
    again = Breakdown.of_arrays("known", found.arrays())
    assert again.heads() == found.heads()
    assert again.layers() == found.layers()
    assert words(again) == words(found)


@pytest.mark.parametrize(
    ("name", "breaks"), [("mamba2-tiny", True), ("mamba-tiny", True), ("mamba2-tiny-usual", False)]
)
def test_bundled_models_in_words(name, breaks):
    ids = np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:2048] for path in text_files("calibration")])
    found = breakdown(diagnose(load(name), ids, train_length=256, target_length=2048, writes=True))
    told = words(found, "the-model")
    growth, expected = found.layer_growth()
    assert growth[0] == pytest.approx(expected[0], rel=0.25)  # nothing feeds the first layer but the text
    if breaks:
        assert told[0].startswith("Breaks: at 2,048 tokens (8 times training)")
        assert "mambascope propose the-model --target-length 2048" in told[-1]
        assert (found.predicted_growth() > 2).mean() > 0.7
    else:
        assert told[0].startswith("Stays in range")
        assert "none of its 40 heads" in told[1]
        assert any(f"{n} of 40 heads out of range" in told[2] for n in (0, 1))  # one is at the threshold
        assert "0 of them by 2 times or more" in told[2]
        assert "nothing needs to be scaled" in told[-1]
    assert found.unit == ("channel" if name == "mamba-tiny" else "head")
    assert len(found.heads()) == 4 * (320 if found.unit == "channel" else 10)


def test_a_breakdown_needs_writes():
    with pytest.raises(ValueError, match="measured writes"):
        breakdown(replace(known(), writes=None))
    with pytest.raises(TextError, match="from T = 4 on"):
        diagnose(load("mamba2-tiny"), np.zeros((1, 64), int), train_length=3, target_length=64, writes=True)
