"""Test ``mambascope.analysis.head_norms``: real heads, predicted from training windows and measured beyond them."""

import json

import numpy as np
import pytest

from mambascope.analysis.head_norms import HeadNorms, lengths_near, measure_head_norms
from mambascope.analysis.norm_forms import FORMS
from mambascope.analysis.write_statistics import write_moments
from mambascope.spectra import load, scaling
from mambascope.spectra.zoo import text_files

T, L = 256, 4096


@pytest.fixture(scope="module", params=["mamba2-tiny", "mamba-tiny"])
def measured(request):
    model = load(request.param, device="cpu")
    texts = np.stack([np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("calibration")])
    moments = write_moments(model, texts, T, windows_per_document=16)
    in_range = scaling("a", 64.0)  # every horizon short: inputs of all layers stay as they are within T
    rows = texts[:, :L]
    return {
        "model": measure_head_norms(model, rows, moments, L),
        "replay": measure_head_norms(model, rows, moments, L, intervention=in_range, inputs="replay"),
    }


def test_norms_of_the_first_layer_are_predicted_from_training_windows(measured):
    """Measured on all calibration text: 0.5 % (heads), 0.7 % (channels). Here four rows; a coin of 10 % is allowed."""
    norms = measured["model"].by_channel()
    assert norms.by_layer()[0] < 0.1
    assert np.median(norms.measured[0] / norms.trained[0]) > 5  # the heads have left what training showed
    assert norms.by_layer("noise")[0] > 1  # negative control: without the mean they are missed


def test_a_replay_of_the_first_layer_is_the_models_own_run(measured):
    """Its inputs depend on no state, so that what runs upstream cannot matter."""
    np.testing.assert_allclose(measured["replay"].measured[0], measured["model"].measured[0], rtol=1e-4)
    ratio = measured["replay"].measured[1:] / measured["model"].measured[1:]
    assert np.median(np.abs(np.log(ratio))) > 0.01  # deeper inputs do change


def test_the_error_shrinks_where_inputs_stay_in_range(measured):
    assert measured["replay"].median_error() < measured["model"].median_error()


def test_channels_are_the_norm_of_their_modes(measured):
    norms = measured["model"]
    channels = norms.by_channel()
    assert channels.unit == ("head" if norms.unit == "head" else "channel")
    if norms.unit == "mode":
        np.testing.assert_allclose(channels.measured**2, (norms.measured**2).sum(-1))
        np.testing.assert_allclose(channels.predicted["white"] ** 2, (norms.predicted["white"] ** 2).sum(-1))
    else:
        assert channels is norms


def test_the_dictionary_is_plain_json():
    values = np.array([[1.0, 2.0]])
    norms = HeadNorms("m", "head", 8, 64, "model", values, 2 * values, 0 * values, dict.fromkeys(FORMS, 3 * values))
    found = json.loads(json.dumps(norms.to_dict()))
    assert found["median_error"]["white"] == pytest.approx(0.5)
    assert found["median_error_by_layer"]["noise"] == pytest.approx([0.5])
    assert norms.ratio() == pytest.approx(1.5)


def test_lengths_near():
    assert lengths_near(1024, 64) == [832, 896, 960, 1024]
