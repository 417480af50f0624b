"""Test ``mambascope sweep`` and ``mambascope.figures.sweep``: what is shown, written and refused, and exit codes."""

import csv
import hashlib
import importlib.util
import json
import os
from pathlib import Path

import pytest

from mambascope.analysis import sweep_run as module
from mambascope.analysis.atomic import json_bytes
from mambascope.analysis.sweep_work import find_cell
from mambascope.figures.cli import main
from mambascope.figures.sweep import summary_lines
from mambascope.spectra.errors import NonFiniteStateError
from mambascope.spectra.scales import scaling
from mambascope.spectra.zoo import text_files
from tests.analysis.test_sweep_store import Holder

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
    assert "1 cell failed: cell 4 (perplexity of m2 on books, 64 tokens, none): layer 1: the state" in err
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


@pytest.mark.timeout(60)
def test_fresh_harms_nothing_that_another_process_is_at(run, tmp_path):
    assert run()[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    holder = Holder(tmp_path / "out", "f" * 64)
    assert holder.says() == "holds\n"
    code, _, err = run("--fresh")
    assert code == 75
    assert "another process is running in this folder" in err
    holder.finish()
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run("--fresh")[0] == 0


def status(folder):
    return json.loads((folder / "manifest.json").read_text())["status"]


@pytest.mark.timeout(120)
def test_a_sweep_runs_until_its_tables_are_there(run, tmp_path, monkeypatch):
    """Whatever becomes of the processes of single cells."""
    out = tmp_path / "out"
    assert run("--cell", 1)[0] == 0
    assert status(out) == "running"
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_cell", stop)
        holder = Holder(out, "f" * 64)
        assert holder.says() == "holds\n"
        assert run("--cell", 2)[0] == 130
        assert status(out) == "running"  # the other goes on
        holder.finish()
        assert run("--cell", 2)[0] == 130
        assert status(out) == "interrupted"
        assert run("--cell", 1)[0] == 0  # there is nothing to do
        assert status(out) == "interrupted"
    assert run("--cell", 2)[0] == 0
    assert status(out) == "running"
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_cell", stop)
        assert run()[0] == 130
        assert status(out) == "interrupted"
    assert run()[0] == 0
    assert status(out) == "finished"
    assert run("--cell", 3)[0] == 0
    assert status(out) == "finished"
    assert run("--cell", 3, plan="seeds = [1]\n" + PLAN.replace('"4T"', '"2T"'))[0] == 0  # a cell of the same key
    assert status(out) == "finished"
    assert run("--cell", 6, plan=PLAN.replace('"4T"', '"2T"'))[0] == 0
    assert status(out) == "running"


def stop(*_):
    raise KeyboardInterrupt


def test_results_say_which_plan_and_which_files_they_rest_on(run, base, tmp_path):
    """Also a file of scales, and a text whose name is in no encoding."""
    scaling("a", 2.0).save(base / "mine.json")
    odd = base / os.fsdecode(b"odd/books/test")
    odd.mkdir(parents=True, exist_ok=True)
    (odd / os.fsdecode(b"caf\xe9.txt")).write_bytes((base / "data/books/test/0.txt").read_bytes())
    plan = PLAN.replace('"spectrum"', '"scales:mine.json"').replace('"data"', '"odd"')
    code, _, err = run(plan=plan)
    assert code == 0, err
    about = json.loads((tmp_path / "out/plan.json").read_text())
    assert about["plan"]["corpora"][0]["test"] == ["caf\\xe9.txt"]
    for name in ("sweep", "summary"):
        made_by = json.loads((tmp_path / f"out/tables/{name}.json").read_text())["made_by"]
        assert made_by["command"] == about["made_by"]["command"]
        assert made_by["command"]["verb"] == "sweep"
        assert made_by["command"]["plan"] == about["plan"]
        assert made_by["command"]["plan_sha256"] == hashlib.sha256(json_bytes(about["plan"])).hexdigest()
        assert made_by["engine"].startswith("compiled: ")
        assert made_by["inputs"] == about["inputs"]
        found = {(i["role"], i["name"]): i["sha256"] for i in made_by["inputs"]}
        assert found["scales", "mine.json"] == hashlib.sha256((base / "mine.json").read_bytes()).hexdigest()
        assert ("books/test", "caf\\xe9.txt") in found
    cells = [json.loads(path.read_text()) for path in (tmp_path / "out/cells").iterdir()]
    assert about["machines"] == [cells[0]["made_on"]]
    assert about["machines"][0]["versions"]["torch"] == cells[0]["facts"]["versions"]["torch"]
    other = run(plan=plan.replace('"4T"', '"2T"'))
    assert other[0] == 0
    again = json.loads((tmp_path / "out/plan.json").read_text())["made_by"]["command"]["plan_sha256"]
    assert again != about["made_by"]["command"]["plan_sha256"]


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
        (["--cell", "0", "--list"], PLAN, "--cell 0: expected 1 to 6"),
        (["--cell", "7", "--dry-run"], PLAN, "--cell 7: expected 1 to 6"),
        (["--cell", "1", "--list"], PLAN, "--list prints all cells and runs none: give it without --cell"),
        (["--list", "--dry-run"], PLAN, "give it without --dry-run"),
        (["--list", "--fresh"], PLAN, "give it without --fresh"),
        (["--cell", "1", "--fresh"], PLAN, "without --cell"),
        (["--cell", "1", "--engine", "dask://a:1"], PLAN, "in this process: give it without --engine dask://a:1"),
        (["--cell", "1", "--jobs", "4"], PLAN, "in this process: give it without --jobs 4"),
        (["--engine", "spark"], PLAN, "engine 'spark'"),
        (["--jobs", "0"], PLAN, "--jobs 0"),
        ([], PLAN.replace('"m2"', '"m3"'), "plan.toml: models: model 'm3'"),
        ([], PLAN + 'target = "T..2T"', "fit.target: "),
        ([], PLAN + "target = 1", "plan.toml: fit.target: 1 tokens; expected at least 16, the training length of m2"),
        ([], "threads = 100000\n" + PLAN, "plan.toml: threads: 100000; expected at most 4096"),
        ([], PLAN.replace('"none"', '"scales:none.json"'), "none.json"),
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
