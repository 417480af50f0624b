"""Test ``mambascope.figures.evaluate`` and the options of ``mambascope evaluate``: starts, reference, files."""

import json

import numpy as np
import pytest

from mambascope.analysis.evaluate.curve import curve_rows
from mambascope.analysis.evaluate.position_sums import PositionSums, edges_for
from mambascope.analysis.methods import SETS
from mambascope.figures.cli import main
from mambascope.figures.evaluate import evaluation_figure
from mambascope.figures.style import METHODS
from mambascope.spectra.scales import scaling
from mambascope.spectra.zoo import text_files


def curve_of(methods, documents=4, control=True):
    rng = np.random.default_rng(0)
    edges = edges_for([1024])
    base = 3 + rng.normal(0, 0.3, (documents, 1023))
    sums = {m: PositionSums.of_bits(base + 0.1 * k * np.arange(1023) / 1023, edges) for k, m in enumerate(methods)}
    of_control = sums.get("fresh-window") if control else None
    return [row for m in methods for row in curve_rows(m, sums[m], np.arange(documents), of_control)]


def line(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found


def test_each_method_is_drawn_as_it_was_measured():
    methods = ["fresh-window", "none", "constant:2", "rule:hard-clip"]
    curve = curve_of(methods)
    whole, above = evaluation_figure("x", curve, 256).axes
    drawn = line(whole, METHODS["none"].label)
    np.testing.assert_array_equal(drawn.get_ydata(), [r.bits_per_token for r in curve if r.method == "none"])
    assert drawn.get_color() == METHODS["none"].colour
    drawn = line(above, "constant:2")
    np.testing.assert_array_equal(drawn.get_ydata(), [r.above_control for r in curve if r.method == "constant:2"])
    colours = {line(above, each.get_label()).get_color() for each in above.lines if each.get_label()[0] != "_"}
    assert len(colours) == 3  # methods without a style of their own are told apart
    assert len(whole.collections) - len(above.collections) == 1  # a band each, none for the control below
    assert above.get_xlabel() == "position in the text (tokens); 4 documents"


def test_one_document_without_a_control_is_one_panel_without_bands():
    (axes,) = evaluation_figure("x", curve_of(["none"], 1, control=False), None).axes
    assert axes.get_xlabel().endswith("1 document")
    assert len(axes.collections) == 0


@pytest.fixture
def texts(tmp_path):
    paths = [tmp_path / f"{k}.txt" for k in range(3)]
    for k, (path, book) in enumerate(zip(paths, text_files("test"), strict=False)):
        path.write_bytes(book.read_bytes()[: 2100 if k else 700])
    return paths


def evaluated(capsys, texts, *words):
    code = main(["evaluate", "mamba2-tiny", "--text", *map(str, texts), *map(str, words), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out), shown.err


def test_several_starts_count_as_one_text(capsys, texts):
    found, err = evaluated(capsys, texts, "--lengths", "256,512,1k", "--methods", "none,constant:2", "--starts", 2)
    counts = {(r["length"], r["documents"], r["passages"]) for r in found["rows"]}
    assert counts == {(256, 3, 5), (512, 3, 5), (1024, 2, 4)}
    assert "2 of 3 documents reach 1024 tokens" in err
    assert found["pairs"] == []
    same, err = evaluated(
        capsys, texts, "--lengths", "256,1k", "--methods", "none,constant:2", "--same-documents", "--reference", "none"
    )
    assert {(r["length"], r["documents"]) for r in same["rows"]} == {(256, 2), (1024, 2)}
    assert [(p["method"], p["reference"]) for p in same["pairs"]] == [("constant:2", "none")] * 2


def test_a_beginning_of_text_id_is_read_and_not_scored(capsys, texts):
    words = ("--lengths", "64", "--methods", "none")
    plain, _ = evaluated(capsys, texts, *words)
    with_id, _ = evaluated(capsys, texts, *words, "--bos", 256)
    assert plain["rows"][0]["tokens"] == with_id["rows"][0]["tokens"] == 3 * 63
    assert plain["rows"][0]["bits_per_token"] != with_id["rows"][0]["bits_per_token"]


def test_tables_and_the_figure_are_written_and_stay_the_same(capsys, texts, tmp_path):
    words = ("--lengths", "256,512", "--methods", "none,constant:2,fresh-window", "--reference", "none")
    words = (*words, "-o", tmp_path / "r")
    found, _ = evaluated(capsys, texts, *words)
    names = ["tables/perplexity.csv", "tables/paired.csv", "tables/curve.csv", "figures/curve.png", "figures/curve.pdf"]
    before = {name: (tmp_path / "r" / name).read_bytes() for name in names}
    again, _ = evaluated(capsys, texts, *words)
    assert again == found
    assert {name: (tmp_path / "r" / name).read_bytes() for name in names} == before
    stored = json.loads((tmp_path / "r/tables/paired.json").read_text())
    assert stored["rows"] == found["pairs"]
    assert main(["evaluate", "mamba2-tiny", "--text", *map(str, texts), *map(str, words)]) == 0
    assert "tail bits more than none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--starts", "0"], "at least 1 passage"),
        (["--bos", "999"], "expected an id from 0 to"),
        (["--reference", "spectrum", "--methods", "none"], "expected one of the methods, none"),
        (["--methods", "rule:hard-clap"], "hard-clip"),
    ],
)
def test_what_cannot_be_is_refused(capsys, words, message):
    assert main(["evaluate", "mamba2-tiny", *words]) == 3
    assert message in capsys.readouterr().err


def test_sets_of_methods(capsys, texts, monkeypatch):
    monkeypatch.setitem(SETS, "some", ("none", "constant:2"))
    found, _ = evaluated(capsys, texts, "--lengths", "256", "--methods", "some,,none")
    assert [row["method"] for row in found["rows"]] == ["none", "constant:2"]


def test_a_file_of_scales_that_changed_is_another_run(capsys, texts, tmp_path):
    file, words = tmp_path / "s.json", ["--lengths", "256", "--methods", f"none,scales:{tmp_path / 's.json'}"]
    scaling("a", 2.0).save(file)
    evaluated(capsys, texts, *words, "-o", tmp_path / "run")
    scaling("a", 0.25).save(file)
    assert main(["evaluate", "mamba2-tiny", "--text", *map(str, texts), *words, "-o", str(tmp_path / "run")]) == 3
    assert "holds a different run" in capsys.readouterr().err
