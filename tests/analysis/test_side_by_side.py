"""Test ``mambascope.analysis.side_by_side``: answers are those that ``generate`` writes one at a time."""

import numpy as np
import pytest
import torch

from mambascope.analysis import side_by_side
from mambascope.analysis.generation import Generated, generate
from mambascope.analysis.methods.decimation import Decimation
from mambascope.analysis.methods.step_filters import ThresholdFilter
from mambascope.analysis.side_by_side import Question, SideBySide
from mambascope.spectra import load
from mambascope.spectra.errors import NonFiniteStateError, TextError
from mambascope.spectra.scales import scaling
from mambascope.spectra.zoo import text_files
from tests.spectra.tiny import tiny_model

SCALES = {"none": None, "a": scaling("a", 0.02), "dt": scaling("dt", 4.0)}


def writer(arch="mamba2", **changes):
    """A random model with a head of its own, so that it writes this and that."""
    return tiny_model(arch, tie_embeddings=False, **changes)


def questions_of(model, count=7, **how):
    rng = np.random.default_rng(0)
    lengths, limits = rng.integers(1, 90, count), rng.integers(5, 30, count)
    ids = [rng.integers(model.config.vocab_size, size=int(n)) for n in lengths]
    return [Question(prompt, int(limit), **how) for prompt, limit in zip(ids, limits, strict=True)]


def alone(model, questions, **how):
    return [generate(model, q.prompt, q.limit, stop=q.stop, **how) for q in questions]


def written(together, questions):
    found = list(together.answers(questions))
    assert sorted(number for number, _ in found) == list(range(len(questions)))  # each once
    return [answer for _, answer in sorted(found, key=lambda pair: pair[0])]


@pytest.fixture
def rows_run(monkeypatch):
    """Rows of every block that a model is given."""
    from mambascope.spectra.model import Model

    seen, stream = [], Model.stream

    def watched(model, tokens, **how):
        seen.append(tuple(tokens.shape))
        return stream(model, tokens, **how)

    monkeypatch.setattr(Model, "stream", watched)
    return seen


@pytest.fixture
def again(monkeypatch):
    """Counts answers that ``generate`` wrote."""
    calls = []
    monkeypatch.setattr(side_by_side, "generate", lambda *a, **k: calls.append(1) or generate(*a, **k))
    return calls


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("rows", [1, 2, 3, 16])
def test_answers_are_those_of_one_at_a_time(arch, name, rows, rows_run):
    model, scales = writer(arch), SCALES[name]
    questions = questions_of(model)
    expected = alone(model, questions, intervention=scales)
    rows_run.clear()
    assert written(SideBySide(model, intervention=scales, rows=rows), questions) == expected
    assert max(shape[0] for shape in rows_run) == min(rows, len(questions))
    assert len({answer.ids[:5] for answer in expected}) > 3  # not one answer to all


@pytest.mark.parametrize("rows", [2, 16])
def test_rows_leave_at_an_end_a_stop_or_their_limit(rows):
    model = writer()
    whole = alone(model, questions_of(model))
    end = {whole[0].ids[4]}
    questions = [
        Question(q.prompt, q.limit, (lambda ids, k=k: len(ids) == 3 + k) if k % 3 == 1 else None)
        for k, q in enumerate(questions_of(model))
    ]
    expected = alone(model, questions, end=end)
    assert written(SideBySide(model, end, rows=rows), questions) == expected
    assert 1 < sum(answer.ended for answer in expected) < len(expected)


def test_bundled_models_write_the_same_tokens_at_every_batch(again):
    text = np.frombuffer(text_files("test")[0].read_bytes(), np.uint8)
    for name in ("mamba2-tiny", "mamba-tiny"):
        model = load(name, device="cpu")
        questions = [Question(text[5000 * k : 5000 * k + 100 + 70 * k], 32) for k in range(6)]
        for scales in (None, scaling("a", 30.0)):
            expected = alone(model, questions, intervention=scales)
            again.clear()
            for rows in (4, 16):
                assert written(SideBySide(model, intervention=scales, rows=rows), questions) == expected
            assert len(again) < 6  # most answers were written side by side


def test_a_tie_is_decided_as_it_is_alone(again, monkeypatch):
    """Tokens in pairs with one row of the head: which one a batch takes is chance, so the answer is written again."""
    model = writer()
    with torch.no_grad():
        model.lm_head.weight[1::2] = model.lm_head.weight[::2]
    questions = questions_of(model)
    expected = alone(model, questions)
    assert written(SideBySide(model, rows=4), questions) == expected
    assert len(again) == len(questions)
    monkeypatch.setattr(
        side_by_side, "_likeliest", lambda block: ([1] * len(block.hidden), [False] * len(block.hidden))
    )
    assert written(SideBySide(model, rows=4), questions) != expected  # as without the second look


