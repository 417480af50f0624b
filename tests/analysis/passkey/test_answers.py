"""Test ``mambascope.analysis.passkey.answers``: one forward scores as generation does; scales act in both."""

import dataclasses

import numpy as np
import pytest
import torch

from mambascope.analysis.passkey.answers import (
    ANSWER_TOKENS,
    answer_logits,
    decode_bytes,
    decoder_of,
    forced_solved,
    generate_answers,
    is_solved,
    solver,
)
from mambascope.analysis.passkey.task import Examples
from mambascope.spectra.checkpoint import open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from tests.analysis.passkey.conftest import word_tokenizer
from tests.spectra.tiny import tiny_model

WRITES = b"01234567.\n"


def digit_writer(arch):
    """A random model whose likeliest byte is always one of ``WRITES``: opposite rows in pairs, all others 0."""
    model = tiny_model(arch, vocab_size=264, tie_embeddings=False)
    rows = torch.zeros_like(model.lm_head.weight)
    half = torch.randn(len(WRITES) // 2, rows.shape[1], generator=torch.Generator().manual_seed(1))
    rows[list(WRITES)] = torch.cat([half, -half])
    model.lm_head.weight = torch.nn.Parameter(rows, requires_grad=False)
    return model


def scrambled(examples):
    """Random bytes in place of the prompts, which all end alike: a random model answers by the last few bytes."""
    rng = np.random.default_rng(0)
    items = [dataclasses.replace(item, ids=rng.integers(256, size=len(item.ids))) for item in examples.items]
    return Examples(examples.context_tokens, examples.prompt_tokens, examples.depth, tuple(items))


def with_keys(examples, answers):
    """Make the first five characters of each answer the key, where they are digits; of every third, a wrong one."""
    items = []
    for number, (item, answer) in enumerate(zip(examples.items, answers, strict=True)):
        digits = answer[:5] if answer[:5].isdigit() else item.key
        key = digits if number % 3 else digits[:4] + str(9 - int(digits[4]))
        items.append(dataclasses.replace(item, key=key, key_ids=np.frombuffer(key.encode(), np.uint8)))
    return Examples(examples.context_tokens, examples.prompt_tokens, examples.depth, tuple(items))


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("scaled", [False, True])
def test_one_forward_scores_as_generation_does(byte_task, arch, scaled):
    model, scales = digit_writer(arch), scaling("a", 0.05) if scaled else None
    plain = scrambled(byte_task.examples(70, 0.5, 60))
    answers = generate_answers(model, plain, decode_bytes, intervention=scales)
    examples = with_keys(plain, answers)
    solved = [is_solved(answer, item.key) for answer, item in zip(answers, examples.items, strict=True)]
    assert 0 < sum(solved) < 40  # at most those whose key is not a wrong one
    assert forced_solved(model, examples, intervention=scales, batch=7).tolist() == solved


def test_keys_of_different_lengths_are_scored_alike(byte_task):
    released = dataclasses.replace(byte_task, variant="released")
    model, examples = digit_writer("mamba2"), scrambled(released.examples(70, 0.5, 60))
    answers = generate_answers(model, examples, decode_bytes)
    items = [
        dataclasses.replace(item, key=cut, key_ids=np.frombuffer(cut.encode(), np.uint8))
        for item, answer in zip(examples.items, answers, strict=True)
        if (cut := answer.split("\n")[0].split(".")[0][:5])
    ]
    assert len({len(item.key) for item in items}) > 2
    chosen = Examples(examples.context_tokens, examples.prompt_tokens, 0.5, tuple(items))
    answers = generate_answers(model, chosen, decode_bytes)
    solved = [is_solved(answer, item.key) for answer, item in zip(answers, items, strict=True)]
    assert 0 < sum(solved) < len(solved)
    assert forced_solved(model, chosen).tolist() == solved


def test_scales_act_on_the_answers(byte_task):
    model, examples = digit_writer("mamba2"), scrambled(byte_task.examples(200, 0.5, 10))
    plain = generate_answers(model, examples, decode_bytes)
    assert generate_answers(model, examples, decode_bytes, intervention=scaling("a", 0.02)) != plain
    assert generate_answers(model, examples, decode_bytes, intervention=scaling("a", 1.0)) == plain
    assert generate_answers(model, examples, decode_bytes, batch=3) == plain
    assert {len(answer) for answer in plain} == {ANSWER_TOKENS}


def test_answer_logits_are_those_of_the_whole_sequence_and_have_gradients(byte_task):
    model, examples = digit_writer("mamba2"), byte_task.examples(600, 0.5, 2)
    tokens = np.stack([np.concatenate([item.ids, item.key_ids]) for item in examples.items])
    whole = model(model.ids(tokens)).logits()[:, examples.prompt_tokens - 1 :]
    model.layers()[0].mixer.A_log.requires_grad_(True)
    found = answer_logits(model, list(examples.items))  # in blocks, one of which ends inside the prompt
    assert found.shape == (2, 6, 264)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    found.logsumexp(-1).sum().backward()
    assert float(model.layers()[0].mixer.A_log.grad.abs().sum()) > 0


def test_verdicts_on_answers():
    assert is_solved("01234\nThe", "01234")
    assert is_solved("01234. Remember", "01234")
    assert not is_solved("012345", "01234")
    assert not is_solved("0123", "01234")
    assert not is_solved(" 01234", "01234")  # for bytes that is another answer; by words it is right
    assert is_solved(" 01234", "01234", "word")
    assert is_solved("the key is 7 .", "7", "word")
    assert not is_solved("77", "7", "word")


def test_decoders(tmp_path, word_task):
    assert decode_bytes([48, 49, 256, 50]) == "01"
    assert decoder_of(open_checkpoint("mamba2-tiny")) is decode_bytes
    path = tmp_path / "tokenizer.json"
    path.write_bytes(word_tokenizer())
    decode = decoder_of(open_checkpoint("mamba2-tiny"), path)
    assert decode(word_task.encode(b"407", "").tolist()).split() == ["4", "0", "7"]


def test_one_forward_is_for_bytes_alone(word_task):
    examples = word_task.examples(100, 0.5, 2)
    with pytest.raises(RefusedInputError, match="generate the answers instead"):
        forced_solved(digit_writer("mamba2"), examples)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_first_state_is_read_on_from_in_both_ways(byte_task, arch):
    model = digit_writer(arch)
    for block in model.stream(np.arange(40)[None]):
        state = block.state
    plain = scrambled(byte_task.examples(70, 0.5, 30))
    answers = generate_answers(model, plain, decode_bytes, state=state, batch=7)
    longer = [dataclasses.replace(i, ids=np.concatenate([np.arange(40), i.ids])) for i in plain.items]
    whole = Examples(plain.context_tokens, plain.prompt_tokens + 40, 0.5, tuple(longer))
    assert answers == generate_answers(model, whole, decode_bytes)
    assert answers != generate_answers(model, plain, decode_bytes)
    examples = with_keys(plain, answers)
    solved = [is_solved(answer, item.key) for answer, item in zip(answers, examples.items, strict=True)]
    assert 0 < sum(solved) < 20
    assert solver(model, decode_bytes, state=state)(examples).tolist() == solved
    assert solver(model, lambda ids: decode_bytes(ids), state=state)(examples).tolist() == solved  # by generation


def test_the_solver_reads_one_forward_only_where_that_is_exact(byte_task, monkeypatch):
    from mambascope.analysis.passkey import answers as module

    class Rule:
        def boundaries(self):
            return ()

        def __call__(self, layer, position, dynamics):
            return dynamics

    ways = []
    monkeypatch.setattr(module, "forced_solved", lambda model, examples, **_: ways.append("forward"))
    monkeypatch.setattr(module, "generate_answers", lambda *_, **__: ways.append("generation") or ["x", "y"])
    model, examples = digit_writer("mamba2"), byte_task.examples(70, 0.5, 2)
    for options in ({}, {"intervention": scaling("dt", 2.0)}, {"intervention": Rule()}, {"criterion": "word"}):
        solver(model, decode_bytes, **options)(examples)
    solver(model, str)(examples)
    assert ways == ["forward", "forward", "generation", "generation", "generation"]


def test_prompts_that_must_be_seen_whole_run_a_few_at_a_time(byte_task):
    """16,384 tokens at once: of prompts of 6,000 two side by side, and at least one of any length."""
    seen = []

    class Whole:
        def boundaries(self):
            return ()

        def __call__(self, layer, position, dynamics):
            if layer == 0 and position == 0:
                seen.append(dynamics.dt.shape[:2])
            return dynamics

        def kept(self, layer, position):
            return None

    model = tiny_model("mamba2", vocab_size=264)
    for context, rows in [(6_000, [2, 1]), (17_000, [1])]:
        seen.clear()
        examples = byte_task.examples(context, 0.5, sum(rows))
        solver(model, decode_bytes, intervention=Whole(), batch=3)(examples)
        assert [shape[0] for shape in seen] == rows
        assert {shape[1] for shape in seen} == {examples.prompt_tokens}
