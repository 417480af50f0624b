"""Test ``mambascope.analysis.passkey.answer_rows``: rows of one length, whose keys they have, and their score."""

import dataclasses

import numpy as np
import pytest
import torch

from mambascope.analysis.passkey.answer_rows import draw_answers, score_examples, spread_examples
from mambascope.analysis.passkey.keys import part_of
from mambascope.analysis.passkey.task import JITTER
from mambascope.spectra.scales import scaling
from tests.spectra.tiny import tiny_model


def test_rows_end_with_the_answer_and_are_scored_from_its_first_digit(byte_task, rng):
    task = dataclasses.replace(byte_task, part="train")
    rows = draw_answers(task, rng, 300, 12, end=b"\n")
    assert rows.ids.shape == (12, 301)  # prompt and five digits fill the length; the line's end comes on top
    for row in rows.ids:
        text = bytes(row.astype(np.uint8)).decode("utf-8", "replace")
        key = text[-6:-1]
        assert text.endswith(f"\nAnswer: {key}\n")
        assert text.count(f" {key}") == 3
        assert part_of(int(key)) == "train"
        assert bytes(row[rows.first + 1 : rows.first + 6].astype(np.uint8)).decode() == key
    starts = {bytes(row[:200].astype(np.uint8)).find(b"The pass key is") for row in rows.ids}
    assert len(starts) > 4  # depths differ


def test_keys_of_one_batch_have_as_many_tokens_as_its_first(byte_task, rng):
    task = dataclasses.replace(byte_task, variant="released")
    widths = {draw_answers(task, rng, 300, 3).ids.shape[1] for _ in range(60)}
    assert widths >= {299, 300}  # four digits and five


def test_short_lengths_take_the_shortest_prompt_that_there_is(byte_task, rng):
    assert draw_answers(byte_task, rng, 10, 1).ids.shape[1] == 169


def test_depths_are_spread_from_start_to_end(byte_task):
    items = spread_examples(byte_task, 400, 5)
    np.testing.assert_allclose([item.noise_before for item in items], [0, 0.25, 0.5, 0.75, 1], atol=JITTER)
    assert len({item.key for item in items}) == 5


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_scores_are_those_of_the_model_on_the_answers(byte_task, end):
    model, items, scales = tiny_model("mamba2", vocab_size=264), spread_examples(byte_task, 200, 4), scaling("a", 3.0)
    tokens = np.stack([np.concatenate([item.ids, item.key_ids, list(end)]) for item in items]).astype(int)
    logits = model(model.ids(tokens), intervention=scales).logits()[:, 194:-1]  # 195 tokens of prompt
    wanted = model.ids(tokens[:, 195:])
    bits = -logits.log_softmax(-1).gather(-1, wanted[..., None]) / np.log(2)
    found, right = score_examples(model, items, byte_task, scales, end=end, batch=3)
    np.testing.assert_allclose(found, float(bits.mean()), rtol=1e-5)
    assert right == 0
    told = torch.zeros(264, 24)
    model.lm_head.weight = torch.nn.Parameter(told, requires_grad=False)  # every byte is as likely: 1 of 264
    np.testing.assert_allclose(score_examples(model, items, byte_task)[0], np.log2(264), rtol=1e-6)


def test_a_key_with_a_digit_behind_it_is_not_found(byte_task, monkeypatch):
    items = spread_examples(byte_task, 200, 3)
    answers = [items[0].key + "\n", items[1].key + "7", "0" + items[2].key[1:] + "."]
    logits = torch.nn.functional.one_hot(torch.tensor([list(answer.encode()) for answer in answers]), 264) * 50.0
    monkeypatch.setattr("mambascope.analysis.passkey.answer_rows.answer_logits", lambda *_: logits)
    bits, right = score_examples(tiny_model("mamba2", vocab_size=264), items, byte_task, end=b"\n")
    assert right == 1 / 3
    # of 18 tokens three are wrong: the 7, the 0 (no key starts with it here) and the full stop, 50 nats each
    assert items[2].key[0] != "0"
    assert bits == pytest.approx(3 * 50 / np.log(2) / 18, rel=1e-6)
