"""The ``mambascope`` command: one program with verbs; results on stdout, everything for people on stderr.

Exit codes: 0 done, 2 usage, 3 refused input, 4 numerical failure, 5 out of memory, disk or time, 75 folder busy,
130 interrupted, 143 terminated (the same command resumes).
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from mambascope.spectra.errors import MambascopeError, is_lack_of_memory

from .parser import Parser, one_line

COMMANDS = (
    "report",
    "verify",
    "simulate",
    "spectrum",
    "norms",
    "evaluate",
    "compare",
    "sweep",
    "diagnose",
    "forecast",
    "propose",
    "calibrate",
    "starts",
    "bake",
    "figures",
    "train",
    "models",
    "doctor",
    "cite",
    "completion",
)

_LESS = "take shorter lengths, fewer documents at once (--batch 1) or fewer --trials"

_CURES = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "links point at each other; give the file itself",
    errno.ENOTDIR: "a part of this path is a file; check it",
    errno.EISDIR: "give a file, not a folder",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
}
"""What to do about a path that the system refuses, wherever it is met."""


class _Version(argparse.Action):
    """``--version``: looked up when asked for, as that takes longer than all the rest of a help."""

    def __call__(self, *_: Any) -> None:
        from importlib import metadata

        print(f"mambascope {metadata.version('mambascope')}")
        raise SystemExit(0)


def build_parser() -> Parser:
    """Return the parser of all commands; imports neither torch nor matplotlib."""
    parser = Parser(
        prog="mambascope",
        description="Spectrum, hidden-state norms and length scaling of Mamba models: why they break on long inputs, "
        "and scales that mend it. `mambascope report` needs nothing else and writes report.html from bundled models; "
        "each command's own --help has examples to copy.",
        epilog="examples: mambascope report   |   mambascope diagnose mamba2-tiny --target-length 16k   |   "
        "mambascope propose mamba2-tiny --target-length 16k -o out",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    parser.verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f".commands.{name}", __package__).add(parser.verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after ``mambascope``. Default: those of this process.

    Returns:
        The exit code.
    """
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before a command began or after it ended: there is nothing to wind up
        return _fail("interrupted", 130)


def _main(arguments: Sequence[str] | None) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - closed with the process
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a derivation has letters that not every terminal knows
    try:
        args = build_parser().parse_args(arguments)
    except MambascopeError as error:
        return _fail(str(error), error.exit_code)
    # threads that spin while they wait cost a busy machine five times the time; read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from mambascope.analysis.atomic import ignore_file_size_signal
    from mambascope.analysis.interrupts import remembered

    from .console import show_log

    ignore_file_size_signal()
    show_log()
    with remembered():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Run a command and return its exit code.

    Args:
        args: what was asked for.

    Returns:
        The exit code.

    Raises:
        RuntimeError: a fault of ours, shown in full.
    """
    from mambascope.analysis.interrupts import TerminatedError, not_lost

    try:
        with not_lost():
            args.run(args)
            sys.stdout.flush()
    except MambascopeError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        again = "; the same command goes on from here" if getattr(args, "output", None) else ""
        return _fail(f"interrupted{again}", 143 if isinstance(stop, TerminatedError) else 130)
    except MemoryError:
        return _fail(f"out of memory; {_LESS}", 5)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _about_a_file(error)
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        return _fail(f"out of memory: {error}; {_LESS}", 5)
    return 0


def _about_a_file(error: OSError) -> int:
    """Say what the system refused; a fault of ours goes on as it is."""
    if error.errno in _CURES and error.filename is not None:
        return _fail(f"{os.fsdecode(error.filename)}: {error.strerror}; {_CURES[error.errno]}", 3)
    if error.errno not in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
    return _fail(f"the output could not be written: {error.strerror}", 5)


def _fail(message: str, code: int) -> int:
    print(one_line(f"mambascope: {message}"), file=sys.stderr)
    return code
