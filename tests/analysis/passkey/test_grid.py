"""Test ``mambascope.analysis.passkey.grid``: counts of cells, their lengths, and going on after a stop."""

import numpy as np
import pytest

from mambascope.analysis.passkey import grid as module
from mambascope.analysis.passkey.answers import decode_bytes, solver
from mambascope.analysis.passkey.binomial import exact_interval
from mambascope.analysis.passkey.grid import PasskeyCell, PasskeyGrid, PasskeyPlan, Way, passkey_grid
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from tests.spectra.tiny import tiny_model

PLAN = PasskeyPlan(lengths=(200, 260), depths=(0.0, 1.0), examples=4)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def knows_some(calls):
    """In place of a model: finds the keys that are even."""

    def solve(examples):
        calls.append((examples.prompt_tokens, examples.depth))
        return np.array([int(item.key) % 2 == 0 for item in examples.items])

    return lambda prompt_tokens: Way("even", solve)


def test_cells_count_the_right_answers(byte_task, knows_some):
    found = passkey_grid(byte_task, PLAN, knows_some, method="m")
    assert [(cell.length, cell.depth) for cell in found.cells] == [(200, 0), (200, 1), (260, 0), (260, 1)]
    for cell in found.cells:
        assert (cell.prompt_tokens + 5, cell.method, cell.examples) == (cell.length, "m", 4)
        keys = [item.key for item in byte_task.examples(cell.context_tokens, cell.depth, 4).items]
        assert cell.solved == sum(int(key) % 2 == 0 for key in keys)
        assert (cell.ci_low, cell.ci_high) == exact_interval(cell.solved, 4)
        assert cell.noise_before == cell.depth
    assert found.to_dict()["rows"][0].keys() >= {"length", "depth", "solved", "examples", "share", "ci_low"}


def test_a_length_may_be_the_contexts(byte_task, knows_some):
    plan = PasskeyPlan(lengths=(200,), depths=(0.5,), examples=2, measure="context")
    (cell,) = passkey_grid(byte_task, plan, knows_some).cells
    assert (cell.length, cell.context_tokens, cell.prompt_tokens) == (200, 200, 305)


def test_a_way_is_chosen_by_the_tokens_of_the_prompt(byte_task):
    asked = []

    def way(prompt_tokens):
        asked.append(prompt_tokens)
        return Way("w", lambda examples: np.ones(len(examples), bool))

    found = passkey_grid(byte_task, PLAN, way)
    assert asked == [195, 255]  # prompt and the five digits of the answer fill the length
    assert {cell.share for cell in found.cells} == {1.0}


def test_far_cells_may_have_fewer_keys_and_say_so(byte_task, knows_some):
    plan = PasskeyPlan((200, 260), (0.5,), 6, far_examples=2, far_from=200)
    assert [cell.examples for cell in passkey_grid(byte_task, plan, knows_some).cells] == [6, 2]
    assert plan.planned_tokens(byte_task) == 195 * 6 + 255 * 2


def test_a_model_that_overflows_finds_no_key(byte_task):
    def solve(examples):
        raise NonFiniteStateError(1, 7)

    cells = passkey_grid(byte_task, PLAN, lambda _: Way("w", solve)).cells
    assert {(cell.solved, cell.broken) for cell in cells} == {(0, True)}


def test_a_stopped_grid_goes_on_with_the_next_cell(tmp_path, byte_task, knows_some, calls, monkeypatch):
    ticks = []
    whole = passkey_grid(byte_task, PLAN, knows_some)
    del calls[:]
    counted = module._counted

    def stop_at_the_third(*given):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return counted(*given)

    with monkeypatch.context() as patch, RunFolder.open(tmp_path, command={"t": 1}, seed=0) as run:
        patch.setattr(module, "_counted", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            passkey_grid(byte_task, PLAN, knows_some, run=run)
    with RunFolder.open(tmp_path, command={"t": 1}, seed=0) as run:
        again = passkey_grid(byte_task, PLAN, knows_some, run=run, tick=ticks.append)
        assert calls == [(195, 0.0), (195, 1.0), (255, 0.0), (255, 1.0)]
        same = passkey_grid(byte_task, PLAN, knows_some, method="other name", run=run)
    assert len(calls) == 4  # what does the same is run once
    assert again == whole
    assert {cell.method for cell in same.cells} == {"other name"}
    assert ticks == [195 * 4, 195 * 4, 255 * 4, 255 * 4]


def test_a_real_model_fills_a_grid(byte_task):
    model = tiny_model("mamba", vocab_size=264)
    plan = PasskeyPlan(lengths=(170,), depths=(0.5,), examples=3)
    (cell,) = passkey_grid(byte_task, plan, lambda _: Way("none", solver(model, decode_bytes))).cells
    assert (cell.solved, cell.examples, cell.ci_low) == (0, 3, 0.0)  # a random model knows no key


def cell(length, depth, solved):
    return PasskeyCell("m", length, depth, length - 105, length - 5, depth, solved, 100, 0.0, 1.0)


def test_solved_up_to_the_first_length_that_is_not():
    cells = [cell(n, 0, solved) for n, solved in ((256, 100), (512, 95), (1024, 94), (2048, 100))]
    assert PasskeyGrid(tuple(cells)).solved_lengths() == [256, 512, 2048]
    assert PasskeyGrid(tuple(cells)).solved_up_to() == 512
    assert PasskeyGrid(tuple(cells[2:])).solved_up_to() is None


def test_a_length_is_solved_if_it_is_at_every_depth():
    cells = [cell(256, 0, 95), cell(256, 1, 100), cell(512, 0, 94), cell(512, 1, 100)]
    assert PasskeyGrid(tuple(cells)).solved_lengths() == [256]


def test_lengths_without_room_are_refused_before_any_work(byte_task, knows_some, calls):
    with pytest.raises(RefusedInputError, match=r"length of 100 tokens .* give at least 169"):
        passkey_grid(byte_task, PasskeyPlan(lengths=(200, 100)), knows_some)
    assert not calls
    PasskeyPlan(lengths=(169,)).context_tokens(byte_task, 169)
    with pytest.raises(RefusedInputError, match="length of 168 tokens"):
        PasskeyPlan(lengths=(168,)).context_tokens(byte_task, 168)
