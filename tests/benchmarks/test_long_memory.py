"""A million tokens through the state norms: the memory's growth beside that of 65,536 tokens."""

import sys

import pytest

from tests.benchmarks.speeds import LONG, long_memory

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_million_tokens(bench, arch):
    growth = long_memory(arch, bench.peers, bench.tell)
    bench.record(f"long-{arch}", {"growth": growth})
    assert all(len(growth[length]["growth_mb"]) == count for length, count in LONG.items())
