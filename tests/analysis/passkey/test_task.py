"""Test ``mambascope.analysis.passkey.task``: exact lengths, depths, keys and bytes."""

import dataclasses

import numpy as np
import pytest

from mambascope.analysis.passkey.keys import part_of
from mambascope.analysis.passkey.task import DEPTHS, HEAD, JITTER, TAIL, PasskeyTask, needle
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import encode_bytes


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("context", [59, 60, 100, 403, 2000])
def test_a_context_of_bytes_has_exactly_n_tokens(byte_task, context, depth):
    examples = byte_task.examples(context, depth, 5)
    assert examples.tokens().shape == (5, examples.prompt_tokens)
    for item in examples.items:
        text = bytes(item.ids).decode()
        assert text.startswith(HEAD)
        assert text.endswith(TAIL)
        inside = text[len(HEAD) : len(text) - len(TAIL)]
        assert len(inside) == context == examples.context_tokens
        assert inside.count(needle(item.key)) == 1
        assert text.index(needle(item.key)) == item.needle_start
        assert text[slice(*item.second_mention)] == item.key
        assert text.index(item.key) < item.second_mention[0]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_context_of_words_has_exactly_n_tokens(word_task, depth):
    for context in (word_task.smallest_context(), 64, 257):
        examples = word_task.examples(context, depth, 4)
        head, tail = (word_task.encode(part.encode(), "") for part in (HEAD, TAIL))
        assert examples.prompt_tokens == len(head) + context + len(tail)
        for item in examples.items:
            assert len(item.ids) == examples.prompt_tokens
            hidden = word_task.encode(needle(item.key).encode(), "")
            found = item.ids[item.needle_start : item.needle_start + len(hidden)]
            assert np.array_equal(found, hidden)
            assert np.array_equal(item.ids[slice(*item.second_mention)], item.key_ids)


def test_a_tokenizer_may_join_a_space_to_what_follows(joining_task):
    smallest = joining_task.smallest_context()
    for number in range(60):  # needles differ in their tokens, contexts do not
        item = joining_task.examples(smallest, 0.0, 1, first=number).items[0]
        mention = joining_task.decode(item.ids[slice(*item.second_mention)])
        assert mention.strip() == item.key
        assert mention.startswith(" ")
    lengths = {len(joining_task.task.encode(needle(f"{key:05d}").encode(), "")) for key in range(0, 99999, 997)}
    assert len(lengths) > 1
    assert max(lengths) <= smallest


@pytest.mark.parametrize("context", [403, 4000])
def test_needles_lie_at_their_depths(byte_task, context):
    for depth in DEPTHS:
        came_out = [item.noise_before for item in byte_task.examples(context, depth, 20).items]
        assert max(abs(each - depth) for each in came_out) <= JITTER
        assert depth not in {0, 1} or came_out == [depth] * 20


def test_needles_stand_between_words(byte_task):
    for depth in (0.25, 0.5, 0.75):
        for item in byte_task.examples(403, depth, 30).items:
            assert bytes(item.ids[item.needle_start - 1 : item.needle_start]) in {b" ", b"\n"}


def test_jitter_moves_the_needle_by_up_to_a_tenth(byte_task):
    moved = dataclasses.replace(byte_task, jitter=JITTER)
    came_out = np.array([item.noise_before for item in moved.examples(30_000, 0.5, 40).items])
    assert np.all(np.abs(came_out - 0.5) < JITTER + 0.01)
    assert came_out.std() > 0.03
    assert min(item.noise_before for item in moved.examples(403, 0.0, 20).items) >= 0


def test_same_seed_same_bytes_and_the_count_changes_nothing(byte_task):
    one, again = byte_task.examples(300, 0.5, 6), byte_task.examples(300, 0.5, 10)
    assert np.array_equal(one.tokens(), again.tokens()[:6])
    assert np.array_equal(byte_task.examples(300, 0.5, 2, first=4).tokens(), one.tokens()[4:])
    other = dataclasses.replace(byte_task, seed=1).examples(300, 0.5, 6)
    assert {item.key for item in one.items}.isdisjoint(item.key for item in other.items)


def test_cells_of_a_length_differ_in_the_depth_alone(byte_task):
    near, far = byte_task.examples(300, 1.0, 8), byte_task.examples(300, 0.0, 8)
    assert [item.key for item in near.items] == [item.key for item in far.items]
    for a, b in zip(near.items, far.items, strict=True):
        assert sorted(a.ids) == sorted(b.ids)
        assert a.needle_start > b.needle_start


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_keys_are_of_the_tasks_part(byte_task, part):
    items = dataclasses.replace(byte_task, part=part).examples(100, 0.5, 50).items
    assert {part_of(int(item.key)) for item in items} == {part}


def test_released_keys_have_one_to_five_digits_and_contexts_stay_exact(byte_task):
    examples = dataclasses.replace(byte_task, variant="released").examples(300, 0.5, 300)
    assert {len(item.key) for item in examples.items} >= {3, 4, 5}
    assert {len(item.ids) for item in examples.items} == {examples.prompt_tokens}
    assert all(item.key == str(int(item.key)) for item in examples.items)


def test_prompt_and_answer_fill_a_length(byte_task):
    examples = byte_task.examples(byte_task.context_for(512), 0.5, 3)
    assert {len(item.ids) + len(item.key_ids) for item in examples.items} == {512}


def test_what_does_not_fit_is_refused(byte_task):
    assert byte_task.smallest_context() == 59
    with pytest.raises(RefusedInputError, match="give at least 59"):
        byte_task.examples(58, 0.5, 1)
    for depth, count in ((1.1, 1), (-0.1, 1), (0.5, 0)):
        with pytest.raises(RefusedInputError, match="expected a depth of 0 to 1"):
            byte_task.examples(100, depth, count)
    assert (
        PasskeyTask.of_texts([b"A text of one sentence."], encode_bytes).examples(5_000, 0.5, 1).prompt_tokens == 5105
    )
