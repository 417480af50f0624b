"""``mambascope figures``: what a run holds, by the paper's names or ours, unchanged, and nothing else."""

import json
from pathlib import Path

import pytest

from mambascope.figures.cli import main
from mambascope.figures.paper_names import named_files
from mambascope.figures.report import write_report, write_tables

from .conftest import make_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A report's folder, made the way the command makes it."""
    from mambascope.analysis.runs import RunFolder

    folder = tmp_path_factory.mktemp("runs") / "report"
    with RunFolder.open(folder, command={"verb": "report"}, inputs=[], seed=0, device="cpu", dtype="float32") as run:
        studies = [make_study("tiny"), make_study("usual", acts=False, harm=0.0)]
        write_tables(run, studies)
        write_report(run, studies, run.made_by())
    return folder


def test_the_papers_names_come_first_and_data_is_left_out():
    outputs = ["data/x.npy", "scales/a.json", "figures/tiny-tail.pdf", "tables/table3-books.csv", "report.html"]
    outputs += ["figures/passkey.svg", "figures/constants-a.b.png", "figures/a-spectrum.png", "journal.jsonl"]
    assert [each.copy_name for each in named_files(outputs)] == [
        "fig1-a.png",
        "fig2-a.b.png",
        "fig4-passkey.svg",
        "table3-books.csv",
        "tiny-tail.pdf",
        "report.html",
    ]


def test_copies_are_the_runs_own_files_under_the_papers_names(finished, tmp_path, capsys):
    target = tmp_path / "for-the-paper"
    assert main(["figures", str(finished), "--only", "fig1,table1", "--format", "pdf,csv", "-o", str(target)]) == 0
    there = {path.name for path in target.iterdir()}
    assert {"fig1-tiny.pdf", "fig1-tiny.csv", "fig1-usual.pdf", "table1-norms.csv", "table1-tiny.pdf"} <= there
    assert not [name for name in there if name.endswith((".png", ".svg", ".json"))]
    assert (target / "fig1-tiny.pdf").read_bytes() == (finished / "figures/tiny-spectrum.pdf").read_bytes()
    assert "copied to" in capsys.readouterr().err


def test_the_list_is_json_for_machines(finished, capsys):
    assert main(["figures", str(finished), "--json", "--only", "tail"]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert {row["name"] for row in rows} == {"tiny-tail", "usual-tail"}
    assert len(rows) == 8  # two models, four formats


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "fig4"], "evaluate --task passkey"),
        (["--only", "fig9"], "evaluate --task passkey"),
        (["--only", "figg1"], "did you mean fig1?"),
        (["--only", "tial"], "did you mean tail?"),
        (["--only", "tail,figg1"], "did you mean fig1?"),
        (["--only", ""], "--only '': names nothing"),
        (["--format", " ,"], "--format ' ,': names nothing"),
        (["--format", "gif"], "no such format"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do(finished, capsys, words, told):
    assert main(["figures", str(finished), *words]) == 3
    assert told in capsys.readouterr().err


def test_what_may_be_asked_for_is_told_once_for_all_models(finished, capsys):
    assert main(["figures", str(finished), "--only", "zzz", "-o", str(finished / "../never")]) == 3
    told = capsys.readouterr().err
    names = told.partition("it holds ")[2].strip().split(", ")
    assert {"fig1", "table1", "tail", "horizons", "report"} <= set(names)
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith(("tiny-", "usual-"))]
    assert not (finished / "../never").exists()
    for name in names:
        assert main(["figures", str(finished), "--only", name]) == 0


def test_a_changed_or_missing_file_is_refused(finished, tmp_path, capsys):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "figures/tiny-tail.csv").write_text("other")
    assert main(["figures", str(folder), "--only", "tail"]) == 3
    assert "tiny-tail.csv: was changed after the run" in capsys.readouterr().err
    (folder / "figures/tiny-tail.csv").unlink()
    assert main(["figures", str(folder), "--only", "tail"]) == 3
    assert "is gone" in capsys.readouterr().err
    assert main(["figures", str(folder), "--only", "fig1"]) == 0  # the others can be had


def test_the_run_folder_itself_is_no_target(finished, capsys):
    before = sorted(finished.rglob("*"))
    assert main(["figures", str(finished), "-o", str(finished / "copies")]) == 3
    assert "lies in the run folder" in capsys.readouterr().err
    assert sorted(finished.rglob("*")) == before


def test_another_folder_is_no_run(tmp_path, capsys):
    assert main(["figures", str(tmp_path)]) == 3
    assert "manifest.json" in capsys.readouterr().err


def test_a_figures_numbers_and_a_table_of_one_name_are_both_copied(tmp_path, capsys):
    from mambascope.analysis.runs import RunFolder

    with RunFolder.open(tmp_path / "run", command={"verb": "forecast"}, seed=0) as run:
        for name in ("figures/forecast.csv", "tables/forecast.csv"):
            run.output(name).write_text(name)
    assert main(["figures", str(tmp_path / "run"), "-o", str(tmp_path / "copies"), "--json"]) == 0
    files = [row["file"] for row in json.loads(capsys.readouterr().out)["files"]]
    assert sorted(Path(file).read_text() for file in files) == ["figures/forecast.csv", "tables/forecast.csv"]
