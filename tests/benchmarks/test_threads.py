"""What a second thread gains us, beside what it gains the machine's own matrix product."""

import os
import sys

import pytest

from tests.benchmarks.speeds import two_threads

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a second core")
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_second_thread(bench, arch):
    seconds = two_threads(arch, bench.peers, bench.rounds or 21)
    bench.record(f"threads-{arch}", {"seconds": seconds})
    assert all(len(times[1]) == len(times[2]) > 0 for times in seconds.values())
