"""analysis/compare_keys.py: keys are asked for where a model does the task, and of every method alike."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis import compare_keys
from mambascope.analysis.compare import run_compare
from mambascope.analysis.compare_keys import KeyShare, PasskeyAsk
from mambascope.analysis.methods import chosen_methods
from mambascope.analysis.passkey.answers import decode_bytes
from mambascope.analysis.passkey.grid import PasskeyPlan
from mambascope.analysis.passkey.task import PasskeyTask
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.tokens import Document, encode_bytes

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T = 192
NOISE = b"A long sentence stands here for noise. Another one follows it at once. "


def ask_for(*lengths, examples=2):
    return PasskeyAsk(
        PasskeyTask.of_texts([NOISE], encode_bytes), decode_bytes, PasskeyPlan(lengths, examples=examples)
    )


def compare(ask, names=("constant:a:2",), **changes):
    rng = np.random.default_rng(0)
    texts = Texts(*(tuple(Document(f"{r}{k}", rng.integers(0, 250, 400)) for k in range(2)) for r in range(3)))
    return run_compare(
        tiny.tiny_model("mamba2", vocab_size=264, ngroups=1), {"books": texts}, chosen_methods(names), (T,),
        train_length=T, fit_length=2 * T, fit_on="books", reference="none", passkey=ask, **changes,
    )  # fmt: skip


@pytest.fixture
def able(monkeypatch):
    """Every key is found by the model as it is, those of the first depths alone by a scaled one."""
    asked = []

    def solver(model, decode, *, intervention, **_):
        def solve(examples):
            asked.append((intervention is not None, examples.prompt_tokens, examples.depth))
            return np.full(len(examples), intervention is None or examples.depth < 0.5)

        return solve

    monkeypatch.setattr(compare_keys, "solver", solver)
    return asked


def test_a_model_that_finds_no_key_inside_its_training_length_is_asked_nothing_more():
    found = compare(ask_for(T, 2 * T)).keys
    assert found.shares == ()
    assert found.note == (
        "none asked for: tiny-mamba2 does not do this task; unscaled, it finds 0 of 10 keys at the training length of "
        "192 tokens"
    )


def test_every_method_is_asked_at_every_length_and_the_control_at_none(able):
    found = compare(ask_for(T, 2 * T)).keys
    assert found.note is None
    assert {(s.method, s.length, s.solved, s.examples) for s in found.shares} == {
        ("none", T, 10, 10), ("none", 2 * T, 10, 10),
        ("constant:a:2", T, 4, 10), ("constant:a:2", 2 * T, 4, 10),  # depths 0 and 0.25 of five, two keys each
    }  # fmt: skip
    assert found.at("constant:a:2", T).share == 0.4
    assert found.at("fresh-window", T) is None
    assert len(able) == 5 * 2 * 2  # each depth, method and length once; the first question is one of them
    assert {tokens for _, tokens, _ in able} == {T - 5, 2 * T - 5}  # five digits answer


def test_lengths_that_hold_no_prompt_are_left_out_and_said(able):
    found = compare(ask_for(64, T)).keys
    assert found.lengths() == [T]
    assert found.note.startswith("a length of 64 tokens cannot hold the passkey prompt")
    short = compare_keys.does_the_task(ask_for(T), None, 64, None)
    assert short.startswith("none asked for: a length of 64 tokens cannot hold")


def test_answers_are_kept(able, tmp_path):
    def run_in(ask):
        with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
            return compare(ask, run=run, key="m").keys

    first = run_in(ask_for(T, 2 * T))
    asked = len(able)
    assert run_in(ask_for(T, 2 * T)) == first
    assert len(able) == asked
    run_in(ask_for(T, examples=3))  # another number of keys is another question
    assert len(able) == asked + 5 * 2


def test_an_interval_is_exact():
    share = KeyShare.of("none", 256, 50, 50)
    assert (share.share, share.high) == (1.0, 1.0)
    np.testing.assert_allclose(share.low, 0.025 ** (1 / 50))  # Clopper and Pearson, all of n found


@pytest.mark.soak
def test_workers_ask_methods_of_every_kind(monkeypatch):
    """A random model finds nothing, but is asked all the same: scales, a first state, dropped tokens, whole prompts."""
    monkeypatch.setattr(compare_keys, "ENOUGH", 0)
    names = ("constant:a:2", "state-passing", "decimamba:1", "longmamba:bound")
    found = [compare(ask_for(T, 2 * T, examples=1), names=names, engine="loky", jobs=jobs).keys for jobs in (1, 2)]
    assert found[0] == found[1]
    assert {(s.method, s.length) for s in found[0].shares} == {(m, n) for m in ("none", *names) for n in (T, 2 * T)}
