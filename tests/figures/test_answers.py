"""figures/answers.py: the report in short says what the study measured."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mambascope.analysis.breakdown import breakdown
from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.proposal import propose
from mambascope.figures.answers import _without_memory, answers, card
from mambascope.figures.head_map import quantities
from mambascope.spectra.loading import load
from mambascope.spectra.zoo import text_files

from .conftest import T, make_study


def test_a_broken_model_is_told_with_its_own_numbers():
    study = make_study()
    told = dict(answers(study))
    harm = study.row("none", study.target_length).harm
    assert f"{harm:+.2f}" in told["Where does it break?"]
    tau = np.concatenate([v.ravel() for v in study.proposal.diagnosis.spectrum.horizons_tokens()])
    assert f"{(tau > T).mean():.0%} of its modes remember more than the {T} tokens" in told["Why?"]
    assert f"{study.best_constant:g}" in told["What do the scales change?"]
    assert told["What do they give up?"].startswith("Memory: of a state's energy ")


def test_what_the_scales_cost_inside_is_measured_within_the_training_length():
    study = make_study()
    bits = dict(study.bits)
    bits["spectrum"] = bits["none"].copy()
    bits["spectrum"][:, : T - 1] += 0.25
    bits["spectrum"][:, T - 1 :] += 3.0
    told = dict(answers(dataclasses.replace(study, bits=bits)))
    assert told["What do they give up?"].endswith(
        "the first 64 tokens cost +0.250 bits per token against the unscaled model."
    )


def test_a_model_that_holds_is_left_alone():
    told = dict(answers(make_study(acts=False, harm=0.0)))
    assert told["Where does it break?"].startswith("Nowhere up to 1,024 tokens")
    assert "Why not?" in told
    assert told["What do the scales change?"].startswith("Nothing: no scales were proposed.")
    assert told["What do they give up?"] == "Nothing."


def test_heads_that_grow_without_a_long_memory_are_explained():
    growth, layers = np.array([[2.5, 1.0], [1.0, 1.0]]), np.array([1.03, 0.9])
    fields = {"train_length": 64, "target_length": 1024, "growth": lambda: growth}

    def said(longest, layers):
        tau = np.array([[longest, 3.0], [1.0, 1.0]])
        return _without_memory(SimpleNamespace(horizon_tokens=tau, layer_growth=lambda: (layers, layers), **fields))

    assert "As none of them remembers more than 64 tokens" in said(60.0, layers)
    assert "No layer as a whole grows" in said(60.0, layers)
    assert said(65.0, layers) == ""  # memory may well pile up
    assert said(60.0, 9 * layers) == ""
    growth[0, 0] = 1.0
    assert said(60.0, layers) == ""  # nothing to explain


def test_where_it_breaks_is_the_first_length_above_the_tolerance():
    study = dataclasses.replace(make_study(), forecast=None)
    lengths = sorted({row.length for row in study.rows})
    first = next(n for n in lengths if study.row("none", n).harm > 0.05)
    assert dict(answers(study))["Where does it break?"].startswith(f"By {first:,} tokens, {first / T:g} times")


def test_a_hostile_name_is_escaped():
    html = card(make_study(name="<b>x"), '"a')
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html


@pytest.fixture(scope="module")
def measured():
    """A bundled model whose writes were measured, in the study of another."""
    ids = np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:1024] for path in text_files("calibration")[:2]])
    found = diagnose(load("mamba2-tiny"), ids, train_length=256, target_length=1024, writes=True)
    return dataclasses.replace(make_study(), proposal=propose(found))


def test_heads_are_counted_and_named_by_their_measured_growth(measured):
    found = breakdown(measured.proposal.diagnosis)
    growth = found.growth()
    told = dict(answers(measured))["Which heads?"]
    assert told.startswith(f"{(growth >= 2).sum()} of 40 grow 2 times or more from 256 to 1,024 tokens")
    layer, head = np.unravel_index(growth.argmax(), growth.shape)
    assert f"most: layer {layer} head {head} (" in told


def test_the_map_tells_measured_growth_from_predicted(measured):
    found, by_name = breakdown(measured.proposal.diagnosis), {q.name: q.values for q in quantities(measured)}
    for name, values in by_name.items():
        if "measured" in name:
            np.testing.assert_array_equal(values, found.growth())
        elif "predicted" in name:
            np.testing.assert_array_equal(values, found.predicted_growth())
    assert not np.allclose(found.growth(), found.predicted_growth(), rtol=0.05)


def test_scales_that_harm_are_not_told_as_a_gain():
    told = dict(answers(make_study(harm=0.0)))
    assert "falls" not in told["What do the scales change?"]
    assert told["Why not?"].endswith(("stays in range.", "which the layers after it bear."))
