"""Test ``mambascope.analysis.longbench.prompts``: what is cut, and that the rest stays as it is."""

import numpy as np
import pytest

from mambascope.analysis.longbench.prompts import ask, cut_middle
from mambascope.analysis.longbench.samples import read_samples
from mambascope.analysis.longbench.tasks import TASKS
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.tokens import byte_level_tokenizer, encode_bytes, tokenizer_encoder
from tests.analysis.longbench.made_up import jsonl, line
from tests.analysis.passkey.conftest import joining_tokenizer

QASPER = TASKS["qasper"]


def asked(encode=encode_bytes, count=3, **how):
    lines = [line("qasper", k, sentences=3 + 20 * k, context="é" * 50 * k + "x") for k in range(count)]
    return ask(QASPER, read_samples(jsonl(*lines), QASPER, "x"), encode, **how)


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 30])
@pytest.mark.parametrize("most", [2, 5, 10, 11, None])
def test_the_middle_is_cut(length, most):
    ids = np.arange(length)
    kept = cut_middle(ids, most).tolist()
    if most is None or length <= most:
        assert kept == list(range(length))
    else:
        half = int(most / 2)
        assert kept == [*range(half), *range(length - half, length)]
        assert len(kept) in {most, most - 1}


def test_a_length_without_two_halves_is_refused():
    with pytest.raises(RefusedInputError, match="--max-length 1: expected at least 2 tokens"):
        cut_middle(np.arange(3), 1)


def test_prompts_are_the_texts_bytes():
    found = asked()
    for sample, prompt in zip(found.samples, found.prompts, strict=True):
        assert bytes(prompt.ids.astype(np.uint8)) == sample.prompt.encode()
        assert (prompt.whole_tokens, prompt.truncated) == (len(prompt.ids), False)


def test_only_what_is_too_long_is_cut():
    whole = asked()
    lengths = [len(prompt.ids) for prompt in whole.prompts]
    cut = asked(max_length=lengths[1])
    assert [prompt.truncated for prompt in cut.prompts] == [False, False, True]
    assert [prompt.whole_tokens for prompt in cut.prompts] == lengths
    np.testing.assert_array_equal(cut.prompts[2].ids, cut_middle(whole.prompts[2].ids, lengths[1]))


def test_a_first_token_is_counted_and_kept():
    plain, found = asked(), asked(bos=256, max_length=100)
    assert [prompt.ids[0] for prompt in found.prompts] == [256] * 3
    assert [p.whole_tokens for p in found.prompts] == [p.whole_tokens + 1 for p in plain.prompts]
    assert {len(prompt.ids) for prompt in found.prompts} == {100}
    np.testing.assert_array_equal(found.prompts[2].ids[1:50], plain.prompts[2].ids[:49])


def test_tokens_are_those_of_the_models_tokenizer():
    pytest.importorskip("tokenizers")
    found, plain = asked(tokenizer_encoder(joining_tokenizer(), "x")), asked()
    assert len(found.prompts[0].ids) <= len(plain.prompts[0].ids)
    byte_level = asked(tokenizer_encoder(byte_level_tokenizer(), "x"))
    np.testing.assert_array_equal(byte_level.prompts[2].ids, plain.prompts[2].ids)


def test_another_models_tokenizer_is_refused():
    with pytest.raises(TextError, match=r"qasper, sample qasper-0: token id \d+, but the model knows 100 ids"):
        asked(tokens_in_vocab=100)


def test_the_first_samples_alone():
    assert [sample.id for sample in asked().first(2).samples] == ["qasper-0", "qasper-1"]
    assert len(asked().first(2).prompts) == 2
    assert len(asked().first(None).samples) == 3
