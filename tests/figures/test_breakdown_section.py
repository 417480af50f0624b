"""figures/breakdown_section.py: which heads break, in words, on the bundled model."""

import dataclasses

import numpy as np

from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.proposal import propose
from mambascope.figures.breakdown_section import breakdown_words
from mambascope.spectra.loading import load
from mambascope.spectra.zoo import text_files


def test_a_model_that_breaks_is_diagnosed_in_words(make):
    model = load("mamba2-tiny")
    ids = np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:1024] for path in text_files("calibration")[:2]])
    found = diagnose(model, ids, train_length=256, target_length=1024, writes=True)
    text = breakdown_words(dataclasses.replace(make(), proposal=propose(found)))
    assert "35 of 40 heads remember more than the 256 tokens" in text
    assert "Next: mambascope" not in text
    assert text.count("<tr>") == 9
    assert breakdown_words(make()) == ""  # no writes were measured
