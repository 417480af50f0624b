"""Test ``mambascope.analysis.language_requests``: likelihoods against one plain pass, answers, and what is cut."""

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import token_bits
from mambascope.analysis.language_requests import LanguageModel, rolling_windows
from mambascope.analysis.passkey.answers import decode_bytes
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import encode_bytes, tokenizer_encoder
from tests.analysis.passkey.conftest import joining_tokenizer
from tests.spectra.tiny import tiny_model

END = 256
SCALES = {"none": None, "a": scaling("a", 0.02), "onset": scaling("dt", 4.0, onset_tokens=9)}


def language(arch="mamba2", scales=None, encode=encode_bytes, decode=decode_bytes, **how):
    small = {"ngroups": 1} if arch == "mamba2" else {}
    model = tiny_model(arch, vocab_size=320, tie_embeddings=False, **small)
    return LanguageModel(model, encode, decode, frozenset({END}), scales=scales, **how)


def plainly(model, ids, scales):
    """Log-probabilities of all tokens but the first, from one block over everything."""
    logits = model(torch.tensor([ids]), None, scales).logits()[0]
    return logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].double(), logits.argmax(-1)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("name", ["none", "a"])
def test_a_continuation_is_as_likely_as_in_one_plain_pass(arch, name):
    asked = language(arch, SCALES[name])
    for context, continuation in [("The box is", " blue"), ("a", "b"), ("x " * 30, "y" * 9), ("é", "京")]:
        bare = context.rstrip()  # blanks at the end are part of the continuation
        ids = list((context + continuation).encode())
        scored = len(ids) - len(bare.encode())
        each, best = plainly(asked.model, ids, SCALES[name])
        found, greedy = asked.loglikelihood(context, continuation)
        assert found == pytest.approx(float(each[-scored:].sum()), abs=1e-4)
        assert greedy == (best[-scored - 1 : -1].tolist() == ids[-scored:])


def test_scales_with_an_onset_act_from_that_token_on():
    asked = language(scales=SCALES["onset"])
    ids = np.frombuffer(b"The box is blue and wide", np.uint8)
    expected = -np.log(2) * token_bits(asked.model, ids[None], SCALES["onset"])[0]
    assert asked.loglikelihood("The box", " is blue and wide")[0] == pytest.approx(expected[6:].sum(), abs=1e-4)
    assert asked.loglikelihood("The box is blue", " and wide")[0] == pytest.approx(expected[14:].sum(), abs=1e-4)
    plain = -np.log(2) * token_bits(asked.model, ids[None])[0]
    assert abs(plain[14:].sum() - expected[14:].sum()) > 1e-2


def numbers(data, _):
    """Encode text that is written as ids."""
    return np.array([int(number) for number in data.split()], np.int64)


def test_what_greedy_decoding_writes_is_greedy():
    asked = language(encode=numbers, decode=lambda ids: "".join(f" {i}" for i in ids))
    answer = asked.answer("84 104 101", 12)
    assert len(answer.split()) == 12
    assert asked.loglikelihood("84 104 101", answer)[1]
    assert asked.loglikelihood(f"84 104 101{answer}", asked.answer(f"84 104 101{answer}", 3))[1]
    for place in (0, 5, 11):
        other = answer.split()
        other[place] = str((int(other[place]) + 1) % 256)
        assert not asked.loglikelihood("84 104 101", " " + " ".join(other))[1]


def test_a_shared_context_is_read_once(monkeypatch):
    asked, read = language(), []
    stream = asked.model.stream
    monkeypatch.setattr(type(asked.model), "stream", lambda _, t, **k: read.append(t.shape[1]) or stream(t, **k))
    found = [asked.loglikelihood("Question: " * 8, choice)[0] for choice in ("A", "Bc", "A")]
    assert read.count(len(b"Question: " * 8) - 1) == 1
    assert found[0] == found[2]
    assert asked.loglikelihood("another", "A")[0] != found[0]


def test_without_a_context_comes_the_end_token():
    asked = language()
    each, _ = plainly(asked.model, [END, *b"blue"], None)
    assert asked.loglikelihood("", "blue")[0] == pytest.approx(float(each.sum()), abs=1e-4)
    assert asked.rolling("blue") == pytest.approx(float(each.sum()), abs=1e-4)
    spaced, _ = plainly(asked.model, [END, *b"  blue"], None)
    assert asked.loglikelihood("  ", "blue")[0] == pytest.approx(float(spaced.sum()), abs=1e-4)
    other, _ = plainly(asked.model, [7, *b"blue"], None)
    assert language(prefix=7).rolling("blue") == pytest.approx(float(other.sum()), abs=1e-4)
    assert language(prefix=ord("b")).loglikelihood("", "blue")[0] == pytest.approx(
        float(plainly(asked.model, list(b"blue"), None)[0].sum()), abs=1e-4
    )
    assert (asked.loglikelihood("x", ""), asked.rolling("")) == ((0.0, True), 0.0)
    nameless = LanguageModel(asked.model, encode_bytes, decode_bytes)
    with pytest.raises(RefusedInputError, match="names no token that ends or begins a text"):
        nameless.rolling("x")


def test_a_long_text_is_read_in_one_pass_across_blocks():
    asked = language()
    text = "".join(chr(97 + k * k % 26) for k in range(1500))  # three blocks
    each, _ = plainly(asked.model, [END, *text.encode()], None)
    assert asked.rolling(text) == pytest.approx(float(each.sum()), rel=1e-6)
    assert asked.truncated == 0


