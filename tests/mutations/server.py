"""Run pytest in children of a process that has loaded what takes long to load, and nothing of the project.

Jobs come on stdin, one JSON object a line; to each there is an answer on stdout, the child's exit code, or null for one
that was stopped at its limit. Starting Python, torch and numba anew would take longer than most tests.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress

FOREIGN = 71
"""Exit code of a child that has loaded the project from another place than the copy."""

LOADED = ("mpmath", "msgspec", "numba", "numba.extending", "safetensors", "scipy.integrate", "scipy.stats", "torch")
"""What most tests need and takes long to load."""


def run(arguments: list[str], folder: str, installed: str, cache: str, limit_s: float) -> int | None:
    """Run pytest in a child.

    Args:
        arguments: of pytest.
        folder: where it runs.
        installed: where the project must come from.
        cache: folder for numba's compiled code.
        limit_s: after how long the child and its own children are stopped.

    Returns:
        The exit code, below 0 for a signal; None at the limit.
    """
    child = os.fork()
    if not child:
        _be_child(arguments, folder, installed, cache)
    try:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        if child:
            for kill in (os.killpg, os.kill):  # a child that has just begun leads no group yet
                with suppress(ProcessLookupError):
                    kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _be_child(arguments: list[str], folder: str, installed: str, cache: str) -> None:
    code = 70
    try:
        os.setpgid(0, 0)  # a session of its own would get a share of the processor as if nobody had been nice
        import numba
        import pytest

        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = cache
        os.chdir(folder)
        code = int(pytest.main(arguments))
        loaded = [module for name, module in sys.modules.items() if name.startswith("mambascope.")]
        if not all((getattr(module, "__file__", None) or installed).startswith(installed) for module in loaded):
            code = FOREIGN
    finally:
        os._exit(code)


def main() -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    jobs = os.fdopen(os.dup(0))
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    import pytest

    pytest.main(["--version"])  # loads the plugins, with their assertions rewritten
    for name in LOADED:
        __import__(name)
    for line in jobs:
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