def test_what_is_written_again_ends_as_it_does_alone(again, monkeypatch):
    monkeypatch.setattr(side_by_side, "CLOSE", np.inf)  # every answer is
    model = writer()
    end = {alone(model, questions_of(model))[0].ids[4]}
    for stop in (None, lambda ids: len(ids) == 7):
        again.clear()
        questions = questions_of(model, stop=stop)
        expected = alone(model, questions, end=end)
        assert written(SideBySide(model, end, rows=4), questions) == expected
        assert len(again) == sum(len(answer.ids) > 0 for answer in expected)


def test_an_onset_behind_a_prompt_acts_at_its_own_position(rows_run):
    model = writer()
    questions = questions_of(model)
    onset = sorted(len(q.prompt) for q in questions)[3]
    late = scaling("a", 0.02, onset_tokens=onset)
    expected = alone(model, questions, intervention=late)
    assert expected != alone(model, questions)
    rows_run.clear()
    assert written(SideBySide(model, intervention=late, rows=16), questions) == expected
    assert max(shape[0] for shape in rows_run) == 4  # those that have it behind them


@pytest.mark.parametrize("kind", ["decimation", "filter"])
def test_what_looks_at_a_prompt_answers_alone(kind, rows_run):
    model = writer()
    rules = {
        "decimation": Decimation((1,), (5,), 1),
        "filter": ThresholdFilter(np.full((3, 6), 0.05), np.ones((3, 6), bool), 20),
    }
    questions = questions_of(model)
    expected = alone(model, questions, intervention=rules[kind])
    assert expected != alone(model, questions)
    rows_run.clear()
    assert written(SideBySide(model, intervention=rules[kind], rows=4), questions) == expected
    assert {shape[0] for shape in rows_run} == {1}


def test_half_precision_answers_alone(rows_run):
    model = writer(dtype=torch.bfloat16)
    questions = questions_of(model, 3)
    assert written(SideBySide(model, rows=4), questions) == alone(model, questions)
    assert {shape[0] for shape in rows_run} == {1}


def test_every_answer_starts_from_a_given_state():
    model = writer()
    prompt = np.random.default_rng(1).integers(50, size=200)
    state = next(model.stream(prompt[None])).state
    questions = questions_of(model)
    expected = alone(model, questions, state=state)
    assert expected != alone(model, questions)
    assert written(SideBySide(model, state=state, rows=4), questions) == expected


def test_a_row_that_breaks_down_leaves_the_others_as_they_are():
    model = writer()
    questions = questions_of(model)
    plain = alone(model, questions)
    fatal = next(token for token in plain[2].ids[2:] if all(token not in plain[k].ids for k in (0, 1, 3)))
    used = {int(token) for q in questions for token in q.prompt}
    prompts = [Question(np.where(q.prompt == fatal, (fatal + 1) % 50, q.prompt), q.limit) for q in questions]
    assert fatal in used
    with torch.no_grad():
        model.backbone.embedding.weight[fatal] = torch.inf
    found = written(SideBySide(model, rows=16), [*prompts, Question(np.array([3, fatal]), 9)])
    for question, answer in zip(prompts, found, strict=False):
        if isinstance(answer, NonFiniteStateError):
            with pytest.raises(NonFiniteStateError):
                alone(model, [question])
        else:
            assert [answer] == alone(model, [question])
    assert isinstance(found[-1], NonFiniteStateError)  # in the prompt
    kinds = {type(answer) for answer in found[:-1]}
    assert kinds == {Generated, NonFiniteStateError}  # while an answer is written


def test_no_more_questions_are_taken_than_are_answered():
    model, taken = writer(), []
    source = (taken.append(1) or question for question in questions_of(model))
    answers = SideBySide(model, rows=3).answers(source)
    next(answers)
    assert len(taken) == 3


def test_tokens_are_counted():
    model, read = writer(), []
    questions = [Question(q.prompt, 6) for q in questions_of(model)]
    list(SideBySide(model, tick=read.append, rows=4).answers(questions))
    assert sum(read) == sum(len(q.prompt) + 5 for q in questions)


def test_empty_prompts_and_limits():
    model = writer()
    assert written(SideBySide(model, rows=4), [Question(np.array([1]), 0)] * 2) == [Generated((), ended=False)] * 2
    assert written(SideBySide(model, rows=4), []) == []
    with pytest.raises(TextError, match="the prompt is empty"):
        list(SideBySide(model, rows=4).answers([Question(np.array([], np.int64), 3)]))