def test_windows_of_a_limit_are_the_harnesss():
    """The example in the documentation of lm_eval's ``loglikelihood_rolling``."""
    assert rolling_windows(10, 4) == [(0, 4), (4, 8), (8, 10)]
    asked, ids = language(max_length=4), list(b"0123456789")
    pairs = [([END, *ids[:3]], ids[:4]), (ids[3:7], ids[4:8]), (ids[5:9], ids[8:10])]
    expected = 0.0
    for read, scored in pairs:
        logits = asked.model(torch.tensor([read]), None, None).logits()[0, -len(scored) :]
        expected += float(logits.log_softmax(-1).gather(-1, torch.tensor(scored)[:, None]).sum())
    assert asked.rolling("0123456789") == pytest.approx(expected, abs=1e-4)
    assert asked.truncated == 1
    assert asked.rolling("0123") == pytest.approx(language().rolling("0123"), abs=1e-4)
    assert asked.truncated == 1  # nothing of it was cut


def test_contexts_are_cut_on_the_left_or_in_the_middle():
    context, after = "0123456789", "ab"
    left, middle, whole = language(max_length=5), language(max_length=5, truncation="middle"), language()
    assert left.loglikelihood(context, after)[0] == whole.loglikelihood("6789", after)[0]  # 4 + 2 - 1 tokens are read
    assert middle.loglikelihood(context, after)[0] == whole.loglikelihood("0189", after)[0]
    assert (left.truncated, middle.truncated, whole.truncated) == (1, 1, 0)
    assert left.loglikelihood("6789", after)[0] == whole.loglikelihood("6789", after)[0]
    assert left.truncated == 1
    assert (
        language(max_length=6, truncation="middle").loglikelihood(context, after)[0]
        == (whole.loglikelihood("01789", after)[0])
    )
    assert left.answer(context, 2) == whole.answer("789", 2)
    assert middle.answer(context, 1) == whole.answer("0189", 1)
    with pytest.raises(RefusedInputError, match="a continuation of 6 tokens does not fit into max_length 5"):
        left.loglikelihood("x", "abcdef")
    with pytest.raises(RefusedInputError, match="an answer of 5 tokens does not fit into max_length 5"):
        left.answer("x", 5)
    with pytest.raises(RefusedInputError, match="max_length 1: expected at least 2"):
        language(max_length=1)


@pytest.mark.parametrize("scales", [None, SCALES["a"]])
def test_answers_end_before_the_first_stop_string(scales):
    asked = language(scales=scales, decode=lambda ids: "".join(f"{i:03d} " for i in ids))
    whole = asked.answer("The box", 30)
    tokens = whole.split()
    assert len(tokens) == 30 or END in map(int, tokens)
    late = next(t for t in tokens if tokens.index(t) > 3)
    expected = whole[: whole.index(late)]
    assert asked.answer("The box", 30, (late, "not there")) == expected
    assert asked.answer("The box", 30, ("", "not there")) == whole  # an empty one stops nothing
    across = whole[6:10]  # a stop string may begin in one token and end in another
    assert asked.answer("The box", 30, (across,)) == whole[: whole.index(across)]


def test_an_answer_is_not_written_further_than_its_stop_string(monkeypatch):
    asked = language(decode=lambda ids: "x" * len(ids))
    steps = []
    stream = asked.model.stream
    monkeypatch.setattr(type(asked.model), "stream", lambda _, t, **k: steps.append(t.shape[1]) or stream(t, **k))
    assert asked.answer("The box", 200, ("xxxx",)) == ""
    assert len(steps) <= 1 + 4


def test_tokens_may_be_longer_than_bytes():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer.from_str(joining_tokenizer().decode())
    asked = language(encode=tokenizer_encoder(joining_tokenizer(), "x"), decode=made.decode)
    context, continuation = "a 1 is", " 10 and 3"
    ids, before = made.encode(context + continuation).ids, len(made.encode(context).ids)
    assert len(ids) < len((context + continuation).encode())
    each, _ = plainly(asked.model, ids, None)
    assert asked.loglikelihood(context, continuation)[0] == pytest.approx(float(each[before - 1 :].sum()), abs=1e-4)
    assert isinstance(asked.answer(context, 5), str)


def test_half_a_surrogate_pair_does_not_end_a_run():
    asked = language()
    assert asked.rolling("a\ud800") == asked.rolling("a?")


def test_half_precision_scores_and_writes_by_the_same_logits():
    """Many bfloat16 logits are equal; the likeliest token is that of the float32 logits, for scores and answers."""
    model = tiny_model("mamba2", torch.bfloat16, vocab_size=320, tie_embeddings=False, ngroups=1)
    asked = LanguageModel(model, numbers, lambda ids: "".join(f" {i}" for i in ids))
    contexts = [" ".join(map(str, np.random.default_rng(seed).integers(256, size=20))) for seed in range(150)]
    answers = [asked.answer(context, 1) for context in contexts]
    assert all(asked.loglikelihood(context, answer)[1] for context, answer in zip(contexts, answers, strict=True))
    narrow = [model(torch.tensor([list(map(int, context.split()))])).logits()[0, -1].argmax() for context in contexts]
    assert answers != [f" {int(token)}" for token in narrow]  # else there was nothing to tell apart
