"""Processes that wait their turn, and runs that take turns: ours, a peer, ours, the next peer, ...

Every contestant has a process of its own, so that the peak of one's memory is not another's; only one works at a time.
A run of anything else follows a run of our forward, and ratios are taken within such a pair: a machine that slows down
for a minute slows both.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.benchmarks.peers import AbsentError

ROOT = Path(__file__).parents[2]
LONGEST_S = 40.0
"""A peer runs once more only if its runs, that one included, are likely to stay within this time."""
PASSES = ("forward", "observed", "norms", "gradient")
"""Tasks whose memory is of interest."""
ROOM = 0.7
"""Share of the free memory that a peer may be expected to grow by."""


@dataclass
class Entry:
    """All runs of one task by one contestant at one length."""

    contestant: str
    task: str
    length: int
    version: str = ""
    absent: str = ""
    """Why there are no runs, empty if there are."""
    amount: float = 0.0
    unit: str = ""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    """Seconds of our forward right before each run."""
    forward_cpu: list[float] = field(default_factory=list)
    growth_mb: float | None = None
    """Peak of a fresh process's first run over its loaded model, all that is loaded on the way included."""
    growth_warm_mb: float | None = None
    """The same over the process after a first short run."""
    first_call_s: float | None = None

    def add(self, answer, before=None):
        self.amount, self.unit = answer["amount"], answer["unit"]
        self.seconds.append(answer["seconds"])
        self.cpu_seconds.append(answer["cpu_seconds"])
        if before is not None:
            self.forward.append(before["seconds"])
            self.forward_cpu.append(before["cpu_seconds"])
        if self.growth_mb is None and self.task in PASSES:
            self.grew(answer)

    def grew(self, answer):
        self.growth_mb, self.growth_warm_mb = answer["growth_mb"], answer["growth_warm_mb"]
        self.first_call_s = answer["first_call_s"]

    def to_dict(self):
        return asdict(self)


class Worker:
    """One contestant's process."""

    def __init__(self, contestant, arch, length, peers, threads=1, environment=None):
        one = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
        asked = {"contestant": contestant, "arch": arch, "length": length, "threads": threads, "peers": str(peers)}
        self.told = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.worker", json.dumps(asked)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.told, text=True, cwd=ROOT,
            env=os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"} | one | (environment or {}),
        )  # fmt: skip
        self.runs = 0
        self.version = self._answer().get("version", "")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def run(self, task):
        """Run a task once and return the worker's answer."""
        self.runs += 1
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.told.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.told.seek(0)
            told = self.told.read()[-2000:]
            self.close()
            if code == -9:  # what the kernel does when memory runs out
                raise AbsentError("its process was killed, most likely for want of memory")
            raise RuntimeError(f"a worker ended with code {code}: {told}")
        answer = json.loads(line)
        if "absent" in answer or "error" in answer:
            self.close()
            raise AbsentError(answer.get("absent") or answer["error"])
        return answer


def free_mb():
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def take_turns(arch, length, wanted, rounds, peers, expected_mb, tell):
    """Measure one length.

    Args:
        arch: ``mamba`` or ``mamba2``.
        length: tokens.
        wanted: (contestant, task) pairs; ours come first.
        rounds: runs of each, fewer where they are slow.
        peers: folder with the packages of the peers.
        expected_mb: growth that a (contestant, task) is expected to have; for an unknown one nothing is feared.
        tell: function that shows a line of progress.

    Returns:
        Our forward, and an entry for each of the others.
    """
    forward = Entry("ours", "forward", length)
    entries = [Entry(contestant, task, length) for contestant, task in wanted]
    workers = {}
    try:
        workers["ours"] = Worker("ours", arch, length, peers)
        forward.grew(workers["ours"].run("forward"))
        for turn in range(rounds):
            for entry in entries:
                if entry.absent or not _worth_another(entry, turn):
                    continue
                need = expected_mb.get((entry.contestant, entry.task), 0.0)
                if entry.contestant != "ours" and need > ROOM * free_mb():
                    entry.absent = f"would need about {need / 1024:.1f} GB, {free_mb() / 1024:.1f} GB are free"
                    continue
                try:
                    _one_turn(workers, forward, entry, arch, peers)
                except AbsentError as why:
                    entry.absent = str(why)
                    workers.pop(entry.contestant, None)
                    tell(f"{arch} {length:,} {entry.contestant} {entry.task}: {why}")
                    continue
                tell(f"{arch} {length:,} {entry.contestant} {entry.task}: {entry.seconds[-1]:.2f} s")
                if entry.contestant != "ours" and not _worth_another(entry, turn + 1):
                    workers.pop(entry.contestant).close()  # what it holds of its memory is for the others
    finally:
        for worker in workers.values():
            worker.close()
    return [forward, *entries]


def _one_turn(workers, forward, entry, arch, peers):
    if entry.contestant not in workers:
        workers[entry.contestant] = Worker(entry.contestant, arch, entry.length, peers)
    worker = workers[entry.contestant]
    entry.version = worker.version
    if entry.growth_mb is None and entry.task in PASSES and worker.runs:
        growth_of_first_run(entry, arch, peers)
    before = workers["ours"].run("forward")
    forward.add(before)
    entry.add(worker.run(entry.task), before)


def growth_of_first_run(entry, arch, peers):
    """Run the task once in a fresh process, for the memory and the first call alone."""
    with Worker(entry.contestant, arch, entry.length, peers) as worker:
        entry.grew(worker.run(entry.task))


def _worth_another(entry, turn):
    if not entry.seconds:
        return turn == 0
    return entry.contestant == "ours" or sum(entry.seconds) + max(entry.seconds) <= LONGEST_S
