"""The shapes of published models on disk, with random weights: 65,536 tokens of a book go through, and what that takes.

``make soak`` runs all of it and prints a line each; the mean of a command is minutes to an hour on one core.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("shapes", Path(__file__).parents[1] / "spectra/shapes.py")
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

SHARED = Path(__file__).parents[3] / "shared"
TOKENS = 65_536
RUN = """
import contextlib, io, json, resource, sys, threading, time
from mambascope.analysis.resource_limits import held_bytes
from mambascope.figures import resources
from mambascope.figures.cli import main

check, told = resources.check_need, []

def keep(need, limit):
    told.append([need.peak_bytes, held_bytes()])
    check(need, limit)

peak = 0

def watch():  # not the pages of mapped files, which the system takes back as it likes
    global peak
    while True:
        peak = max(peak, held_bytes("RssAnon"))
        time.sleep(0.05)

resources.check_need = keep
threading.Thread(target=watch, daemon=True).start()
begin, out = time.perf_counter(), io.StringIO()
with contextlib.redirect_stdout(out):
    code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "code": code, "seconds": time.perf_counter() - begin, "cpu_seconds": used.ru_utime + used.ru_stime,
    "told_bytes": sum(told[0]), "peak_bytes": peak,
    "result": json.loads(out.getvalue()),
}))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folders = {}

    def write(name):
        if name not in folders:
            folders[name] = shapes.write_shape(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return write


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Return ids of a book where its text and the tokenizer are at hand, else made-up ones."""
    path = tmp_path_factory.mktemp("text") / "ids.npy"
    books, tokenizer = SHARED / "data/books/test", SHARED / "tokenizers/gpt-neox-20b/tokenizer.json"
    if books.exists() and tokenizer.exists():
        from mambascope.spectra.tokens import tokenizer_encoder

        book = max(books.glob("*.txt"), key=lambda each: each.stat().st_size)
        ids = tokenizer_encoder(tokenizer.read_bytes(), "tokenizer")(book.read_bytes(), book.name)
    else:
        ids = np.random.default_rng(0).zipf(1.2, 4 * TOKENS) % 50_277
    np.save(path, ids[: TOKENS + 4096])
    return path


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
@pytest.mark.parametrize("model", ["mamba-130m", "mamba2-130m", "mamba2-370m"])
@pytest.mark.parametrize(
    "words",
    [
        ["norms", "--lengths", "1k..64k"],
        ["evaluate", "--lengths", "2k,64k", "--methods", "none"],
        ["diagnose", "--train-length", "2k", "--target-length", "64k"],
    ],
    ids=["norms", "evaluate", "diagnose"],
)
def test_65536_tokens_go_through(written, text, model, words, capsys):
    command, *rest = words
    line = [sys.executable, "-c", RUN, command, written(model), *rest, "--text", text, "--json"]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with capsys.disabled():
        minutes, cpu = found["seconds"] / 60, found["cpu_seconds"] / 60
        sizes = f"{found['peak_bytes'] / 1e9:.2f} GB at most, {found['told_bytes'] / 1e9:.2f} told before"
        print(f"\n{command} {model}: {minutes:.1f} min ({cpu:.1f} of CPU), {sizes}")
    assert found["code"] == 0
    assert 0.75 < found["told_bytes"] / found["peak_bytes"] < 1.5
    rows = found["result"].get("rows") or found["result"]["layers"]
    assert all(np.isfinite([value for value in row.values() if isinstance(value, float)]).all() for row in rows)
