"""Kill a command again and again, resume it, and hold what it leaves against an uninterrupted run."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.chaos.small_runs import hashes

CODE = "from mambascope.figures.cli import main; raise SystemExit(main())"


def journal_of(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().splitlines(keepends=True)[:-1] if path.exists() else []  # the last one may be torn


@pytest.fixture
def kill_and_resume(tmp_path):
    def check(words, kills, *, files, whole_words=None, in_order=True):
        """Kill ``mambascope words -o DIR`` so many times; in the end every file must equal an uninterrupted run's.

        ``in_order`` is False where cells are journaled as workers finish them: the lines are then the same as a set.
        """

        def command(output, chosen):
            return [sys.executable, "-c", CODE, *map(str, chosen), "-o", str(tmp_path / output)]

        environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
        quiet = {"env": environment, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        start = time.monotonic()
        subprocess.run(command("whole", whole_words or words), check=True, **quiet)
        takes = time.monotonic() - start
        rng, killed, cells = random.Random(0), 0, []
        complete = len(journal_of(tmp_path / "whole"))
        for k in range(kills):
            # every other kill comes once some more cells are finished, the rest at any time
            wanted = len(cells[-1]) + 1 + rng.randrange(3) if k % 2 and cells else 1 if k == 0 else complete + 1
            latest = time.monotonic() + takes * (0.3 + 0.65 * rng.random()) + (60 if wanted <= complete else 0)
            process = subprocess.Popen(command("killed", words), start_new_session=True, **quiet)
            while process.poll() is None and time.monotonic() < latest:
                if len(journal_of(tmp_path / "killed")) >= wanted:
                    break
                time.sleep(0.001)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            cells.append(journal_of(tmp_path / "killed"))
        assert killed >= kills // 2
        assert all(b[: len(a)] == a for a, b in itertools.pairwise(cells))  # nothing that was finished is done again
        assert 0 < len(cells[0]) < complete
        environment["PYTHONHASHSEED"] = "2"
        subprocess.run(command("killed", words), check=True, **quiet)
        found, expected = hashes(tmp_path / "killed"), hashes(tmp_path / "whole")
        if not in_order:
            lines = [sorted((tmp_path / f / "journal.jsonl").read_bytes().splitlines()) for f in ("killed", "whole")]
            assert lines[0] == lines[1]
            found["journal.jsonl"] = expected["journal.jsonl"]
        assert len(expected) >= files
        assert found == expected  # the journal among them
        print(f"{words[0]}: {killed} kills, 0 lost")

    return check
