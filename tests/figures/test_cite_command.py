"""Test ``mambascope cite``: BibTeX and JSON of runs and methods, and hints for what is neither."""

import json

import pytest

from mambascope.analysis.runs import RunFolder
from mambascope.figures.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunFolder.open("my-run", command={"verb": "norms", "model": "mamba2-tiny"}, seed=0):
        pass
    return "my-run"


def test_without_a_run_the_core(capsys):
    assert main(["cite"]) == 0
    out = capsys.readouterr().out
    for key in ("mambascope", "lu2025mambamodulation", "gu2023mamba", "dao2024transformers"):
        assert out.count(f"{{{key},") == 1
    assert "% this program\n@misc{mambascope," in out


def test_a_run_and_a_method_together_as_bibtex_and_json(capsys, folder):
    assert main(["cite", folder, "longmamba"]) == 0
    out = capsys.readouterr().out
    assert out.count("@") == 5
    assert "% method longmamba\n@inproceedings{ye2025longmamba," in out
    assert main(["cite", folder, "longmamba", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert {each["key"] for each in entries} >= {"dao2024transformers", "ye2025longmamba"}
    assert all(f"{{{each['key']}," in out and each["used_for"] for each in entries)


def test_sets_and_forms_of_methods(capsys):
    assert main(["cite", "rivals", "constant:dt:0.5"]) == 0
    out = capsys.readouterr().out
    assert "benkish2024decimamba" in out
    assert "zhang2024longmamba" in out
    assert main(["cite", "spectrum"]) == 0
    assert capsys.readouterr().out  # ours rests on the paper, or says that there is nothing


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("my-rum", "did you mean my-run?"),
        ("longmanba", "did you mean longmamba?"),
        ("rival", "did you mean rivals?"),
        ("qqqq", "give a folder that was made with -o, or a method"),
        ("winsorize:500", "winsorize:500"),
    ],
)
def test_what_is_neither_gets_a_hint(capsys, folder, word, hint):
    assert main(["cite", word]) == 3
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert hint in line


def test_a_folder_without_a_manifest_and_a_far_run_folder(capsys, folder, tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    assert main(["cite", "plain"]) == 3
    assert "plain: holds no manifest.json" in capsys.readouterr().err
    monkeypatch.chdir("/")
    assert main(["cite", str(tmp_path / "my-rum")]) == 3
    assert f"did you mean {tmp_path / 'my-run'}?" in capsys.readouterr().err
