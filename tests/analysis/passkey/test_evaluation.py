"""Test ``mambascope.analysis.passkey.evaluation``: every kind of setup answers, and what a method costs inside T."""

import dataclasses

import numpy as np
import pytest

from mambascope.analysis.evaluate.bits import stream_bits, token_bits
from mambascope.analysis.methods import find_method
from mambascope.analysis.methods.method import Fitted, Setup
from mambascope.analysis.methods.on_passkey import PasskeyFits
from mambascope.analysis.passkey import evaluation as module
from mambascope.analysis.passkey.answers import decode_bytes
from mambascope.analysis.passkey.evaluation import PasskeyJob, _summary
from mambascope.analysis.passkey.grid import PasskeyCell, PasskeyGrid, PasskeyPlan
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.model import Model
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document, encode_bytes
from tests.analysis.passkey.conftest import TEXT
from tests.spectra.tiny import tiny_model

T = 180


@pytest.fixture
def job(byte_task):
    document = Document("noise", encode_bytes(TEXT, ""))
    others = [(Document(role, np.random.default_rng(k).integers(0, 256, 4000)),) for k, role in enumerate("cv")]
    fits = PasskeyFits(tiny_model("mamba2", vocab_size=264), Texts(*others, ()), T, (180, 360), 360)
    plan = PasskeyPlan((180, 360), depths=(0.0, 1.0), examples=2)
    return PasskeyJob(fits, byte_task, plan, decode_bytes, (document,))


def test_rows_summaries_and_the_loss_inside_T(job):
    ticks, methods = [], [find_method(name) for name in ("none", "constant:a:50")]
    found = job.run(methods, ticks.append)
    assert sum(ticks) == job.planned_tokens(methods) == 2 * 2 * 2 * (175 + 355)  # methods, depths, keys, tokens
    assert [(r["method"], r["length"], r["depth"]) for r in found.rows()] == [
        (m, n, d) for m in ("none", "constant:a:50") for n in (180, 360) for d in (0.0, 1.0)
    ]
    none, scaled = found.summaries
    assert (none.loss_inside, none.solved_up_to, none.share_inside) == (0.0, None, 0.0)
    places = module.cut_passages(job.inside, T, module.WINDOWS_INSIDE).tokens
    wanted = [token_bits(job.fits.model, places, s).mean() for s in (None, scaling("a", 50.0))]
    assert none.bits_inside == pytest.approx(wanted[0], rel=1e-9)
    assert scaled.loss_inside == pytest.approx(wanted[1] - wanted[0], rel=1e-6)
    assert abs(scaled.loss_inside) > 1e-3
    assert found.heads == ()
    assert found.examples_words() == "2 keys a cell"


def test_a_stopped_evaluation_goes_on_and_another_method_joins_later(job, tmp_path, monkeypatch):
    names = ("none", "constant:a:50")
    whole = job.run([find_method(name) for name in names])
    with RunFolder.open(tmp_path / "r", command={"v": 1}, seed=0) as run:
        kept = dataclasses.replace(job, fits=dataclasses.replace(job.fits, run=run))
        kept.run([find_method("none")])
        calls = []
        solve = module.solver
        monkeypatch.setattr(module, "solver", lambda *a, **k: calls.append(k["intervention"]) or solve(*a, **k))
        ran = []
        forward = Model.forward
        monkeypatch.setattr(Model, "forward", lambda *a, **k: ran.append(a[3]) or forward(*a, **k))
        again = kept.run([find_method(name) for name in names])
    assert again.to_dict() == whole.to_dict()
    assert all(scales is not None for scales in ran)  # the unscaled cells were read, not run


def test_a_setup_is_honoured_in_full(job, monkeypatch):
    """Another model, a first state and scales that depend on the length, each seen in the answers of its own cells."""
    other, asked = tiny_model("mamba2", vocab_size=264, seed=5), []
    state = dataclasses.replace(next(other.stream(np.arange(30)[None])).state, position=0)
    scales = {n: scaling("a", 1.0 + n) for n in (175, 355, 180)}

    def setup_of(fitted, model, length, tail=1):
        asked.append((length, tail))
        return Setup(other, scales[length], state, name=f"s{length}", by_length=True)

    seen = []

    def forced(model, examples, *, intervention, state, batch):
        seen.append((model, intervention, state, batch, examples.prompt_tokens))
        return np.ones(len(examples), bool)

    monkeypatch.setattr(module, "setup_of", setup_of)
    monkeypatch.setattr("mambascope.analysis.passkey.answers.forced_solved", forced)
    found = dataclasses.replace(job, batch=7).run([find_method("none")])
    assert [(m is other, s, st is state, b, n) for m, s, st, b, n in seen] == [
        (True, scales[n], True, 7, n) for n in (175, 175, 355, 355)
    ]
    assert asked[:2] == [(175, 1), (355, 1)]  # an answer is written token by token
    (summary,) = found.summaries
    assert (summary.solved_lengths, summary.times_T, summary.times_none) == ((180, 360), 2.0, 1.0)
    windows = module.cut_passages(job.inside, T, module.WINDOWS_INSIDE).tokens
    bits = np.concatenate(list(stream_bits(other, windows, scales[180], state=state.repeated(len(windows)))), axis=1)
    assert summary.bits_inside == pytest.approx(float(bits.mean()), rel=1e-6)


def test_losses_of_the_last_tokens_alone_are_no_loss_inside_T(job, monkeypatch):
    setup = Setup(job.fits.model, None, name="drops", last_only=True)
    monkeypatch.setattr(module, "setup_of", lambda *a, **k: setup)
    (summary,) = job.run([find_method("none")]).summaries
    assert summary.bits_inside is summary.loss_inside is None


def test_summaries_by_hand():
    def cell(length, solved):
        return PasskeyCell("m", length, 0.5, length - 105, length - 5, 0.5, solved, 20, 0.0, 1.0)

    grid = PasskeyGrid((cell(256, 20), cell(512, 19), cell(1024, 18), cell(2048, 20)))
    found = _summary(Fitted("m", None, "how", passes=3.0), grid, 512, 2.25, 2.0, 256)
    assert found.solved_lengths == (256, 512, 2048)
    assert (found.solved_up_to, found.times_T, found.times_none) == (512, 1.0, 2.0)
    assert found.share_inside == 39 / 40
    assert (found.loss_inside, found.passes, found.how) == (0.25, 3.0, "how")
    assert found.to_dict()["solved_lengths"] == "256 512 2048"
