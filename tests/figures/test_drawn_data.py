"""figures/drawn_data.py: the numbers beside a figure are those that it shows."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure

from mambascope.figures.drawn_data import drawn_rows
from mambascope.figures.norms import norms_figure
from mambascope.figures.spectrum import spectrum_figure
from mambascope.figures.style import save

from .conftest import norms_of, spectrum_of


def rows_of(draw):
    figure = Figure()
    axes = figure.subplots()
    draw(axes)
    figure.draw_without_rendering()
    return drawn_rows(figure)


def test_lines_and_points_with_their_labels():
    def draw(axes):
        axes.plot([1, 2, np.nan], [3, 4, 5], label="a line")
        axes.plot([5], [6], "o", label="a point")
        axes.axhline(9)
        axes.axvline(9)
        axes.set_xlabel("time\n(s)")

    assert rows_of(draw) == [
        {"panel": 1, "x_axis": "time (s)", "y_axis": "", "drawn": kind, "label": label, "x": x, "y": y}
        for kind, label, x, y in (("line", "a line", 1, 3), ("line", "a line", 2, 4), ("point", "a point", 5, 6))
    ]


def test_bands_and_intervals_are_named_by_the_line_of_their_colour():
    def draw(axes):
        axes.plot([1, 2], [3, 4], color="red", label="ours")
        axes.fill_between([1, 2], [2.5, 3], [3.5, 5], color="red", alpha=0.2)
        axes.vlines(1, 2, 4, color="red")
        axes.vlines(1, 2, 4, color="blue")

    rows = [row for row in rows_of(draw) if row["drawn"] != "line"]
    assert [(r["drawn"], r["label"], r["x"], r["y"], r["y_high"]) for r in rows] == [
        ("band", "ours", 1, 2.5, 3.5),
        ("band", "ours", 2, 3, 5),
        ("interval", "ours", 1, 2, 4),
        ("interval", "#0000ff", 1, 2, 4),
    ]


def test_bars_and_coloured_points():
    rows = rows_of(lambda axes: (axes.bar([1], [5], width=1), axes.scatter([3], [4], c=[0.5], label="s")))
    assert [(r["drawn"], r["x"], r["y"]) for r in rows] == [("point", 3, 4), ("bar", 0.5, 0)]
    assert rows[0]["value"] == 0.5
    assert (rows[1]["x_high"], rows[1]["y_high"]) == (1.5, 5)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_heatmap_holds_the_eigenvalues_of_the_spectrum(arch):
    found = spectrum_of("m", arch, 3)
    figure = spectrum_figure(found, 64)
    figure.draw_without_rendering()
    rows = drawn_rows(figure)
    for panel, which in ((1, "static"), (2, "effective")):
        for layer, values in enumerate(found.eigenvalues(which)):
            cells = [r["value"] for r in rows if r["panel"] == panel and r["y"] == layer]
            np.testing.assert_array_equal(cells, np.sort(values, axis=None)[::-1])
    assert {r["panel"] for r in rows} == {1, 2, 3}  # colour bars are no panels


def test_a_saved_figure_has_its_numbers_beside_it(run):
    norms = norms_of("m", "mamba2", 2, (64, 128, 256), 0.5)
    paths = save(norms_figure(norms, None, 64), run, "a")
    assert [path.name for path in paths] == ["a.png", "a.pdf", "a.svg", "a.csv"]
    assert {f"figures/{path.name}" for path in paths} <= set(run.manifest.outputs)
    assert b"<svg" in paths[2].read_bytes()[:400]
    with paths[3].open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "no scaling, layer 1"]
    np.testing.assert_array_equal([float(row["y"]) for row in rows], norms.rms()[:, 1])
