"""figures/forecast.py and figures/commands/forecast.py: what is drawn, what is written and in which order."""

import dataclasses
import json

import numpy as np
import pytest

from mambascope.analysis import forecast_check
from mambascope.analysis.evaluate.position_sums import PositionSums, edges_for
from mambascope.analysis.evaluate.rows import rows_of
from mambascope.analysis.forecast import Forecast
from mambascope.analysis.forecast_check import Checked
from mambascope.figures.cli import main
from mambascope.figures.forecast import agreement_figure, forecast_figure, outcome_figure
from mambascope.figures.style import svg_bytes
from tests.spectra.tiny import save_tiny

T = 16


def checked(name, harm, measured):
    """A forecast of a harm that is the same at all ages beyond T, and books with another."""
    ages = np.array([0.75, 1.75, 1000.0]) * T
    found = Forecast(name, T, 64 * T, "closed", ages, np.array([[0.0, harm, harm]] * 3), np.ones((3, 2)) * (1 + harm))
    edges = edges_for(found.lengths)
    control = PositionSums(edges, 2.0 * np.diff(edges) * np.ones((5, 1)))
    beyond = np.diff(edges) * (edges[:-1] >= T) * measured * np.linspace(0.9, 1.1, 5)[:, None]
    rows = rows_of("none", PositionSums(edges, control.sums + beyond), np.arange(5), found.lengths, control)
    return Checked(found, tuple(rows))


@pytest.fixture(scope="module")
def cases():
    return [checked("a", 2.0, 1.5), checked("b", 0.2, 0.3), checked("c", 0.0, -0.004)]


def test_every_length_of_every_model_has_its_point(cases):
    figure = forecast_figure([one.forecast for one in cases], cases)
    assert len(figure.axes) == 3
    for axes, one in zip(figure.axes, cases, strict=True):
        predicted, measured = axes.lines[:2]
        times = [n / T for n in one.forecast.lengths]
        np.testing.assert_allclose(predicted.get_xdata(), times)
        np.testing.assert_allclose(predicted.get_ydata(), [one.forecast.harm(n) for n in one.forecast.lengths])
        np.testing.assert_allclose(measured.get_ydata(), [row.harm for row in one.measured])
        assert one.forecast.name in axes.get_title(loc="left")
        low, high = axes.get_ylim()
        assert low < min(measured.get_ydata())
        assert max(*measured.get_ydata(), *predicted.get_ydata()) < high


def test_one_model_has_its_lengths_named(cases):
    (axes,) = outcome_figure(cases[1]).axes
    predicted, measured = axes.lines[:2]
    lengths = list(cases[1].forecast.lengths)
    np.testing.assert_allclose(predicted.get_xdata(), lengths)
    np.testing.assert_allclose(measured.get_ydata(), [row.harm for row in cases[1].measured])
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["T = 16", "32", "64", "128", "256", "512", "L = 1k"]
    low, high = axes.get_ylim()
    assert low < 0 < max(*measured.get_ydata(), *predicted.get_ydata()) < high


def test_the_training_length_is_told_once_where_it_is_one(cases):
    one = forecast_figure([case.forecast for case in cases], cases)
    assert "(T = 16)" in one.get_suptitle()
    assert not any(text.get_text().startswith("T = ") for axes in one.axes for text in axes.texts)
    other = dataclasses.replace(cases[0].forecast, train_length=32)
    two = forecast_figure([other, cases[1].forecast])
    assert "T =" not in two.get_suptitle()
    assert [text.get_text() for axes in two.axes for text in axes.texts] == ["T = 32", "T = 16"]


def test_the_scatter_names_its_rank_correlation(cases):
    figure = agreement_figure(cases)
    (axes,) = figure.axes
    assert "rank correlation 0.9" in figure.get_suptitle()
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, [[one.forecast.harm(2 * T), one.harm(2 * T)] for one in cases])
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xscale() == axes.get_yscale() == "symlog"


