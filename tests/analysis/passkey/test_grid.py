"""Test ``mambascope.analysis.passkey.grid``: counts of cells, their lengths, and going on after a stop."""

import pytest

from mambascope.analysis.passkey import grid as module
from mambascope.analysis.passkey.answers import decode_bytes
from mambascope.analysis.passkey.binomial import exact_interval
from mambascope.analysis.passkey.grid import PasskeyCell, PasskeyGrid, PasskeyPlan, passkey_grid
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import RefusedInputError
from tests.spectra.tiny import tiny_model

PLAN = PasskeyPlan(lengths=(200, 260), depths=(0.0, 1.0), examples=4)


@pytest.fixture
def knows_some(monkeypatch):
    """Answers in place of a model's: right for the examples whose key is even."""
    calls = []

    def answers(model, examples, decode, **options):
        calls.append((examples.prompt_tokens, examples.depth))
        return [item.key if int(item.key) % 2 == 0 else "no" for item in examples.items]

    monkeypatch.setattr(module, "generate_answers", answers)
    return calls


def test_cells_count_the_right_answers(byte_task, knows_some):
    found = passkey_grid(tiny_model("mamba2"), byte_task, PLAN, decode_bytes, method="m")
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
    (cell,) = passkey_grid(tiny_model("mamba2"), byte_task, plan, decode_bytes).cells
    assert (cell.length, cell.context_tokens, cell.prompt_tokens) == (200, 200, 305)


def test_a_stopped_grid_goes_on_with_the_next_cell(tmp_path, byte_task, knows_some, monkeypatch):
    model, ticks = tiny_model("mamba2"), []
    whole = passkey_grid(model, byte_task, PLAN, decode_bytes)
    del knows_some[:]
    counted = module._counted

    def stop_at_the_third(*given):
        if len(knows_some) == 3:
            raise KeyboardInterrupt
        return counted(*given)

    with monkeypatch.context() as patch, RunFolder.open(tmp_path, command={"t": 1}, seed=0) as run:
        patch.setattr(module, "_counted", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            passkey_grid(model, byte_task, PLAN, decode_bytes, run=run)
    with RunFolder.open(tmp_path, command={"t": 1}, seed=0) as run:
        again = passkey_grid(model, byte_task, PLAN, decode_bytes, run=run, tick=ticks.append)
    assert again == whole
    assert knows_some == [(195, 0.0), (195, 1.0), (255, 0.0), (255, 0.0), (255, 1.0)]
    assert ticks == [195 * 4, 195 * 4, 255 * 4, 255 * 4]


def test_a_real_model_fills_a_grid(byte_task):
    model = tiny_model("mamba", vocab_size=264)
    plan = PasskeyPlan(lengths=(170,), depths=(0.5,), examples=3)
    (cell,) = passkey_grid(model, byte_task, plan, decode_bytes).cells
    assert (cell.solved, cell.examples, cell.ci_low) == (0, 3, 0.0)  # a random model knows no key


def test_a_length_is_solved_if_it_is_at_every_depth():
    def cell(length, depth, solved):
        return PasskeyCell("m", length, depth, length - 105, length - 5, depth, solved, 100, 0.0, 1.0)

    cells = [cell(256, 0, 95), cell(256, 1, 100), cell(512, 0, 94), cell(512, 1, 100)]
    assert PasskeyGrid(tuple(cells)).solved_lengths() == [256]


def test_lengths_without_room_are_refused_before_any_work(byte_task, knows_some):
    with pytest.raises(RefusedInputError, match=r"length of 100 tokens .* give at least 169"):
        passkey_grid(tiny_model("mamba2"), byte_task, PasskeyPlan(lengths=(200, 100)), decode_bytes)
    assert not knows_some
    PasskeyPlan(lengths=(169,)).context_tokens(byte_task, 169)
    with pytest.raises(RefusedInputError, match="length of 168 tokens"):
        PasskeyPlan(lengths=(168,)).context_tokens(byte_task, 168)
