"""figures/compare.py, compare_plots.py and ``mambascope compare``: tables and figures hold the rows, and no more."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.compare_keys import Keys
from mambascope.analysis.methods import SETS
from mambascope.analysis.methods.constants import GRIDS
from mambascope.figures.cli import main
from mambascope.figures.compare import cost_lines, html_page, table_lines, write_comparisons
from mambascope.figures.compare_plots import constants_figure, harm_figure, looks_of, perplexity_figure, shown

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

_made = importlib.util.spec_from_file_location("comparisons", Path(__file__).parent / "comparisons.py")
comparisons = importlib.util.module_from_spec(_made)
_made.loader.exec_module(comparisons)
HARM, LENGTHS, made_up, made_up_keys = (
    comparisons.HARM, comparisons.LENGTHS, comparisons.made_up, comparisons.made_up_keys
)  # fmt: skip


def test_text_has_every_method_and_what_a_cell_rests_on():
    lines = table_lines(made_up(broken=("heads",)))
    assert len([line for line in lines if line.startswith("constant:a:best")]) == 2
    assert "8 documents, 16 passages; fitted on books" in lines[0]
    (spectrum,) = [line for line in lines[: len(lines) // 2] if line.startswith("spectrum")]
    assert f"{2**2.002:.3f}" in spectrum
    assert "+0.0020 [+0.0010, +0.0030]" in spectrum
    (heads,) = [line for line in lines[: len(lines) // 2] if line.startswith("heads")]
    assert heads.count("broken") == len(LENGTHS) + 2  # and harm of both kinds
    (drops,) = [line for line in lines[: len(lines) // 2] if line.startswith("decimamba")]
    assert drops.split() == ["decimamba", *"\u2013" * 4, "+0.7100", "[+0.7000,", "+0.7200]", "+0.0000", "\u2013", "7"]


def test_keys_stand_beside_perplexity_or_why_they_do_not():
    lines = table_lines(made_up(keys=made_up_keys()))
    assert "keys at 512  keys at 2k" in lines[1]
    (heads,) = [line for line in lines[: len(lines) // 2] if line.startswith("heads")]
    assert heads.split()[-3:] == ["100%", "24%", "7"]  # 50 of 50, and 50 // 4 = 12 of 50
    (none,) = [line for line in lines[: len(lines) // 2] if line.startswith("none")]
    assert none.split()[-3:] == ["0%", "0%", "7"]
    (control,) = [line for line in lines[: len(lines) // 2] if line.startswith("fresh-window")]
    assert control.split()[-3:] == ["\u2013", "\u2013", "7"]
    without = table_lines(made_up(keys=Keys((), "none asked for: made up")))
    assert without[-1] == "keys: none asked for: made up"
    assert "keys at 256" in without[1]


def test_costs_are_told_apart_where_a_part_is_missing():
    lines = cost_lines(made_up())
    cells = {line.split()[0]: [part.strip() for part in line.split("  ") if part] for line in lines}
    heads, none = cells["heads"], cells["none"]
    assert heads == ["heads", "7", ">= 60.0", "6", "1,006", "yes"]
    assert none == ["none", "7", "\u2013", "0", "1,000", "yes"]


def test_page_holds_exact_numbers_and_no_foreign_markup():
    page = html_page([made_up("<script>alert(1)</script>")])
    assert "<script>" not in page
    assert f'data-value="{2**2.002!r}"' in page
    assert page.count("<table") == 2
    assert "spectrum has the fewest tail bits" in page
    assert "http" not in page
    assert 'data-value="0.71"' in page  # decimamba, by the last tokens


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
    best = list(csv.DictReader(io.StringIO(files["tables/best.csv"].decode())))
    assert [(r["model"], r["corpus"], r["length"]) for r in best[:2]] == [
        ("one", "books", "512"),
        ("one", "books", "4096"),
    ]
    assert len(best) == 2 * 2 * len(LENGTHS)
    assert best[0]["tail_method"] == best[0]["last_method"] == "spectrum"
    assert (best[0]["tail_next"], best[0]["last_next_high"], best[0]["tail_reference_p"]) == ("heads", "-0.03", "")
    assert "tables/passkey.csv" not in files
    assert {"tables/costs.csv", "tables/costs.txt", "figures/costs-one.png", "figures/methods-two.pdf"} <= set(files)
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
                wanted = [] if method in {*harms, comparisons.DROPS} else [HARM[method]] * len(LENGTHS)
                assert list(drawn[look.label].get_ydata()) == wanted
        low, high = axes.get_ylim()
        assert low < 0
        assert high > max(HARM[m] for m in shown(pair[0]) if m not in {*harms, comparisons.DROPS})


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
    return [*words, "--lengths", "T,4T,128", "--calibrate-at", "2T", "--steps", "1", "--jobs", "1", "--methods"]


SHORT = "a length of 16 tokens cannot hold the passkey prompt; give at least 169"


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
    assert found["keys"] == {"rows": [], "note": f"none asked for: {SHORT}"}
    assert {row["method"] for row in found["costs"]} == {row["method"] for row in found["rows"]}
    assert all(row["tokens_per_second"] > 0 for row in found["costs"])
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
        (["none", "--jobs", "0"], "--jobs 0"),
        (["none", "--engine", "spark"], "engine 'spark'"),
        (["none", "--passkey-examples", "-1"], "--passkey-examples -1"),
        (["none", "--passkey-lengths", "2T"], "--passkey-lengths: a length of 32 tokens cannot hold"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, more, told, capsys):
    assert main([str(w) for w in [*words, *more]]) == 3
    assert told.lower() in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--lengths", "16x", "16T"), ("--lengths", "0T", "not a length"), ("--lengths", "T..4k", "mixes"),
        ("--lengths", "8T..4T", "runs backwards"), ("--calibrate-at", "many", "not a length"),
    ],
)  # fmt: skip
def test_lengths_that_are_none_are_a_usage_error(option, value, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "mamba2-tiny", option, value])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.soak
def test_every_model_is_read_at_multiples_of_its_own_training_length(words, tmp_path, capsys):
    tiny.save_tiny(tmp_path / "longer", "mamba", train_length=32)
    words = ["compare", tmp_path / "model", tmp_path / "longer", *words[2:]]
    words[words.index("--lengths") + 1] = "T,2T"
    assert main([str(w) for w in [*words, "constant:a:2", "--json"]]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [(c["model"], {r["length"] for r in c["rows"]}, c["fit_length"]) for c in found] == [
        ("model", {16, 32}, 32), ("longer", {32, 64}, 64),
    ]  # fmt: skip


def test_methods_are_described_and_cited_without_a_model(capsys):
    assert main(["compare", "--describe", "--methods", "mambaextend,heads"]) == 0
    out = capsys.readouterr().out
    assert "@inproceedings{azizi2025mambaextend," in out
    assert "random:0.75,1" in out
