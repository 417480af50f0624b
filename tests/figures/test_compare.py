"""figures/compare.py, compare_plots.py and ``mambascope compare``: tables and figures hold the rows, and no more."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.compare import Comparison
from mambascope.analysis.compare_rows import CompareRow
from mambascope.analysis.methods import SETS, Fitted
from mambascope.analysis.methods.constants import GRIDS
from mambascope.analysis.methods.method import Choice
from mambascope.figures.cli import main
from mambascope.figures.compare import html_page, table_lines, write_comparisons
from mambascope.figures.compare_plots import constants_figure, harm_figure, looks_of, perplexity_figure, shown
from mambascope.spectra.scales import scaling

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

LENGTHS = (512, 4096, 32768)
HARM = {"none": 5.0, "fresh-window": 0.0, "constant:a:2": 2.0, "constant:a:3": 1.5, "constant:dt:2": 9.0}
HARM |= {"constant:a:best": 0.1, "heads": 0.05, "spectrum": 0.002}


def made_up(name="made-up", broken=()):
    """Return a comparison with harms given above."""
    fitted, rows = [], []
    for method, harm in HARM.items():
        choices, by_length = (), ()
        if method.endswith("best"):
            choices = tuple(Choice("a", s, n, 3.0, 2 + abs(np.log2(s) - 4)) for s in GRIDS["a"] for n in LENGTHS)
            by_length = tuple((n, scaling("a", 16.0)) for n in LENGTHS)
        scales = None if method in {"none", "fresh-window"} else scaling("a", 16.0)
        fitted.append(Fitted(method, scales, "made up", 7.0, "yes", by_length, choices))
        for corpus in ("books", "gov"):
            for n in LENGTHS:
                numbers = [2.0 + harm, 2 ** (2.0 + harm), 2.1 + harm, 2.2 + harm, harm, harm - 0.001, harm + 0.001]
                numbers += [harm - 0.002, harm - 0.003, harm - 0.001, 0.01, 0.0, -0.001, 0.001]
                values = [None] * 14 if method in broken else numbers
                rows.append(CompareRow(corpus, method, n, None, *values, 8, 16, 7.0, "yes"))
    return Comparison(name, 256, "books", 2048, "spectrum", tuple(fitted), tuple(rows))


def test_text_has_every_method_and_what_a_cell_rests_on():
    lines = table_lines(made_up(broken=("heads",)))
    assert len([line for line in lines if line.startswith("constant:a:best")]) == 2
    assert "8 documents, 16 passages; fitted on books" in lines[0]
    (spectrum,) = [line for line in lines[: len(lines) // 2] if line.startswith("spectrum")]
    assert f"{2**2.002:.3f}" in spectrum
    assert "+0.0020 [+0.0010, +0.0030]" in spectrum
    (heads,) = [line for line in lines[: len(lines) // 2] if line.startswith("heads")]
    assert heads.count("broken") == len(LENGTHS) + 1


def test_page_holds_exact_numbers_and_no_foreign_markup():
    page = html_page([made_up("<script>alert(1)</script>")])
    assert "<script>" not in page
    assert f'data-value="{2**2.002!r}"' in page
    assert page.count("<table") == 2
    assert "spectrum has the fewest tail bits" in page
    assert "http" not in page


def test_files_hold_the_rows(run):
    pair = [made_up("one"), made_up("two", broken=("none",))]
    write_comparisons(run, pair)
    files = {name: (run.folder / name).read_bytes() for name in run.manifest.outputs}
    assert {"figures/constants-one.png", "figures/harm.pdf", "figures/perplexity.png", "table3.html"} <= set(files)
    assert {"scales/one/heads.json", "scales/two/spectrum.json", "tables/table3.txt"} <= set(files)
    assert "scales/one/constant-a-best.json" not in files  # another factor at each length
    rows = list(csv.DictReader(io.StringIO(files["tables/compare.csv"].decode())))
    assert len(rows) == 2 * len(HARM) * 2 * len(LENGTHS)
    assert {row["tail_bits"] for row in rows if (row["model"], row["method"]) == ("two", "none")} == {""}
    assert len(json.loads(files["tables/constants.json"])["rows"]) == 2 * len(GRIDS["a"]) * len(LENGTHS)


def test_all_factors_are_drawn_and_the_best_marked():
    axes = constants_figure(made_up()).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(LENGTHS) and line.get_marker() != "s"]
    assert len(lines) == len(GRIDS["a"])
    (best,) = [line for line in axes.lines if line.get_marker() == "s"]
    assert list(best.get_ydata()) == [2.0] * len(LENGTHS)
    assert axes.get_title(loc="left").endswith("best s: 16 to 16")


@pytest.mark.parametrize("broken", [(), ("none", "heads")])
def test_harm_is_drawn_in_full_for_every_corpus_and_model(broken):
    pair = [made_up("one", broken), made_up("two")]
    figure = harm_figure(pair)
    assert len(figure.axes) == 4
    for axes, harms in zip(figure.axes, (broken, broken, (), ()), strict=True):
        drawn = {line.get_label(): line for line in axes.lines}
        for method, look in looks_of(shown(pair[0])).items():
            if method != "fresh-window":
                wanted = [] if method in harms else [HARM[method]] * len(LENGTHS)
                assert list(drawn[look.label].get_ydata()) == wanted
        low, high = axes.get_ylim()
        assert low < 0
        assert high > max(HARM[method] for method in shown(pair[0]) if method not in harms)


def test_a_perplexity_axis_that_is_cut_says_so():
    titles = [axes.get_title(loc="left") for axes in perplexity_figure([made_up()]).axes]
    assert all(title.endswith("cut at 32") for title in titles)  # 8 times the control's 2 ** 2
    mild = made_up(broken=("none", "constant:a:2", "constant:a:3", "constant:dt:2"))
    assert not any("cut at" in axes.get_title(loc="left") for axes in perplexity_figure([mild]).axes)


def test_of_the_fixed_constants_the_nearest_two_are_shown():
    assert {m for m in shown(made_up()) if m.startswith("constant:") and "best" not in m} == {
        "constant:a:2",
        "constant:a:3",
    }


def test_no_two_methods_look_alike():
    methods = [*SETS["all"][:2], *SETS["calibrated"], "spectrum", *SETS["constants"][-3:]]
    looks = looks_of([*methods, "constant:a:2", "constant:dt:3", "rule:onset", "constant:a_power:2", "scales:x.json"])
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks)
    assert looks["constant:dt:3"].label == "dt x 3"


@pytest.fixture
def words(tmp_path):
    tiny.save_tiny(tmp_path / "model", "mamba2")
    rng = np.random.default_rng(0)
    for corpus in ("letters", "digits"):
        for split in ("calibration", "validation", "test"):
            (tmp_path / "data" / corpus / split).mkdir(parents=True)
            for k in range(2):
                text = rng.choice(list(b"ab c" if corpus == "letters" else b"01 2"), 200).astype(np.uint8).tobytes()
                (tmp_path / "data" / corpus / split / f"{k}.txt").write_bytes(text)
    words = ["compare", tmp_path / "model", "--data", tmp_path / "data", "--corpora", "letters,digits:64"]
    return [*words, "--lengths", "16,64,128", "--calibrate-at", "32", "--steps", "1", "--methods"]


def test_the_command_compares_prints_and_takes_more_methods_later(words, tmp_path, capsys):
    said = []
    for methods in ("constant:a:2", "constant:a:2,heads"):
        assert main([str(w) for w in [*words, methods, "-o", tmp_path / "out"]]) == 0
        said.append(capsys.readouterr().out)
    assert "has the fewest tail bits" in said[0]
    assert "heads" not in said[0]
    assert "heads" in said[1]
    assert main([str(w) for w in [*words, "constant:a:2,heads", "--json"]]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    stored = json.loads((tmp_path / "out/tables/compare.json").read_text())["rows"]
    assert [{"model": "model"} | row for row in found["rows"]] == stored
    assert {row["length"] for row in stored if row["corpus"] == "digits"} == {16, 64}
    assert (tmp_path / "out/scales/model/heads.json").is_file()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["nothing"], "expected one of"),
        (["none", "--corpora", "poems"], "poems"),
        (["none", "--corpora", "../x"], "a name of letters"),
        (["none", "--corpora", "letters:9x"], "not a length"),
        (["none", "--fit-on", "books"], "--fit-on books"),
        (["none", "--starts", "0"], "--starts 0"),
        (["none", "--lengths", "8"], "training length 16"),
        (["none", "--calibrate-at", "16"], "--calibrate-at 16"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, more, told, capsys):
    assert main([str(w) for w in [*words, *more]]) == 3
    assert told.lower() in capsys.readouterr().err.lower()


def test_methods_are_described_and_cited_without_a_model(capsys):
    assert main(["compare", "--describe", "--methods", "mambaextend,heads"]) == 0
    out = capsys.readouterr().out
    assert "@inproceedings{azizi2025mambaextend," in out
    assert "random:0.75,1" in out
