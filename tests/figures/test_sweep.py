"""Test ``mambascope sweep`` and ``mambascope.figures.sweep``: what is shown, written and refused, and exit codes."""

import csv
import fcntl
import importlib.util
import io
import json
import os
import pty
import select
import struct
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from mambascope.analysis import sweep_run as module
from mambascope.analysis.engine_each import Failure
from mambascope.analysis.sweep import Event
from mambascope.analysis.sweep_cells import Cell
from mambascope.analysis.sweep_work import find_cell
from mambascope.figures.cli import main
from mambascope.figures.sweep import summary_lines
from mambascope.figures.sweep_board import Board
from mambascope.spectra.errors import NonFiniteStateError
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

PLAN = """\
models = ["m2"]
data = "data"
lengths = ["T", "4T"]
methods = ["none", "fresh-window", "spectrum"]

[fit]
length = "2T"
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("plans")
    tiny.save_tiny(base / "m2", "mamba2")
    for split in ("calibration", "validation", "test"):
        (base / "data/books" / split).mkdir(parents=True)
        for k, path in enumerate(text_files(split)[:2]):
            (base / f"data/books/{split}/{k}.txt").write_bytes(path.read_bytes()[:400])
    (base / "plan.toml").write_text(PLAN)
    return base


@pytest.fixture
def run(base, tmp_path, capsys):
    def run(*words, plan=PLAN, output="out"):
        (base / "plan.toml").write_text(plan)
        code = main(["sweep", str(base / "plan.toml"), "-o", str(tmp_path / output), "--jobs", "1", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_sweep_prints_writes_and_is_found_again(run, tmp_path):
    code, out, err = run()
    assert code == 0, err
    assert out.startswith("m2 on books: harm in bits: tail bits above the fresh-window control, by tokens read\n")
    assert out.splitlines()[1].split() == ["method", "16", "64"]
    assert err.endswith("sweep: 6 of 6 cells done\n")
    with open(tmp_path / "out/tables/sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["cell"], r["method"], r["length"], r["seed"], r["state"]) for r in rows][:4] == [
        ("1", "none", "16", "", "done"), ("2", "fresh-window", "16", "", "done"), ("3", "spectrum", "16", "", "done"),
        ("4", "none", "64", "", "done"),
    ]  # fmt: skip
    assert float(rows[4]["harm"]) == 0
    assert (tmp_path / "out/tables/sweep.txt").read_text() == out
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert plan["plan"]["corpora"][0]["test"] == ["0.txt", "1.txt"]
    assert plan["made_by"]["versions"]["torch"]
    assert {(i["role"], i["name"]) for i in plan["inputs"]} == {("checkpoint", "m2"), ("tokenizer", "m2")} | {
        (f"books/{part}", f"{k}.txt") for part in ("calibration", "validation", "test") for k in range(2)
    }
    assert all(len(i["sha256"]) == 64 for i in plan["inputs"])
    assert str(tmp_path) not in json.dumps(plan["plan"])
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json") if "manifest" not in path.name}
    code, again, err = run()
    assert (code, again) == (0, out)
    assert err == "sweep: 6 of 6 cells done (6 were there)\n"
    assert before == {path: path.read_bytes() for path in before}


def test_json_is_one_document_with_every_cell(run, tmp_path):
    code, out, _ = run("--json")
    found = json.loads(out)
    assert code == 0
    assert [r["cell"] for r in found["rows"]] == [1, 2, 3, 4, 5, 6]
    assert found["rows"] == json.loads((tmp_path / "out/tables/sweep.json").read_text())["rows"]
    assert {r["method"] for r in found["summary"]} == {"none", "fresh-window", "spectrum"}


def test_cells_one_by_one_and_then_the_tables(run, tmp_path):
    for number in range(6, 0, -1):
        code, out, err = run("--cell", number)
        assert code == 0, err
        assert out.startswith(f"cell {number} of 6, done: perplexity of m2 on books, ")
    assert not (tmp_path / "out/tables").exists()
    code, out, err = run("--cell", 4, "--json")
    assert json.loads(out)["rows"][0]["state"] == "done"
    assert run()[2] == "sweep: 6 of 6 cells done (6 were there)\n"
    assert run(output="whole")[0] == 0
    for kind in ("cells", "fits", "tables/sweep.csv"):
        here, there = (
            {p.name: p.read_bytes() for p in ([f] if f.is_file() else f.iterdir())}
            for f in (tmp_path / "out" / kind, tmp_path / "whole" / kind)
        )
        assert here == there


def test_a_list_numbers_the_cells_and_says_which_are_done(run, tmp_path):
    assert run("--cell", 2)[0] == 0
    code, out, _ = run("--list")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["cell", "task", "model", "corpus", "length", "method", "seed", "state"]
    assert lines[2] == ["2", "perplexity", "m2", "books", "16", "fresh-window", "-", "done"]
    assert [line[-1] for line in lines[3:]] == ["missing"] * 4
    listed = json.loads(run("--list", "--json", output="nowhere")[1])["cells"]
    assert len(listed) == 6
    assert not (tmp_path / "nowhere").exists()


def test_a_dry_run_tells_and_writes_nothing(run, tmp_path):
    code = None
    with pytest.raises(SystemExit) as stop:
        code = run("--dry-run")
    assert (code, stop.value.code) == (None, 0)
    assert not (tmp_path / "out").exists()


def test_a_cell_that_fails_sets_the_exit_code_and_the_next_run_mends_it(run, tmp_path, monkeypatch):
    def break_one(job, cell, *others):
        if cell.number == 4:
            raise NonFiniteStateError(1, 2)
        return find_cell(job, cell, *others)

    monkeypatch.setattr(module, "find_cell", break_one)
    code, out, err = run()
    assert code == 4
    assert "1 cell failed twice: cell 4 (perplexity of m2 on books, 64 tokens, none): layer 1: the state" in err
    assert "64 tokens, none failed, and will be tried again: layer 1" in err
    assert "1 failed" in out
    assert json.loads((tmp_path / "out/manifest.json").read_text())["status"] == "finished"
    assert run("--cell", 4)[0] == 4
    monkeypatch.undo()
    assert run()[0] == 0
    assert not list((tmp_path / "out/failed").iterdir())


def test_where_nothing_is_fitted_the_texts_to_fit_on_are_not_needed(run, base):
    few = base / "few/books/test"
    few.mkdir(parents=True, exist_ok=True)
    (few / "0.txt").write_bytes((base / "data/books/test/0.txt").read_bytes())
    plan = PLAN.replace('"data"', '"few"')
    code, _, err = run(plan=plan, output="no")
    assert code == 3
    assert "calibration: no .txt file there" in err
    assert run(plan=plan.replace(', "spectrum"', ""), output="yes")[0] == 0


def test_fresh_starts_over(run, tmp_path):
    assert run("--cell", 1)[0] == 0
    code, _, err = run("--fresh")
    assert code == 0, err
    assert "were there" not in err
    assert len(list((tmp_path / "out/cells").iterdir())) == 6


@pytest.mark.parametrize(
    ("words", "plan", "told"),
    [
        (["--cell", "7"], PLAN, "--cell 7: expected 1 to 6"),
        (["--cell", "1", "--fresh"], PLAN, "without --cell"),
        (["--engine", "spark"], PLAN, "engine 'spark'"),
        (["--jobs", "0"], PLAN, "--jobs 0"),
        ([], PLAN.replace('"m2"', '"m3"'), "'m3'"),
        ([], PLAN.replace('"T", "4T"', '"4x"'), "lengths: '4x' is not a length"),
        ([], PLAN.replace('"T", "4T"', "1"), "lengths: 1 token"),
        ([], PLAN.replace('"2T"', '"T"'), "fit.length: 16 tokens; expected at least 32"),
        ([], PLAN + 'corpus = "gov"', "fit.corpus: 'gov' is none of the corpora, books"),
        ([], 'corpora = ["poems"]\n' + PLAN, "corpus poems: "),
        ([], 'corpora = ["books:8"]\n' + PLAN, "no cell is left"),
        ([], 'corpora = ["books:x"]\n' + PLAN, "'books:x'"),
        ([], 'corpora = ["../x"]\n' + PLAN, "a name of letters"),
        ([], 'device = "abacus"\n' + PLAN, "device: 'abacus'"),
        ([], 'tokenizer = "none.json"\n' + PLAN, "tokenizer: there is no file"),
    ],
)
def test_what_cannot_be_swept_is_refused(run, tmp_path, words, plan, told):
    code, _, err = run(*words, plan=plan)
    assert code == 3
    assert told in err
    assert not (tmp_path / "out/cells").exists()


def test_a_folder_of_another_run_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    for words in ([], ["--cell", "1"]):
        code, _, err = run(*words)
        assert code == 3
        assert "holds files (mine.txt)" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert run(output="other")[0] == 0
    for words in ([], ["--cell", "1"]):
        code, _, err = run(*words, plan='dtype = "float64"\n' + PLAN, output="other")
        assert code == 3
        assert 'holds a different run (dtype is "float32" there, "float64" now' in err


# -- the board ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns and 24 lines, and a function that reads what stands in it."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read():
        found = b""
        while select.select([ours], [], [], 0.5)[0]:
            found += os.read(ours, 4096)
        return found.decode().replace("\r\n", "\n")

    with open(theirs, "w") as stream:
        yield stream, read
    os.close(ours)


CELLS = [
    Cell(n, "perplexity", model, "books", 16, method, None)
    for n, (model, method) in enumerate([("a", "none"), ("a", "heads"), ("b", "none"), ("b", "heads")], 1)
]


def events():
    yield Event("kept", CELLS[0])
    yield Event("done", CELLS[1], 10, 1.0, is_fit=True, target=64)
    yield Event("done", CELLS[1], 10, 2.0)
    yield Event("again", CELLS[2], failure=Failure("E", "no luck", 4))
    yield Event("failed", CELLS[2], 10, failure=Failure("E", "no luck", 4))


def test_the_board_counts_cells_by_model_and_method(terminal):
    now, (stream, read) = [0.0], terminal
    shown = Board(CELLS, 60, stream=stream, clock=lambda: now[0])
    for event in events():
        now[0] += 1
        shown(event)
    assert shown.lines(80, 24) == [
        "                   none  heads",
        "a books             1/1    1/1",
        "b books  0/1 (1 failed)    0/1",
        "sweep: 2 of 4 cells done, 1 failed (1 were there), about 5 s left",
    ]
    assert len(shown.lines(80, 3)) == 1  # no room for the table
    assert all(len(line) < 20 for line in shown.lines(20, 24))
    shown.close()
    text = read()
    assert text.count("\x1b[4F\x1b[0J") == 5  # each drawing takes the place of the last, and the end that of all
    assert text.endswith("\x1b[4F\x1b[0J" + shown.status() + "\n")
    told = [line for line in text.replace("\x1b[4F\x1b[0J", "").splitlines() if "no luck" in line]
    assert told == [
        "sweep: perplexity of b on books, 16 tokens, none failed, and will be tried again: no luck",
        "sweep: perplexity of b on books, 16 tokens, none failed: no luck",
    ]


def test_a_wide_board_is_turned():
    cells = [Cell(n, "perplexity", "a", "books", 16, f"method-{n}", None) for n in range(1, 9)]
    lines = Board(cells, 1, stream=io.StringIO()).lines(60, 24)
    assert [line.split() for line in lines[:2]] == [["a", "books"], ["method-1", "0/1"]]


def test_what_is_no_terminal_gets_a_line_now_and_then_and_all_that_went_wrong():
    now, stream = [0.0], io.StringIO()
    shown = Board(CELLS, 60, stream=stream, clock=lambda: now[0])
    for event in events():
        now[0] += 12
        shown(event)
    shown(Event("failed", replace(CELLS[1], seed=3), failure=Failure("E", "none", 4), is_fit=True, target=64))
    shown.close()
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "sweep: 2 of 4 cells done (1 were there), about 72 s left",
        "sweep: perplexity of b on books, 16 tokens, none failed, and will be tried again: no luck",
        "sweep: perplexity of b on books, 16 tokens, none failed: no luck",
        "sweep: the fit of heads to a for 64 tokens, seed 3 failed: none",
        "sweep: 2 of 4 cells done, 1 failed (1 were there), about 60 s left",
    ]


def test_a_dumb_terminal_is_no_terminal(terminal, monkeypatch):
    assert Board(CELLS, 60, stream=terminal[0]).people
    monkeypatch.setenv("TERM", "dumb")
    assert not Board(CELLS, 60, stream=terminal[0]).people


def test_a_summary_shows_deviations_and_failures():
    of = {"task": "perplexity", "model": "m", "corpus": "c", "length": 16, "failed": 0, "share_mean": None}
    values = {"tail_bits_mean": 2.0, "tail_bits_sd": 0.5, "harm_mean": None, "harm_sd": None, "share_sd": None}
    rows = [of | values | {"method": "heads"}, of | values | {"method": "none", "tail_bits_mean": None, "failed": 1}]
    lines = summary_lines(rows)
    assert lines[0].startswith("m on c: tail bits (mean, deviation over seeds)")
    assert lines[2].split() == ["heads", "2.0000", "+-", "0.5000"]
    assert lines[3].split() == ["none", "1", "failed"]
    keys = [row | {"task": "passkey", "share_mean": 0.25} for row in rows[:1]]
    assert summary_lines(keys)[2].split() == ["heads", "25%"]
    assert replace(CELLS[0], seed=1).words().endswith("none, seed 1")
