"""figures/forecast_section.py: words that follow from forecast and measurement, whichever way it went."""

import pytest

from mambascope.figures.forecast_section import forecast_section, judged_words, measured_words

SMALL = 0.01  # of the harm: far below what counts


def test_a_breakdown_that_was_foreseen(studies, forecast_of):
    found = forecast_of(studies["mamba2"]).forecast
    said, came = found.forecast.onset(), found.onset()
    words = judged_words(found)
    assert f"put a factor of {max(said / came, came / said):.2f} too {'late' if said > came else 'early'}" in words
    assert f"a plain guess of 2 T would have been a factor of {128 / came:.2f} too late" in words
    rows = found.measured[1:]
    inside = sum(row.harm_ci_low <= found.forecast.harm(row.length) <= row.harm_ci_high for row in rows)
    assert f"lies inside the measured 95 % interval; it lies inside at {inside} of 4 lengths beyond T." in words
    assert "On 3 test documents, each read once from its start, harm passes 0.05 bits at" in measured_words(found)


@pytest.mark.parametrize(("share", "side"), [(0.25, "little"), (4.0, "much")])
def test_a_size_that_is_off_is_called_so(studies, forecast_of, share, side):
    found = forecast_of(studies["mamba2"], share).forecast
    words, last = judged_words(found), found.measured[-1]
    told = found.forecast.harm(last.length)
    gap = last.harm_ci_low - told if share < 1 else told - last.harm_ci_high
    assert f"% too {side} and lies {gap:.2f} bits outside the measured 95 % interval; it lies inside at 0 of 4" in words
    assert f"too {'late' if share < 1 else 'early'}, where" in words


def test_a_breakdown_that_was_missed(studies, forecast_of):
    assert judged_words(forecast_of(studies["mamba2"], SMALL / 4).forecast).startswith("Not foreseen")


def test_no_breakdown_foreseen_and_a_false_alarm(make, forecast_of):
    quiet = make("quiet", harm=0.004)
    found = forecast_of(quiet).forecast
    assert judged_words(found).startswith("Foreseen: no harm up to L.")
    assert "stays below 0.05 bits" in measured_words(found)
    assert judged_words(forecast_of(quiet, 1000).forecast).startswith("A false alarm")


def test_one_document_has_no_interval(studies, forecast_of):
    found = forecast_of(studies["single"]).forecast
    assert measured_words(found).startswith("On 1 test document, ")
    assert judged_words(found).endswith("cannot be held against an interval: there is one document.")


def test_nothing_is_said_where_nothing_was_foretold(studies):
    assert forecast_section(studies["mamba2"], {}) == ""
