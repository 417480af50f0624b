"""Test ``mambascope.analysis.longbench.evaluation``: every method is asked the same, with its scales in every step."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mambascope.analysis.generation import Generated
from mambascope.analysis.longbench.evaluation import LongBenchJob
from mambascope.analysis.longbench.metrics import score
from mambascope.analysis.longbench.prompts import ask
from mambascope.analysis.longbench.samples import read_samples
from mambascope.analysis.longbench.tasks import TASKS
from mambascope.analysis.methods import Task, chosen_methods
from mambascope.analysis.passkey.answers import decode_bytes
from mambascope.analysis.planned_work import longbench_work
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.side_by_side import SideBySide
from mambascope.analysis.study import Texts
from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document, encode_bytes
from mambascope.spectra.zoo import text_files
from tests.analysis.longbench.made_up import jsonl, line
from tests.spectra.tiny import tiny_model

T = 64


@pytest.fixture
def model():
    """Random, with a head of its own and whole bytes for a vocabulary, so that it writes this and that."""
    return tiny_model("mamba2", vocab_size=264, ngroups=1, tie_embeddings=False)


def asked(names, samples=3, **how):
    found = []
    for name in names:
        lines = jsonl(*(line(name, k, sentences=2 + k) for k in range(samples)))
        found.append(ask(TASKS[name], read_samples(lines, TASKS[name], name), encode_bytes, **how))
    return tuple(found)


def texts():
    return [
        tuple(Document(f"{role}{k}", np.frombuffer(path.read_bytes()[:4000], np.uint8)) for k, path in enumerate(paths))
        for role in ("calibration", "validation")
        if (paths := text_files(role)[:2])
    ]


def job_of(model, asked, decode=decode_bytes, run=None, **how):
    fits = Task(model, Texts(*texts(), ()), T, (T, 2 * T), 16 * T, run=run)
    return LongBenchJob(fits, asked, decode, frozenset({256}), **how)


def by_prefill(model, ids, limit, scales):
    """The answer without any single step: everything is read anew for every token."""
    ids = [int(i) for i in ids]
    prompt = len(ids)
    for _ in range(limit):
        best = int(model(torch.tensor([ids]), None, scales).logits()[0, -1].argmax())
        if best == 256:
            break
        ids.append(best)
    return decode_bytes(ids[prompt:])


def test_answers_are_those_of_the_scaled_model_token_by_token(model):
    job = job_of(model, asked(["hotpotqa", "lcc"], max_length=120), max_length=120)
    found = job.run(chosen_methods(["none", "constant:a:0.02", "constant:dt:4"]))
    scales = {"none": None, "constant:a:0.02": scaling("a", 0.02), "constant:dt:4": scaling("dt", 4.0)}
    for answers in found.answers:
        for prompt, item in zip(answers.asked.prompts, answers.items, strict=True):
            limit = answers.asked.task.answer_tokens
            assert item.prediction == by_prefill(model, prompt.ids, limit, scales[answers.method])
            assert item.tokens == limit or item.ended
    texts_of = [[item.prediction for item in each.items] for each in found.answers]
    assert texts_of[0] != texts_of[2]
    assert texts_of[0] != texts_of[4]


def test_answers_do_not_depend_on_how_many_are_written_side_by_side(model):
    methods = chosen_methods(["none", "constant:a:0.02", "state-passing", "longmamba", "decimamba:1"])
    asked_of = asked(["hotpotqa"], samples=5)
    alone, *others = (job_of(model, asked_of, rows=rows).run(methods) for rows in (1, 2, 3, 16))
    for found in others:
        assert [each.items for each in found.answers] == [each.items for each in alone.answers]
        assert found.rows == alone.rows
    assert len({item.prediction for each in alone.answers for item in each.items}) > 5


@pytest.fixture
def watched(monkeypatch):
    """Whoever answers, and what is asked of them."""
    asked_of, answers = [], SideBySide.answers

    def seen(together, questions):
        asked_of.append((together, list(questions)))
        return answers(together, asked_of[-1][1])

    monkeypatch.setattr(SideBySide, "answers", seen)
    return asked_of


def test_every_method_reads_the_same_tokens(model, watched):
    job = job_of(model, asked(["qasper", "trec"], max_length=401), max_length=401)
    found = job.run(chosen_methods(["none", "constant:a:2", "constant:a_power:0.5"]))
    read = {}
    for together, questions in watched:
        read.setdefault(str(together.intervention), []).extend((q.prompt.tolist(), q.limit) for q in questions)
    assert len(read) == 3
    first, *others = read.values()
    assert all(each == first for each in others)
    assert [limit for _, limit in first] == [128] * 3 + [64] * 3
    assert {row.truncated for row in found.rows if row.task == "qasper"} == {3}
    assert found.truncation() == (
        "prompts of more than 401 tokens keep their first and last 200; 3 of 6 were cut, the same for every method; "
        "no token comes before a prompt"
    )


def test_questions_are_asked_side_by_side_where_they_are_run_alike(model, watched):
    job = job_of(model, asked(["lcc"], samples=4), rows=3)
    job.run(chosen_methods(["none", "constant:a:2", "longmamba"]))
    assert [(together.rows, len(questions)) for together, questions in watched[:2]] == [(3, 4)] * 2
    assert [len(questions) for _, questions in watched[2:]] == [1] * 4  # a threshold is that of a prompt's length
    watched.clear()
    mixed = job_of(model, asked(["lcc"], samples=4, max_length=130), rows=3)
    mixed.run(chosen_methods(["longmamba"]))
    assert [len(questions) for _, questions in watched] == [1, 3]  # three of them are cut to one length


def test_scores_are_the_metrics_of_the_answers(model):
    job = job_of(model, asked(["qasper", "trec", "lcc"]), decode=lambda _: "\nCity blue\nDate")
    found = job.run(chosen_methods(["none"]))
    assert [(row.task, row.score) for row in found.rows] == [
        ("qasper", printed_score("qasper")), ("trec", 100.0), ("lcc", printed_score("lcc")),
    ]  # fmt: skip
    assert 0 < found.rows[2].score < 100
    assert found.averages[0].score == pytest.approx(sum(row.score for row in found.rows) / 3)
    assert found.pairs == ()


def printed_score(task):
    return round(100 * score(TASKS[task], "\nCity blue\nDate", line(task)["answers"]), 2)


def test_predictions_are_what_longbenchs_own_script_reads(model):
    found = job_of(model, asked(["trec"], samples=2)).run(chosen_methods(["none"]))
    lines = [json.loads(json.dumps(each)) for each in found.answers[0].predictions()]
    assert [each["answers"] for each in lines] == [["City"]] * 2
    assert lines[0]["all_classes"] == line("trec")["all_classes"]
    assert lines[0]["length"] == line("trec", 0, sentences=2)["length"]
    rescored = [score(TASKS["trec"], each["pred"], each["answers"], each["all_classes"]) for each in lines]
    assert rescored == [each["score"] for each in lines]


def test_a_state_that_overflows_counts_as_no_answer(model, monkeypatch):
    from mambascope.analysis.longbench import evaluation

    def broken(together, questions):
        for number, _ in enumerate(questions):
            yield number, Generated((99,), ended=False) if together.intervention is None else NonFiniteStateError(1, 7)

    monkeypatch.setattr(SideBySide, "answers", broken)
    monkeypatch.setattr(evaluation, "score", lambda *_: 1.0)  # as a right answer that is empty would give
    found = job_of(model, asked(["qasper"])).run(chosen_methods(["none", "constant:a:2"]))
    assert [row.broken for row in found.rows] == [0, 3]
    assert [item.prediction for item in found.answers[1].items] == [""] * 3
    assert [row.score for row in found.rows] == [100, 0]


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_a_run_goes_on_sample_by_sample(model, tmp_path, monkeypatch, rows):
    answers, calls = SideBySide.answers, []

    def counted(together, questions):
        for each in answers(together, questions):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(SideBySide, "answers", counted)

    def in_folder(name, methods, rows):
        with RunFolder.open(tmp_path / name, command={"x": 1}, seed=0) as run:
            return job_of(model, asked(["hotpotqa", "lcc"]), run=run, rows=rows).run(chosen_methods(methods))

    with pytest.raises(KeyboardInterrupt):
        in_folder("one", ["none", "constant:a:2"], rows)
    found = in_folder("one", ["none", "constant:a:2"], 2)  # whatever the batch was
    assert len(calls) == 5 + 8  # four were kept
    whole = in_folder("two", ["none", "constant:a:2"], 1)
    assert [each.items for each in found.answers] == [each.items for each in whole.answers]
    before = len(calls)
    more = in_folder("one", ["none", "constant:a:2", "constant:a:1"], rows)
    assert len(calls) == before  # a factor of 1 is what was asked already
    assert more.answers[4].items == more.answers[0].items


@pytest.mark.parametrize("method", ["state-passing", "decimamba:1", "winsorize:0.1", "longmamba"])
def test_methods_that_are_more_than_scales_answer_too(model, method):
    job = job_of(model, asked(["hotpotqa"], samples=2))
    plain, found = job.run(chosen_methods(["none", method])).answers
    assert [item.tokens for item in found.items] == [item.tokens for item in plain.items]
    assert job.fit_tokens(chosen_methods(["none"])) == 0


def test_what_answers_nothing_is_refused(model):
    job = job_of(model, asked(["lcc"], samples=1))
    with pytest.raises(RefusedInputError, match="fresh-window scores texts and answers no question"):
        job.run(chosen_methods(["none", "fresh-window"]))
    with pytest.raises(RefusedInputError, match="reference 'spectrum': expected one of the methods, none"):
        dataclasses.replace(job, reference="spectrum").run(chosen_methods(["none"]))
    with pytest.raises(RefusedInputError, match="is trained on passkey prompts"):
        job.run(chosen_methods(["passkey:a"]))


def test_plans_count_prompts_and_answers(model):
    job = job_of(model, asked(["qasper", "trec"], samples=2, max_length=50))
    assert job.prompt_tokens() == 4 * 50
    assert job.answer_tokens() == 2 * 128 + 2 * 64


@pytest.mark.parametrize("name", ["none", "decimamba:1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plan_knows_what_is_answered_one_at_a_time(model, monkeypatch, name, dtype):
    model, steps, stream = model.to(dtype), set(), Model.stream

    def watched(each, ids, **how):
        steps.update({len(ids)} if ids.shape[1] == 1 else ())
        return stream(each, ids, **how)

    job, (method,) = job_of(model, asked(["lcc"], max_length=90), max_length=90), chosen_methods([name])
    monkeypatch.setattr(Model, "stream", watched)
    job.run([method])
    alone = steps == {1}
    assert alone == (dtype == torch.bfloat16 or name == "decimamba:1")
    many, one = (longbench_work([method], dataclasses.replace(job, rows=rows)).tokens for rows in (16, 1))
    assert (many == one) == alone
