"""Promise 12: wrong tokenizers and empty, tiny, binary or foreign texts are refused, with a count."""

import json
import shutil

import numpy as np
import pytest

from mambascope.spectra.tokens import byte_level_tokenizer
from tests.attacks.commands import refused, told
from tests.spectra.tiny import save_tiny

GOOD = "A text of some length, in which nothing is wrong and nothing much is said. " * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("texts")
    save_tiny(base / "model", "mamba2")
    for role in SETS:
        (base / f"{role}.txt").write_text(f"{role}: {GOOD}")
    rates = {"law": "log_uniform", "low": 0.1, "high": 1.0}
    recipe = {"name": "small", "arch": "mamba2", "why": "test", "A_init": rates, "headdim": 8, "train_length": 16}
    (base / "recipe.json").write_text(json.dumps(recipe | {"d_model": 16, "n_layer": 1, "d_state": 4, "steps": 1}))
    return base


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


FILES = {
    "empty.txt": (b"", "empty"),
    "binary.txt": (bytes(range(256)) * 20, "zero bytes"),
    "late.txt": (GOOD.encode() * 300 + b"\0\1\2", "zero bytes"),
    "utf16.txt": (GOOD.encode("utf-16"), "zero bytes"),
    "empty.npy": (b"", "not a plain .npy"),
    "text.npy": (GOOD.encode(), "not a plain .npy"),
    "cut.npy": (header(b"{'descr': '<i8', 'fortran_order': False, 'shape': (99,), }\n"), "not a plain .npy"),
    "vast.npy": (
        header(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776,), }\n"),
        "not a plain .npy",
    ),
    "odd.npy": (header(b"(" * 900), "not a plain .npy"),
    "empty.jsonl": (b"\n\n", "empty"),
    "none.jsonl": (b"[]\n", "empty"),
    "words.jsonl": (b"hello\n", "line 1"),
    "deep.jsonl": (b"[" * 100_000, "line 1"),
    "cut.jsonl": (b"[1, 2, 3]\n[4, 5\n", "line 2"),
    "negative.jsonl": (b"[-1, 2]\n", "line 1"),
    "far.jsonl": (b"[1, 99999]\n", "token id 99999"),
    "beyond.jsonl": (b"[1, 4294967301]\n", "line 1"),
}
ARRAYS = {
    "flat.npy": (np.zeros((4, 50), int), "one dimension"),
    "scalar.npy": (np.array(3), "one dimension"),
    "real.npy": (np.full(90, 0.5), "one dimension"),
    "negative.npy": (np.full(90, -1), "one dimension"),
    "far.npy": (np.array([5, 9999] * 50), "token id 9999"),
    "wrapped.npy": (np.full(90, 2**32 + 5), "32 bits"),
    "unsigned.npy": (np.full(90, 2**64 - 1, dtype=np.uint64), "32 bits"),
}
SHORT = {"one.txt": b"a", "tiny.txt": b"a few words", "tiny.jsonl": b"[1, 2, 3]\n[4, 5]\n"}
AIM = ["--target-length", "64"]
SETS = ("text", "calibration", "validation")
ROLES = {
    "norms --text": ["--lengths", "64"],
    "spectrum --text": [],
    "evaluate --text": ["--lengths", "64", "--methods", "none"],
    "evaluate --calibration": ["--lengths", "64", "--methods", "spectrum"],
    "evaluate --validation": ["--lengths", "64", "--methods", "constant:a:best"],
    "evaluate --noise": ["--task", "passkey", "--lengths", "256", "--methods", "none", "--examples", "1"],
    "diagnose --text": AIM,
    "propose --text": AIM,
    "forecast --text": AIM,
    "forecast --test": [*AIM, "--check"],
    "forecast --study": AIM,
    "calibrate --text": AIM,
    "calibrate --calibration": AIM,
    "calibrate --validation": AIM,
    "starts --text": AIM,
    "starts --calibration": AIM,
    "starts --validation": AIM,
    "report --text": [*AIM, "--no-theory"],
    "report --calibration": [*AIM, "--no-theory"],
    "report --validation": [*AIM, "--no-theory"],
    "train --data": [],
}
"""Every command and option that takes a text."""


def words_of(folder, role, path):
    command, option = role.split()
    words = [command, folder / ("recipe.json" if command == "train" else "model"), option, path, *ROLES[role]]
    others = {"evaluate": SETS, "calibrate": SETS, "starts": SETS, "report": SETS, "forecast": SETS[:1]}
    for other in others.get(command, ()):
        if f"--{other}" != option and not (other == "text" and option == "--noise"):  # keys are hidden in the noise
            words += [f"--{other}", folder / f"{other}.txt"]
    return words


@pytest.mark.parametrize("role", list(ROLES))
def test_no_command_takes_a_broken_text(folder, tmp_path, role):
    tried = 0
    for name, (content, message) in (FILES | ARRAYS).items():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        refused([*words_of(folder, role, path), "-o", tmp_path / "run"], name, message)
        tried += 1
    for path, message in ((tmp_path, "Is a directory"), (tmp_path / "none.txt", "No such file")):
        refused([*words_of(folder, role, path), "-o", tmp_path / "run"], path.name, message)
    assert tried == len(FILES) + len(ARRAYS)
    assert not (tmp_path / "run").exists()  # nothing was begun


