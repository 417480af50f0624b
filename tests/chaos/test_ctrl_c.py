"""Promise 17, first half: Ctrl-C ends any command with exit code 130 and one line, and the same command goes on."""

import random
import signal
import time
from contextlib import suppress

import pytest

from mambascope.analysis.journal import Journal
from mambascope.analysis.runs import read_manifest
from tests.attacks.commands import refused, told
from tests.chaos.forked import USABLE, signalled
from tests.chaos.small_runs import hashes, lines, prepare, whole_so_far

SHORT = ("calibrate", "evaluate", "simulate")
LONG = ("spectrum", "norms", "diagnose", "propose", "forecast", "bake", "train", "verify", *SHORT)
LONG += ("starts", "compare", "sweep")


@pytest.mark.parametrize("name", ["calibrate", "evaluate", "train"])
def test_in_the_middle_of_a_step(tmp_path, monkeypatch, name):
    """At the first, the third and the fifth thing that is finished, each time one second of the same run later."""
    words, run, append = prepare(tmp_path)[name], tmp_path / "run", Journal.append
    assert told(*words, "-o", tmp_path / "calm").code == 0
    for at in (1, 3, 5):
        kept = len(lines(run))

        def interrupted(self, *entry, at=at):
            append(self, *entry)
            if len(self) == at:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", interrupted)
            line = refused([*words, "-o", run], "interrupted; the same command goes on from here", code=130)
        assert line == "mambascope: interrupted; the same command goes on from here"
        assert read_manifest(run).status == "interrupted"
        assert len(lines(run)) == at > kept
        whole_so_far(run, hashes(tmp_path / "calm"))
    assert told(*words, "-o", run).code == 0
    assert hashes(run) == hashes(tmp_path / "calm")
    assert read_manifest(run).resumed == 3


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_a_library_takes_for_an_error(tmp_path, monkeypatch, how, code):
    """pybind11 makes a TypeError of one that comes while it converts arguments, as in a figure being drawn."""
    words, append = prepare(tmp_path)["evaluate"], Journal.append

    def swallowed(self, *entry):
        append(self, *entry)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(how)
        raise TypeError("incompatible function arguments")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", swallowed)
        refused([*words, "-o", tmp_path / "run"], "interrupted; the same command goes on from here", code=code)
    assert read_manifest(tmp_path / "run").status == "interrupted"
    assert told(*words, "-o", tmp_path / "run").code == 0


@pytest.mark.skipif(not USABLE, reason="needs fork, and no CUDA context that it would break")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "times", "how"),
    [("simulate", 3, signal.SIGINT), ("evaluate", 2, signal.SIGTERM)]
    + [pytest.param(name, 12, how, marks=pytest.mark.soak) for name in LONG for how in (signal.SIGINT, signal.SIGTERM)],
)
def test_at_random_instants(tmp_path, name, times, how):
    """SIGTERM, which schedulers send before they kill, ends with 143 and is alike in everything else."""
    words = prepare(tmp_path)[name]
    began = time.monotonic()
    assert told(*words, "-o", tmp_path / "calm").code == 0
    takes_s = time.monotonic() - began
    expected, rng, stopped, folders = hashes(tmp_path / "calm"), random.Random(name), 0, 0
    run = tmp_path / "run-0"
    while stopped < times:
        before = lines(run)
        code = signalled(
            [*words, "-o", run], tmp_path / "told", how, lambda run=run: (run / "manifest.json").exists(),
            rng.random() * takes_s * 0.7**folders,  # sooner, where it was done before
        )  # fmt: skip
        said = (tmp_path / "told").read_text()
        assert code in {0, 128 + how}, (code, said)
        assert "Traceback" not in said
        assert lines(run)[: len(before)] == before
        if code == 0:
            assert hashes(run) == expected
            folders += 1
            run = tmp_path / f"run-{folders}"
            assert folders < 3 * times + 9, "the command ends before it can be stopped"
            continue
        assert said.splitlines()[-1].startswith("mambascope: interrupted")
        assert read_manifest(run).status in {"interrupted", "finished"}  # stopped as it was about to end
        assert not list(run.rglob("*mambascope-tmp*"))
        whole_so_far(run, expected)
        stopped += 1
    assert told(*words, "-o", run).code == 0
    assert hashes(run) == expected
    print(f"{name}: {stopped} times stopped by {how.name}, 0 lost")