def test_equal_inputs_give_equal_bytes(cases):
    found = [one.forecast for one in cases]
    assert svg_bytes(forecast_figure(found, cases)) == svg_bytes(forecast_figure(found, cases))
    assert svg_bytes(forecast_figure(found)) != svg_bytes(forecast_figure(found, cases))


@pytest.fixture
def words(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("calibration", "test", "other"):
        (tmp_path / f"{name}.txt").write_bytes(rng.integers(97, 123, 700).astype(np.uint8).tobytes())
    models = [save_tiny(tmp_path / arch, arch, T) for arch in ("mamba2", "mamba")]
    texts = ["--text", tmp_path / "calibration.txt", "--test", tmp_path / "test.txt", tmp_path / "other.txt"]
    options = [*texts, "--windows", 4, "--target-length", 4 * T, "-o", tmp_path / "run"]
    return ["forecast", *models, *options]


def run(words):
    return main([str(word) for word in words])


def test_the_forecast_alone(words, capsys, tmp_path):
    assert run([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in said["models"]] == ["mamba2", "mamba"]
    assert [row["length"] for row in said["models"][0]["rows"]] == [2 * T, 4 * T]
    assert said == json.loads((tmp_path / "run/forecast.json").read_text())
    assert not (tmp_path / "run/agreement.json").exists()
    assert run([*words, "--fresh"]) == 0
    assert capsys.readouterr().out.count("harm is expected to") == 2


def test_the_forecast_is_written_before_longer_text_is_read(words, capsys, tmp_path, monkeypatch):
    written = []

    def scored(*args, **kwargs):
        written.append((tmp_path / "run/forecast.json").is_file())
        return original(*args, **kwargs)

    original = forecast_check.score
    monkeypatch.setattr(forecast_check, "score", scored)
    assert run([*words, "--check", "--open-loop", "--json"]) == 0
    assert written == [True, True]
    document = json.loads(capsys.readouterr().out)
    assert [row["length"] for row in document["rows"]] == [2 * T, 4 * T] * 2
    assert document["rows"][0]["passages"] == 20  # ten of 64 tokens fit in each of two texts of 700
    assert document["agreement"]["models"] == 2
    for name in ("figures/forecast.png", "figures/agreement.pdf", "tables/forecast.csv", "tables/onset.json"):
        assert (tmp_path / "run" / name).is_file()
    assert run([*words, "--check", "--open-loop"]) == 0  # all from the folder
    assert len(written) == 2
    assert "rank correlation" in capsys.readouterr().out


def test_test_texts_must_be_others(words, capsys, tmp_path):
    at = words.index("--test") + 1
    same = [*words[:at], tmp_path / "calibration.txt", *words[at + 2 :], "--check"]
    assert run(same) == 3
    assert "must differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no model given"),
        (["mamba2-tiny", "--windows", "1"], "at least 2"),
        (["mamba2-tiny", "--target-length", "300"], "at least twice"),
        (["--study", "x.txt"], "needs a folder"),
    ],
)
def test_what_is_refused(words, says, capsys):
    assert run(["forecast", *words]) == 3
    assert says in capsys.readouterr().err


def test_the_study_trains_its_models_and_takes_them_along(tmp_path, monkeypatch, capsys):
    import msgspec

    from mambascope.analysis import forecast_variants

    text = tmp_path / "train.txt"
    text.write_bytes(np.random.default_rng(0).integers(97, 123, 2000).astype(np.uint8).tobytes())
    small = {"d_model": 16, "n_layer": 1, "d_state": 4, "steps": 2, "batch": 2, "train_length": T}
    first = msgspec.structs.replace(forecast_variants.VARIANTS[0], **small)
    monkeypatch.setattr(forecast_variants, "VARIANTS", (first,))
    out = tmp_path / "out"
    words = ["forecast", "--study", text, "--windows", 4, "--target-length", 2 * T, "-o", out, "--json"]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["models"][0]["name"] == first.name
    assert (out / "models" / first.name / "model" / "model.safetensors").is_file()
    assert (out / "forecast" / "forecast.json").is_file()
    assert run(words) == 0  # nothing is trained again
    assert capsys.readouterr().out == said
