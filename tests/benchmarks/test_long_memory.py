"""A million tokens through the state norms: the memory's growth beside that of 65,536 tokens."""

import sys

import pytest

from tests.benchmarks.speeds import LONG_PROCESSES, long_memory

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_million_tokens(bench, arch):
    growth = long_memory(arch, bench.peers, bench.tell)
    bench.record(f"long-{arch}", {"growth": growth})
    assert len(growth["growth_mb"]) == LONG_PROCESSES
    assert all(0 < early <= late for early, late in zip(growth["peak_on_the_way_mb"], growth["growth_mb"], strict=True))
