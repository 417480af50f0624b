"""Float32 states and losses of the bundled models against a float64 loop that shares no code with our model."""

import pytest

from tests.benchmarks.accuracy import MODELS, accuracy

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
GROSS = 1e-3  # another model, not another rounding: the bars are told in the report


def test_accuracy_at_4096_tokens(bench):
    found = {}
    for name in MODELS:
        found[name] = accuracy(name)
        bench.tell(f"{name}: {found[name]}")
    bench.record("accuracy", {"models": found})
    for result in found.values():
        for key in ("to_loop", "among"):
            assert all(value <= GROSS for each in result[key].values() for value in each.values()), result
