"""Options of the benchmarks, and the report that is written when they are done."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("benchmarks")
    group.addoption("--bench-out", help="folder for the report. Default: build/bench")
    group.addoption("--bench-peers", help="folder with the peers' packages. Default: build/peers")
    group.addoption("--bench-rounds", type=int, help="runs of every entry. Default: 5, and 3 at 32,768 tokens")
    group.addoption("--bench-lengths", help="lengths in tokens, comma-separated. Default: 2048,8192,32768")
    told = "cpu_seconds on a busy machine; both are stored. Default: seconds"
    group.addoption("--bench-clock", choices=("seconds", "cpu_seconds"), default="seconds", help=told)


@dataclass
class Bench:
    out: Path
    peers: Path
    rounds: int | None
    lengths: tuple[int, ...]
    capture: object

    def tell(self, line):
        """Show a line, whatever pytest captures."""
        with self.capture.global_and_fixture_disabled():
            print(line, flush=True)

    def record(self, name, part):
        """Keep one part of the report on disk."""
        from tests.benchmarks.report import about

        path = self.out / "parts" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"about": about()} | part, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def bench(request):
    from tests.benchmarks.measure import ROOT
    from tests.benchmarks.report import write

    def option(name):
        return request.config.getoption(name, default=None)  # unknown where pytest was not given this folder

    lengths = tuple(map(int, (option("--bench-lengths") or "2048,8192,32768").split(",")))
    made = Bench(
        Path(option("--bench-out") or ROOT / "build" / "bench").resolve(),
        Path(option("--bench-peers") or ROOT / "build" / "peers").resolve(),
        option("--bench-rounds"),
        lengths,
        request.config.pluginmanager.getplugin("capturemanager"),
    )
    yield made
    if any(made.out.glob("parts/*.json")):
        made.tell("\n" + write(made.out, option("--bench-clock") or "seconds") + f"\nwritten to {made.out}")
