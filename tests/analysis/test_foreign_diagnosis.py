"""Test ``diagnose`` and ``propose_for`` on watched models: from states to factors to a hybrid that forgets by them."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.analysis.baking import bake
from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.proposal import propose_for
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.foreign.checkpoint import open_any
from mambascope.spectra.foreign.forward import ForeignModel
from mambascope.spectra.foreign.measures import foreign_spectrum
from mambascope.spectra.tokens import Document

pytest.importorskip("transformers", reason="needs the transformers package")

_path = Path(__file__).parents[1] / "spectra" / "foreign" / "written_layouts.py"
_spec = importlib.util.spec_from_file_location("written_layouts", _path)
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)

T = 8
TEXTS = [
    Document(f"text {seed}", np.random.default_rng(seed).integers(0, written.VOCAB, 16 * T).astype(np.uint16))
    for seed in range(2)
]
WINDOWS = np.concatenate([text.ids.reshape(-1, T) for text in TEXTS])


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield


def loaded(folder, name=None):
    return ForeignModel.load(open_any(folder), device="cpu", name=name)


@pytest.mark.parametrize("family", ["jamba", "bamba"])
def test_a_proposal_bakes_and_the_first_mamba_layer_then_forgets_as_it_says(tmp_path, family):
    """Its input does not depend on the factors, so its horizons become tau (1 - e^{-T/tau}) exactly."""
    written.write_foreign(tmp_path / "m", family)
    model = loaded(tmp_path / "m")
    proposal = propose_for(model, TEXTS, T, 16 * T, rule="soft-clip", always=True)
    assert len(proposal.rows()) == len(written.LAYERS[family])
    before = proposal.diagnosis.spectrum.horizons_tokens()[0]
    assert float(before.max()) > 2 * T
    bake(tmp_path / "m", proposal.scales, tmp_path / "b")
    after = foreign_spectrum(loaded(tmp_path / "b"), WINDOWS).horizons_tokens()[0]
    np.testing.assert_allclose(after, before * -np.expm1(-T / before), rtol=1e-4)
    assert float(after.max()) < T


def test_a_target_within_the_training_length_is_refused():
    with pytest.raises(TextError, match="must be beyond"):
        diagnose(None, torch.zeros(1, 9, dtype=torch.long), train_length=8, target_length=8)


def test_lengths_double_from_T_to_L(tmp_path):
    written.write_foreign(tmp_path, "bamba")
    tokens = np.stack([text.ids for text in TEXTS])
    found = diagnose(loaded(tmp_path, "m"), tokens, train_length=T, target_length=16 * T)
    assert found.norms.lengths_tokens == (T, 2 * T, 4 * T, 8 * T, 16 * T)
    assert found.growth().shape == (3,)
    assert found.spectrum.layers == (0, 2, 3)
    assert found.spectrum.moments.tokens == WINDOWS.size


def test_rules_that_could_not_be_baked_are_refused(tmp_path):
    written.write_foreign(tmp_path, "bamba")
    model = loaded(tmp_path)
    for rule in ("onset", "rescaled-time", "solved", "joint", "layer-dt"):
        with pytest.raises(RefusedInputError, match="take one of kind 'a'"):
            propose_for(model, TEXTS, T, 16 * T, rule=rule, always=True)
