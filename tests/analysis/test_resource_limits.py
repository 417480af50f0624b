"""Test ``mambascope.analysis.resource_limits`` on made-up /proc and cgroup trees."""

import pytest
import torch

from mambascope.analysis.resource_limits import held_bytes, host_limit, limit_of


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def machine(tmp_path, cgroup="0::/\n", groups=None, free_kb=8_000_000):
    tree(tmp_path / "proc", {"meminfo": f"MemTotal: 9 kB\nMemAvailable: {free_kb} kB\n", "self/cgroup": cgroup})
    tree(tmp_path / "cgroup", groups or {})
    return tmp_path / "proc", tmp_path / "cgroup"


def test_without_groups_it_is_what_the_machine_has_free(tmp_path):
    found = host_limit(*machine(tmp_path))
    assert found.room_bytes == 8_192_000_000
    assert found.origin == "free on this machine"


def test_a_group_counts_its_pages_of_files_as_free(tmp_path):
    files = {"memory.max": "3000000000\n", "memory.current": "1000000000\n", "memory.stat": "anon 1\nfile 400000000\n"}
    found = host_limit(*machine(tmp_path, groups=files))
    assert found.room_bytes == 2_400_000_000
    assert "control group" in found.origin


def test_the_tightest_of_nested_groups_counts(tmp_path):
    def group(most):
        return {"memory.max": most, "memory.current": "100", "memory.stat": "file 0\n"}

    files = {f"outer/{name}": text for name, text in group("5000").items()}
    files |= {f"outer/inner/{name}": text for name, text in group("max\n").items()}
    assert host_limit(*machine(tmp_path, "0::/outer/inner\n", files)).room_bytes == 4900


def test_version_1_without_a_limit_leaves_the_machines(tmp_path):
    line = "3:cpu:/a\n4:memory:/a\n"
    files = {
        "memory/a/memory.limit_in_bytes": "9223372036854771712",
        "memory/a/memory.usage_in_bytes": "5",
        "memory/a/memory.stat": "total_cache 0\n",
    }
    assert host_limit(*machine(tmp_path, line, files)).room_bytes == 8_192_000_000
    (tmp_path / "cgroup/memory/a/memory.limit_in_bytes").write_text("1005")
    assert host_limit(tmp_path / "proc", tmp_path / "cgroup").room_bytes == 1000


def test_where_nothing_is_told_there_is_no_limit(tmp_path):
    assert host_limit(tmp_path, tmp_path) is None


def test_a_limit_of_the_user_is_for_all_that_the_process_holds():
    held = held_bytes()
    if not held:
        pytest.skip("this system does not tell what a process holds")
    assert limit_of(torch.device("cpu"), 10**12).room_bytes == pytest.approx(10**12 - held, abs=2e7)
    assert limit_of(torch.device("cpu"), 1000).room_bytes == 0
