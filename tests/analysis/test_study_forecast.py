"""analysis/study_forecast.py: made first, from windows of T, and set beside the study's own bits."""

import numpy as np
import pytest

from mambascope.analysis import forecast, study
from mambascope.analysis.evaluate.perplexity import rows_by_length
from mambascope.analysis.forecast import WINDOWS, planned_forecast_tokens
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts, run_study
from mambascope.analysis.study_forecast import FEWEST_WINDOWS, foretell, planned_tokens, windows_within
from mambascope.spectra.tokens import Document
from tests.spectra.tiny import tiny_model

T, L = 16, 128


def documents(seed, count=3, length=300):
    rng = np.random.default_rng(seed)
    return tuple(Document(f"d{seed}-{k}", rng.integers(0, 50, length).astype(np.uint8)) for k in range(count))


TEXTS = Texts(documents(1), documents(2), documents(3))


@pytest.fixture
def run(tmp_path):
    with RunFolder.open(tmp_path / "run", command={"test": "forecast"}, seed=0) as folder:
        yield folder


def test_it_is_kept_before_anything_longer_is_read(run, monkeypatch):
    kept = []

    def after(name):
        original = getattr(study, name)

        def called(*args, **kwargs):
            kept.append(("arrays", "tiny-mamba2/forecast") in run.journal)
            return original(*args, **kwargs)

        monkeypatch.setattr(study, name, called)

    for name in ("diagnose", "token_bits", "fresh_window_bits", "state_norms"):
        after(name)
    found = run_study(tiny_model("mamba2"), TEXTS, run, train_length=T, target_length=L)
    assert len(kept) > 6
    assert all(kept)
    assert found.forecast.forecast.target_length == L


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_what_came_is_the_harm_of_the_study(run, arch):
    found = run_study(tiny_model(arch), TEXTS, run, train_length=T, target_length=L)
    rows = found.forecast.measured
    assert [row.length for row in rows] == [T, 2 * T, 4 * T, L]
    assert rows[-1] == found.row("none", L)
    control = found.bits["fresh-window"]
    assert rows[1] == rows_by_length("none", found.bits["none"], [2 * T], control)[0]


def test_test_text_does_not_change_it(run):
    model = tiny_model("mamba2")
    first = foretell(model, TEXTS.calibration, run, train_length=T, target_length=L, key="a")
    texts = Texts(TEXTS.calibration, TEXTS.validation, documents(4))
    whole = run_study(model, texts, run, train_length=T, target_length=L, key="b").forecast.forecast
    np.testing.assert_array_equal(first.harm_by_age, whole.harm_by_age)
    other = foretell(model, documents(5), run, train_length=T, target_length=L, key="c")
    assert not np.array_equal(first.harm_by_age, other.harm_by_age)


def test_a_model_with_large_states_gets_fewer_windows(run, monkeypatch):
    model = tiny_model("mamba2")
    row = sum(layer.conv.nbytes + layer.ssm.nbytes for layer in model.zero_state(1).layers)
    assert windows_within(model) == WINDOWS
    assert windows_within(model, 240 * row) == 20
    assert windows_within(model, row) == FEWEST_WINDOWS
    monkeypatch.setattr("mambascope.analysis.study_forecast.windows_within", lambda _: 12)
    ticks = []
    found = foretell(model, TEXTS.calibration, run, train_length=T, target_length=L, tick=ticks.append)
    assert len(found.harm_by_age) == 12
    assert sum(ticks) == planned_tokens(TEXTS.calibration, T, L)  # the bar reaches its end


def test_the_plan_is_what_is_run(run):
    ticks = []
    foretell(tiny_model("mamba"), TEXTS.calibration, run, train_length=T, target_length=L, tick=ticks.append)
    windows = forecast.forecast_windows([d.ids for d in TEXTS.calibration], T)
    assert sum(ticks) == planned_forecast_tokens(windows, L) == planned_tokens(TEXTS.calibration, T, L)


def test_a_training_length_too_short_is_left_out(run):
    assert foretell(tiny_model("mamba"), TEXTS.calibration, run, train_length=3, target_length=12) is None
    assert planned_tokens(TEXTS.calibration, 3, 12) == 0
