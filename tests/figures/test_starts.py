"""Test ``mambascope.figures.starts`` and ``mambascope starts``: what is drawn is what was measured."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.starts_study import START_LABELS
from mambascope.analysis.starts_study.scores import less
from mambascope.figures.cli import main
from mambascope.figures.starts import METHOD_NAMES, STARTS, layers_figure, passes_figure, write_starts
from mambascope.figures.style import svg_bytes
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("m", Path(__file__).parents[1] / "analysis" / "made_up_starts.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
made_up = _module.made_up


def line(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found


def test_the_bold_line_is_the_median_over_seeds_above_the_control():
    study = made_up()
    panels = passes_figure(study).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["SPSA", "back-propagation"]
    for axes, method in zip(panels, ("spsa", "backprop"), strict=True):
        assert axes.get_xscale() == "log"
        for label in START_LABELS:
            runs = study.of("starts", method=method, label=label)
            bits = np.array([[bits for _, bits in run.curve] for run in runs]) - study.selection_control
            drawn = line(axes, STARTS[label].label)
            np.testing.assert_allclose(drawn.get_ydata(), np.median(bits, axis=0))
            np.testing.assert_array_equal(drawn.get_xdata(), [passes for passes, _ in runs[0].curve])
            thin = [
                each for each in axes.lines if each.get_color() == STARTS[label].colour and each.get_linewidth() < 1
            ]
            np.testing.assert_allclose([each.get_ydata() for each in thin], bits)
        assert {"no scaling", "fresh-window control"} <= {text.get_text() for text in axes.texts}


def test_everything_is_in_the_picture():
    for study in (made_up(), made_up({"spectrum": -0.003, "ones": 30.0})):
        for axes in passes_figure(study).axes:
            low, high = axes.get_ylim()
            drawn = np.concatenate([np.atleast_1d(each.get_ydata()) for each in axes.lines])
            assert low <= drawn.min() <= drawn.max() <= high


def test_starts_are_told_apart_without_colour():
    looks = [STARTS[label] for label in START_LABELS]
    assert len({look.marker for look in looks}) == len({str(look.line) for look in looks}) == len(looks)


def test_a_single_method_has_a_single_panel():
    assert len(passes_figure(made_up(methods=("backprop",), layer_kinds=())).axes) == 1


@pytest.mark.parametrize("documents", [8, 1])
def test_dots_are_the_harm_of_the_table_and_lines_its_interval(documents):
    study = made_up(documents=documents)
    (axes,) = layers_figure(study).axes
    rows = study.layer_rows()
    dots = [each for each in axes.lines if each.get_markersize() == 5]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [row["harm"] for row in rows]
    spans = [tuple(segment[:, 0]) for bars in axes.collections for segment in bars.get_segments()]
    assert spans == [(row["harm_ci_low"], row["harm_ci_high"]) for row in rows if documents > 1]
    small = sorted(float(each.get_xdata()[0]) for each in axes.lines if each.get_markersize() == 2.5)
    runs = [run for run in study.of("layers", label="uniform") if run.task.plan.seed]
    assert small == sorted(less(run.final.tail, study.control.tail).mean for run in runs)
    low, high = axes.get_xlim()
    assert all(low <= x <= high for span in spans for x in span)
    heads = {text.get_text() for text in axes.texts}
    assert {METHOD_NAMES["spsa-paper"], METHOD_NAMES["spsa"]} <= heads


def test_equal_comparisons_give_equal_bytes_and_tables_hold_every_number(run):
    write_starts(run, made_up())
    for draw in (passes_figure, layers_figure):
        assert svg_bytes(draw(made_up())) == svg_bytes(draw(made_up()))
    tables = {path.stem: path.read_text() for path in (run.folder / "tables").glob("*.csv")}
    assert set(tables) == {f"starts_{name}" for name in ("curves", "test", "passes", "constants", "found", "layers")}
    rows = list(csv.DictReader(io.StringIO(tables["starts_layers"])))
    assert [float(row["harm"]) for row in rows] == [row["harm"] for row in made_up().layer_rows()]
    assert (run.folder / "figures/starts-passes.png").stat().st_size > 10_000


WORDS = (
    "--target-length", "512", "--far-length", "512", "--train-length", "64", "--methods", "spsa", "--seeds", "1",
    "--steps", "1", "--batch", "1", "--selection-windows", "1", "--layer-kinds", "dt", "--layer-methods", "spsa",
    "--layer-batch", "1", "--layer-passes", "12", "--threads", "1",
)  # fmt: skip


@pytest.fixture
def books(tmp_path):
    found = []
    for role, split in (("calibration", "calibration"), ("validation", "validation"), ("text", "test")):
        path = tmp_path / f"{role}.txt"
        path.write_bytes(text_files(split)[0].read_bytes()[:1024])
        found += [f"--{role}", str(path)]
    return found


def test_the_command_prints_one_document_and_goes_on_where_it_was(tmp_path, books, capsys):
    words = ["starts", "mamba2-tiny", *WORDS, *books, "-o", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["start"] for row in document["runs"]] == [*START_LABELS, "spectrum", "projected", "uniform"]
    assert document["plan"]["far_rates"] == {"spsa": 1.0, "backprop": 1.0}
    before = (tmp_path / "out/tables/starts_layers.json").read_bytes()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "one factor a layer" in shown
    assert (tmp_path / "out/tables/starts_layers.json").read_bytes() == before
    told = " ".join(shown.split())
    assert all(" ".join(sentence.split()) in told for sentence in document["found"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--methods", "newton"], "--methods 'newton'"),
        (["--far-rates", "spsa"], "--far-rates 'spsa'"),
        (["--engine", "abacus"], "engine 'abacus'"),
        (["--layer-passes", "3"], "--layer-passes"),
        (["--target-length", "100000k"], "documents reach"),
    ],
)
def test_options_that_make_no_comparison_are_refused(words, told, tmp_path, capsys):
    assert main(["starts", "mamba2-tiny", *words, "-o", str(tmp_path / "out")]) == 3
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