@pytest.mark.parametrize("role", [role for role in ROLES if role != "calibrate --text"])
def test_a_text_that_is_too_short_is_refused_with_a_count(folder, tmp_path, role):
    """All but the test text of a calibration, of which nothing is read but what it is not allowed to be."""
    for name, content in SHORT.items():
        path, run = tmp_path / name, tmp_path / f"run-{name}"
        path.write_bytes(content)
        line = refused([*words_of(folder, role, path), "-o", run])
        assert any(word.strip(",;:()").isdecimal() for word in line.split()), line
        assert not {each.name for each in run.rglob("*")} - {"manifest.json", "journal.jsonl", ".lock"}
        assert not run.exists() or (run / "journal.jsonl").read_bytes() == b""  # begun, and nothing was done


FOLDERS = {
    "compare": lambda model, data: ["compare", model, "--data", data, "--corpora", "own", "--lengths", "64"],
    "report": lambda model, data: ["report", model, "--data", data, *AIM, "--no-theory"],
    "sweep": lambda model, data: ["sweep", data.parent / "plan.toml"],
}
"""Those that take folders of texts, in which every .txt is one."""


@pytest.mark.parametrize(
    ("command", "role"),
    [(c, r) for c in FOLDERS for r in ("calibration", "validation", "test") if c != "report" or r == "validation"],
)
def test_a_folder_of_texts_is_read_as_carefully(folder, tmp_path, command, role):
    """A report reads validation texts alone of such a folder."""
    for split in ("calibration", "validation", "test"):
        (tmp_path / "data/own" / split).mkdir(parents=True)
        (tmp_path / "data/own" / split / "good.txt").write_text(f"{split}: {GOOD}")
    plan = f'models = ["{folder / "model"}"]\nlengths = [64]\nmethods = ["spectrum"]\ncorpora = ["own"]\n'
    (tmp_path / "plan.toml").write_text(plan + 'data = "data"\n[fit]\nlength = 64\n')
    for name in (name for name in FILES if name.endswith(".txt")):
        path = tmp_path / "data/own" / role / name
        path.write_bytes(FILES[name][0])
        refused([*FOLDERS[command](folder / "model", tmp_path / "data"), "-o", tmp_path / "run"], name, FILES[name][1])
        path.unlink()


def test_good_texts_of_every_kind_are_taken(folder, tmp_path):
    """Negative control: the same words with a good text are not refused."""
    good = f"another: {GOOD}".encode()
    (tmp_path / "a.txt").write_bytes(good)
    (tmp_path / "a.json").write_text(json.dumps(good.decode()))
    np.save(tmp_path / "a.npy", np.frombuffer(good, np.uint8).astype(np.int64))
    (tmp_path / "a.jsonl").write_text(json.dumps(list(good)) + "\n")
    shown = set()
    for name in ("a.txt", "a.json", "a.npy", "a.jsonl"):
        found = told(*words_of(folder, "evaluate --text", tmp_path / name), "--json")
        assert found.code == 0, found
        shown.add(json.dumps(json.loads(found.out)["rows"]))
    assert len(shown) == 1  # the same ids, however they came


def merged(**changes):
    """A tokenizer.json that is not byte-level: one merge, and what is asked for beside."""
    document = json.loads(byte_level_tokenizer())
    document["model"]["vocab"] |= {"th": 300}
    document["model"]["merges"] = [["t", "h"]]
    return document | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tokenizer.json"),
        (b"\xff\xfe", "not a tokenizer.json"),
        (b"{}", "not a tokenizer.json"),
        (b'{"model": {"vocab": {"\xff": 1}}}', "not a tokenizer.json"),
        (b'{"a":' * 100_000, "not a tokenizer.json"),
        (json.dumps(merged()).encode(), "token id 300, but the model knows 264 ids"),
    ],
)
def test_a_wrong_tokenizer_is_refused(folder, tmp_path, content, message):
    pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    (tmp_path / "tokenizer.json").write_bytes(content)
    text = tmp_path / "text.txt"
    text.write_text("the other thing " * 20)
    words = ["evaluate", folder / "model", "--text", text, "--lengths", "8", "--methods", "none"]
    refused([*words, "--tokenizer", tmp_path / "tokenizer.json"], message)
    model = shutil.copytree(folder / "model", tmp_path / "model")
    shutil.copy(tmp_path / "tokenizer.json", model / "tokenizer.json")
    refused(["evaluate", model, *words[2:]], message)


def test_a_text_that_is_no_unicode_needs_a_byte_level_tokenizer(folder, tmp_path):
    pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    (tmp_path / "tokenizer.json").write_text(json.dumps(merged()))
    (tmp_path / "latin.txt").write_bytes("Gegenüber, gefällt. ".encode("latin-1") * 9)
    words = ["norms", folder / "model", "--text", tmp_path / "latin.txt", "--lengths", "8"]
    refused([*words, "--tokenizer", tmp_path / "tokenizer.json"], "latin.txt: not UTF-8 text (byte 5)")
    assert told(*words).code == 0


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".npy")])
def test_a_recording_of_steps_is_read_as_carefully(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name][0])
    refused(["simulate", "--steps", f"trace:{tmp_path / name}", "--trials", "8", "--times", "4"], name)


def test_a_model_without_a_tokenizer_asks_for_one(folder, tmp_path):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    (model / "tokenizer.json").unlink()
    words = ["norms", model, "--lengths", "8", "--text"]
    refused([*words, folder / "text.txt"], "no tokenizer.json")
    np.save(tmp_path / "ids.npy", np.arange(50))
    assert told(*words, tmp_path / "ids.npy").code == 0
