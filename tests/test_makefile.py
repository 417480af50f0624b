"""Test the Makefile: the commands it runs are the program's own, and what could not be installed is tried again."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from mambascope.figures.cli import build_parser, main
from mambascope.spectra.checkpoint import save_checkpoint
from mambascope.spectra.tokens import byte_level_tokenizer
from tests.spectra.tiny import tiny_model

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROGRAM = ".venv/bin/mambascope "
VARIABLES = ("MAKEFLAGS", "MFLAGS", "MODEL", "TEXT", "TRAIN_LENGTH", "LENGTHS", "GPU_REPORT")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def make(tmp_path):
    """Run make as if the environment were installed, which no test may change."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    installed = tmp_path / "installed"
    installed.touch()

    def run(*words):
        line = ["make", "--no-print-directory", f"STAMP={installed}", *map(str, words)]
        return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def commands(printed):
    """Return the arguments of each run of mambascope in what make prints, in order."""
    lines = [line for line in printed.splitlines() if "echo" not in line]
    return [shlex.split(line.partition(PROGRAM)[2].partition(" > ")[0]) for line in lines if PROGRAM in line]


def run_dry(arguments):
    """Run a command as a plan only, on the CPU, and return its exit code."""
    plan = [] if "--dry-run" in arguments else ["--dry-run"]
    try:
        return main([{"cuda": "cpu"}.get(word, word) for word in arguments] + plan)
    except SystemExit as end:
        return end.code


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder such as the authors of Mamba publish: no card tells the training length."""
    monkeypatch.chdir(ROOT)  # the Makefile's paths start there
    model = tiny_model("mamba2", vocab_size=264, ngroups=1)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    folder = tmp_path / "published"
    save_checkpoint(folder, model.config, tensors, "state-spaces", tokenizer_json=byte_level_tokenizer(), eos_id=256)
    assert not (folder / "mambascope.json").exists()
    return folder


@pytest.mark.parametrize("bundled_text", [True, False])
def test_the_gpu_report_of_a_published_model_runs(make, published, tmp_path, bundled_text):
    text = [] if bundled_text else [tmp_path / "one.txt", tmp_path / "two.txt"]
    for number, path in enumerate(text):
        path.write_text(f"Book {number}. " + "".join(f"{k * k + number} " for k in range(900)))
    given = [] if bundled_text else ["LENGTHS=16,128", f"TEXT={' '.join(map(str, text))}"]
    given += [f"MODEL={published}", "TRAIN_LENGTH=16", f"GPU_REPORT={tmp_path / 'report'}"]
    runs = commands(make("-n", "gpu-report", *given))
    parsed = [build_parser().parse_args(arguments) for arguments in runs]
    assert [one.command for one in parsed] == ["evaluate", "doctor", "spectrum", "norms", "evaluate"]
    assert parsed[1].json
    for one in parsed[:1] + parsed[2:]:
        assert (one.device, one.train_length) == ("cuda", 16)
        assert one.text == (text or one.text)  # spectrum, too, runs the model
        assert all((ROOT / path).is_file() for path in one.text)
        assert getattr(one, "lengths", None) == (None if bundled_text or one.command == "spectrum" else [16, 128])
    assert [run_dry(runs[k]) for k in (0, 2, 3, 4)] == [0, 0, 0, 0]
    assert not (tmp_path / "report").exists()


def test_what_the_gpu_report_lacks_is_told_before_anything_is_run(make, published, capsys):
    first = commands(make("-n", "gpu-report", f"MODEL={published}"))[0]
    assert "--dry-run" in first
    assert run_dry(first) == 3
    assert "give --train-length" in capsys.readouterr().err
    lines = make("-n", "gpu-report").splitlines()
    plan, build, tests = (
        next(k for k, line in enumerate(lines) if word in line) for word in ("--dry-run", "mamba-ssm", "-m cuda")
    )
    assert plan < build < tests


def test_the_gpu_kernels_are_those_of_the_extra_and_lie_beside_the_environment(make):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    built = make("-n", "CUDA=build/none", "build/none/.installed")
    assert all(f'"{wanted}"' in built for wanted in project["project"]["optional-dependencies"]["cuda"])
    assert built.count("pip install") == built.count("--target build/none") == 2


@pytest.mark.parametrize("refused", [None, "mambapy", "torchmamba", "wheel", "mamba-ssm"])
def test_peers_that_could_not_be_installed_are_tried_again(make, tmp_path, refused):
    stand_in = tmp_path / "install"  # in place of pip; refuses the one package
    stand_in.write_text('#!/bin/sh\necho "asked for $*"\ncase "$*" in *' + (refused or "nobody") + "*) exit 1;; esac\n")
    stand_in.chmod(0o755)
    peers = tmp_path / "peers"
    words = (f"PEERS={peers}", f"INTO={stand_in}", peers / ".installed")
    out = make(*words)
    assert "asked for mambapy" in out
    assert "torchmamba" in out
    assert ("asked for --no-build-isolation mamba-ssm" in out) == (refused != "wheel")
    assert (peers / ".installed").exists() == (refused is None)
    absent = {"wheel": "mamba-ssm"}.get(refused, refused)
    assert ("cannot be installed here" in out) == bool(refused)
    assert refused is None or out.endswith(f"cannot be installed here: {absent}\n")
    assert ("asked for mambapy" in make(*words)) == bool(refused)


def test_targets_that_are_named_exist():
    targets = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", MAKEFILE, re.MULTILINE) for name in line.split()}
    assert {"report", "test", "bench"} <= targets
    files = [path for top in ("spectra", "analysis", "figures", "tests") for path in (ROOT / top).rglob("*.py")]
    named = {}
    for path in [ROOT / "README.md", *files]:
        for name in re.findall(r"`make\s([a-z-]+)", path.read_text(encoding="utf-8")):
            named.setdefault(name, path)
    assert {name: str(path) for name, path in named.items() if name not in targets} == {}
    assert {"report", "bench"} <= set(named)
