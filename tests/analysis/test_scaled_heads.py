"""Test ``mambascope.analysis.scaled_heads`` and ``trace_replay``: a factor from training windows keeps a real norm."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.analysis.scaled_heads import ScaledHead, scaled_heads
from mambascope.analysis.trace_replay import Case, replayed_squares
from mambascope.analysis.write_statistics import write_moments
from mambascope.simulate.replay import Change
from mambascope.spectra import load, scaling
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.norms import state_norms
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, L = 256, 4096


def squares(model, ids, stops, intervention=None):
    return state_norms(model, ids, stops, intervention=intervention).head_l2() ** 2


def test_replayed_squares_are_the_models_own():
    model, ids = tiny.tiny_model("mamba2", torch.float64), torch.randint(0, 50, (2, 600))
    cases = {"own": Case(), "double": Case({0: [Change("a", 2.0)]}), "fresh": Case(restart_every=100)}
    stops = [100, 256, 600]
    found = replayed_squares(model, ids, cases, stops, selection={0: None, 2: [3]})
    own = squares(model, ids, stops)
    np.testing.assert_allclose(found["own"][0], own[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["own"][2][..., 0], own[:, 2, :, 3], rtol=1e-9)
    np.testing.assert_allclose(found["double"][0], squares(model, ids, stops, scaling("a", 2.0))[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["double"][2], found["own"][2], rtol=1e-12)
    np.testing.assert_allclose(found["fresh"][0][0], own[0, 0], rtol=1e-9)
    assert found["fresh"][0][2].sum() < 0.5 * own[2, 0].sum()  # most of the slow heads' states is gone


def test_upstream_scales_change_inputs_and_not_the_replayed_rates():
    model, ids = tiny.tiny_model("mamba2", torch.float64), torch.randint(0, 50, (1, 300))
    found = replayed_squares(model, ids, {"own": Case()}, [300], upstream=scaling("a", 50.0))["own"]
    own = squares(model, ids, [300])
    np.testing.assert_allclose(found[0], own[:, 0], rtol=1e-9)
    assert np.abs(found[2] / own[:, 2] - 1).max() > 1e-3
    with pytest.raises(ScaleError, match="scaled dt"):
        replayed_squares(model, ids, {"own": Case()}, [300], upstream=scaling("dt", 0.5))


def test_real_heads_keep_their_norm_under_the_rule():
    model = load("mamba2-tiny", device="cpu")
    texts = np.stack([np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("calibration")])
    moments = write_moments(model, texts, T, windows_per_document=16)
    found = scaled_heads(model, texts[:, :L], moments, L, upstream=scaling("a", 64.0))
    assert len(found.heads) == 40
    assert found.share_within >= 0.8  # all of them on more text
    assert found.modes_within == found.share_within
    unscaled = np.array([head.unscaled for head in found.heads])
    assert np.mean(np.abs(unscaled - 1) <= 0.15) < 0.3  # negative control: without factors few stay
    fields = json.loads(json.dumps(found.to_dict()))
    assert len(fields["heads"]) == 40
    assert all(bool(row["reason"]) != row["passes"] for row in fields["heads"])


def test_channels_of_mamba_1():
    model = load("mamba-tiny", device="cpu")
    texts = np.stack([np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("calibration")])
    moments = write_moments(model, texts, T, windows_per_document=4)
    found = scaled_heads(model, texts[:, :1024], moments, 1024, selection={0: [3, 200], 2: [7]})
    assert [(head.layer, head.head) for head in found.heads] == [(0, 3), (0, 200), (2, 7)]
    assert 0 <= found.modes_within <= 1


@pytest.mark.parametrize(
    ("scaled", "fresh", "steps", "error", "reason"),
    [
        (1.1, 1.1, 1.0, 0.01, ""),
        (1.3, 1.25, 1.0, 0.01, "inputs drift"),
        (1.3, 1.25, 2.0, 0.01, "steps drift"),
        (1.3, 1.0, 1.0, 0.2, "few effective samples"),
        (1.3, 1.0, 1.0, 0.01, "not explained by drift or noise"),
    ],
)
def test_reasons(scaled, fresh, steps, error, reason):
    head = ScaledHead(0, 1, 2.0, 1.0, 5.0, scaled, fresh, steps, error)
    assert head.reason.startswith(reason)
    assert head.passes == (reason == "")
