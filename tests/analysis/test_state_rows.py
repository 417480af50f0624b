"""Test ``mambascope.analysis.state_rows``: rows that are cut and joined go on as they would have alone."""

import pytest
import torch

from mambascope.analysis.state_rows import join_rows, take_rows
from tests.spectra.tiny import tiny_model


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_cut_and_joined_rows_go_on_as_alone(arch):
    model = tiny_model(arch)
    ids = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(0))
    states = [next(model.stream(ids[k : k + 1, : 6 + k])).state for k in range(3)]
    together = join_rows(states, position=6)
    assert (together.position, join_rows(states).position) == (6, 0)
    kept = take_rows(together, [2, 0], position=together.position)
    assert (kept.position, take_rows(together, slice(1)).position) == (6, 0)
    after = next(model.stream(ids[[2, 0], 10:], state=kept))
    for place, row in enumerate((2, 0)):
        expected = next(model.stream(ids[row : row + 1, 10:], state=states[row]))
        torch.testing.assert_close(after.hidden[place], expected.hidden[0], rtol=1e-5, atol=1e-5)
    other = next(model.stream(ids[:1, 10:], state=states[1]))
    assert not torch.allclose(after.hidden[1], other.hidden[0], rtol=1e-2)
