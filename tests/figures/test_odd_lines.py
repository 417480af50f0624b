"""Odd command lines: each costs one line that names the fault and what to type, the right exit code, and nothing else.

No traceback, nothing on stdout, and not a byte on the disk that was not there before.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.analysis.runs import RunFolder
from mambascope.figures.cli import main
from mambascope.spectra.zoo import FOLDER, text_files

M = "mamba2-tiny"
LONG = "x" * 300
"""Longer than a file system's names."""
CONFIG = (FOLDER / M / "config.json").read_bytes()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder with files that are not what a command wants."""
    folder = tmp_path_factory.mktemp("odd")
    texts = {
        "short.txt": b"too short",
        "empty.txt": b"",
        "binary.txt": bytes(range(256)) * 20,
        "book.txt": text_files("test")[0].read_bytes()[:3000],
        "words.txt": b"weights, I suppose",
        "other.json": b'{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": [[1, 2], [1, 2]]}]}',
        "negative.json": b'{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": -2}]}',
        "nan.json": b'{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": NaN}]}',
        "broken.json": b'{"format": 1, "fact',
        "hello.json": b"hello",
        "thesis/thesis.tex": b"mine",
        "weights/config.json": CONFIG,
        "weights/model.safetensors": b"hello, these are no weights at all",
        "noconfig/readme.txt": b"nothing here",
    }
    for name, data in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    np.save(folder / "far.npy", np.array([1, 5, 9999]))
    with RunFolder.open(folder / "run", command={"verb": "norms"}, seed=None):
        pass
    return folder


USAGE = [
    (["evalute", M], "did you mean evaluate?"),
    (["Report"], "did you mean report?"),
    ([], "COMMAND is missing"),
    (["evaluate", M, "--metods", "none"], "did you mean --methods?"),
    (["bake", M, "--sclaes", "s.json", "-o", "b"], "did you mean --scales?"),
    (["norms", M, "-lengths", "256"], "two dashes: --lengths"),
    (["propose", M, "-output", "o"], "two dashes: --output"),
    (["norms"], "MODEL is missing"),
    (["train", M, "--data", "book.txt"], "-o/--output is missing"),
    (["models", "all"], "'all': not expected here"),
    (["norms", M, "--lengths"], "--lengths needs a value"),
    (["norms", M, "--lengths", "0"], "'0' is not a length; write 2048, 2k, 1m"),
    (["norms", M, "--lengths", "-5"], "'-5' is not a length; write 2048, 2k, 1m"),
    (["norms", M, "--lengths", "10q"], "'10q' is not a length; write 2048, 2k, 1m"),
    (["norms", M, "--lengths", "1000000000000000"], "is not a length; write 2048, 2k, 1m"),
    (["norms", M, "--lengths", "64k..1k"], "'64k..1k' runs backwards; write 1k..64k"),
    (["compare", M, "--lengths", "10q"], "'10q' is not a length; write 2048, 2k, 1m, 16T"),
    (["norms", M, "--threads", "abc"], "'abc' is not a number of threads from 1 to 4096"),
    (["norms", M, "--threads", "1000000000000"], "is not a number of threads from 1 to 4096"),
    (["norms", M, "--dtype", "int8"], "'int8': expected one of float32, float64"),
    (["simulate", "--seed", "1.5"], "'1.5' is not a whole number"),
    (["simulate", "--mean", "high"], "'high' is not a number; write 0.5"),
    (["verify", "eq-6", "--trials", "many"], "'many' is not a whole number"),
    (["norms", M, "--max-memory", "lots"], "'lots' is not an amount of memory; write 4G or 512M"),
    (["norms", M, "--max-memory", "-4G"], "'-4G' is not an amount of memory; write 4G or 512M"),
    (["evaluate", M, "--task", "paskey"], "did you mean passkey?"),
    (["bake", M, "--scales", "other.json", "--layout", "transformer", "-o", "b"], "did you mean transformers?"),
    (["compare", M, M, "-o", "c"], f"{M} is there twice; give it once"),
    (["report", M, M, "-o", "r"], f"{M} is there twice; give it once"),
    (["spectrum", "a\0b"], "holds a zero byte, which no name can have; remove it"),
    (["norms", M, "--text", "a\0b"], "holds a zero byte, which no name can have; remove it"),
    (["spectrum", M, "-o", ""], "is empty; give the name of a file or folder"),
    (["completion", "tcsh"], "expected one of bash, zsh, fish"),
]

REFUSED = [
    (["evaluate", "mamba2-tinny"], "nearest bundled name: mamba2-tiny"),
    (["spectrum", "модель"], "a bundled name (mamba-tiny"),
    (["spectrum", "words.txt"], "is a file; give a bundled name"),
    (["norms", "book.txt"], "is a file; give a bundled name"),
    (["spectrum", "weights"], "download or copy the file again"),
    (["spectrum", "noconfig"], "config.json"),
    (["spectrum", "x" * 5000], "File name too long; give a shorter name"),
    (["train", LONG, "--data", "book.txt", "-o", "t"], "File name too long; give a shorter name"),
    (["train", "mamba2-tinny", "--data", "book.txt", "-o", "t"], "did you mean mamba2-tiny?"),
    (["train", M, "--data", "short.txt", "-o", "t"], "longer than the training length of 256 tokens"),
    (["train", M, "--data", "empty.txt", "short.txt", "-o", "t"], "empty.txt: empty; give a text"),
    (["evaluate", M, "--methods", "spectrm"], "did you mean spectrum?"),
    (["evaluate", M, "--methods", "rule:soft-clp"], "did you mean soft-clip?"),
    (["evaluate", M, "--methods", "constant:-2"], "expected a number above 0 or best"),
    (["evaluate", M, "--methods", "constant:nan"], "expected a number above 0 or best"),
    (["evaluate", M, "--methods", "constant:apower:2"], "did you mean constant:a_power:2?"),
    (["evaluate", M, "--task", "passkey", "--methods", "scales"], "needs --scales FILE"),
    (["compare", M, "--methods", "winsorise"], "did you mean winsorize?"),
    (["compare", M, "--corpora", "boks"], "bundled are books, gov"),
    (["compare"], "no model given; bundled are mamba-tiny"),
    (["propose", M, "--rule", "soft-clp"], "did you mean soft-clip?"),
    (["propose", M, "--goal", "retreival"], "did you mean retrieval?"),
    (["verify", "theorm-4.2"], "did you mean theorem-4.2?"),
    (["simulate", "--law", "unifrm:0,1"], "did you mean uniform?"),
    (["simulate", "--law", "uniform:0"], "write uniform:LOW,HIGH"),
    (["simulate", "--steps", "gama:1,1"], "did you mean gamma?"),
    (["simulate", "--engine", "lokey"], "expected one of sequential, loky"),
    (["simulate", "--jobs", "0"], "--jobs 0: expected at least 1"),
    (["simulate", "--rho", "nan"], "-1 < rho < 1"),
    (["norms", M, "--text", "none.txt"], "none.txt: cannot read the text: No such file"),
    (["norms", M, "--text", "näme.txt"], "näme.txt: cannot read the text: No such file"),
    (["norms", M, "--text", "thesis"], "thesis: cannot read the text: Is a directory"),
    (["norms", M, "--text", "empty.txt"], "empty; give a text"),
    (["norms", M, "--text", "binary.txt"], "zero bytes, so it is not a text; give UTF-8 text"),
    (["norms", M, "--text", "far.npy"], "token id 9999, but the model knows"),
    (["norms", M, "--text", LONG], "File name too long"),
    (["norms", M, "--lengths", "999999999999"], "give longer texts or a shorter --lengths"),
    (["diagnose", M, "--text", "book.txt", "--train-length", "64k"], "give longer texts"),
    (["propose", M, "--train-length", "1m"], "give longer texts"),
    (["forecast", M, "--target-length", "10"], "a target of at least twice that; give --target-length"),
    (["norms", M, "--threads", "0"], "--threads 0: expected at least 1"),
    (["norms", M, "--threads", "-1"], "--threads -1: expected at least 1"),
    (["norms", M, "--device", "CPU"], "expected auto, cpu, cuda or cuda:N"),
    (["norms", M, "--tokenizer", "none.json"], "cannot read the tokenizer: No such file"),
    (["norms", M, "--scales", "other.json"], "were they made for another model?"),
    (["norms", M, "--scales", "broken.json"], "make one with `mambascope propose`"),
    (["norms", M, "--scales", "hello.json"], "make one with `mambascope propose`"),
    (["norms", M, "--scales", "nan.json"], "make one with `mambascope propose`"),
    (["norms", M, "--scales", "negative.json"], "must be positive"),
    (["norms", M, "--scales", "thesis"], "cannot read the scales: Is a directory"),
    (["calibrate", M, "--method", "spssa"], "expected one of spsa"),
    (["calibrate", M, "--start", "spectrm"], "expected spectrum, projected, ones"),
    (["spectrum", M, "-o", "book.txt"], "is a file; -o takes a folder"),
    (["spectrum", M, "-o", "thesis"], "choose an empty or new folder with -o"),
    (["spectrum", M, "-o", "run"], "choose another folder with -o, or start over with --fresh"),
    (["cite", "rum"], "did you mean run?"),
    (["cite", "thesis"], "give one that was made with -o"),
]

SHORT_OF = [
    (["norms", M, "--max-memory", "1M"], "--max-memory SIZE sets another limit"),
    (["spectrum", M, "-o", "book.txt/below"], "Not a directory"),
    (["spectrum", M, "-o", LONG], "File name too long"),
]


def everything(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def short(words):
    return " ".join(word if len(word) < 40 else f"{word[:10]}...{len(word)}" for word in words).replace("\0", "NUL")


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [pytest.param(*case, code, id=short(case[0]))
     for code, cases in ((2, USAGE), (3, REFUSED), (5, SHORT_OF)) for case in cases],
)  # fmt: skip
def test_an_odd_line_costs_one_line(odd, monkeypatch, capsys, words, said, code):
    monkeypatch.chdir(odd)
    before = everything(odd)
    try:
        found = main(words)
    except SystemExit as stop:
        found = stop.code
    shown = capsys.readouterr()
    assert found == code, shown.err
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("mambascope: ")
    assert said in line
    assert len(line) < 1200
    assert everything(odd) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(capsys):
    assert main(["norms", M, "--device", "cuda"]) == 3
    assert "sees no NVIDIA GPU; use --device cpu" in capsys.readouterr().err


def test_a_number_that_overflows_is_exit_code_4(capsys):
    assert main(["simulate", "--trials", "64", "--steps", "constant:1e200", "--engine", "sequential"]) == 4
    told = capsys.readouterr().err.splitlines()
    (line,) = (line for line in told if not line.startswith("compiling loops"))  # said once on a machine
    assert line.startswith("mambascope: ")


def test_a_folder_at_work_is_exit_code_75(tmp_path, capsys):
    with RunFolder.open(tmp_path / "busy", command={"verb": "norms"}, seed=None):
        assert main(["spectrum", M, "-o", str(tmp_path / "busy")]) == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert "wait for it, or choose another folder with -o" in line


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("mambascope.spectra.checkpoint.bundled_models", stop)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "mambascope: interrupted\n"


@pytest.mark.parametrize(
    ("words", "code"), [(["evalute", M], 2), (["norms", M, "--text", "none.txt"], 3), (["spectrum", "x" * 4000], 3)]
)
def test_a_process_says_the_same(odd, words, code):
    start = "from mambascope.figures.cli import main; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False, cwd=odd)
    assert done.returncode == code, done.stderr
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("mambascope: ")
    assert len(line) < 600


def test_names_in_any_alphabet_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("Ödön 日本.txt").write_bytes(text_files("test")[0].read_bytes()[:600])
    words = ["norms", M, "--text", "Ödön 日本.txt", "--lengths", "64", "-o", "Ørsted", "--json"]
    assert main(words) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 4
    assert json.loads(Path("Ørsted/manifest.json").read_text("utf-8"))["inputs"][-1]["name"] == "Ödön 日本.txt"
