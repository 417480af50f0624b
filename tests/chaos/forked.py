"""Commands in forked children: a whole process to kill, without the seconds that a new one takes to start."""

import os
import signal
import sys
import time
import traceback
from contextlib import suppress

import torch

from mambascope.figures.cli import main

USABLE = hasattr(os, "fork") and not torch.cuda.is_available()
"""A CUDA context does not survive a fork."""


MET_THE_HARNESS = 99
"""Exit code of a child whose signal came outside of the command, where the command could not answer it."""


class _EarlyError(BaseException):
    """SIGTERM before the command listens to it, which would end a process without a word."""


def _early(*_):
    raise _EarlyError


def start(words, told):
    """Run a command in a child whose stderr goes into a file; return the child's number."""
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(FileNotFoundError):
        os.unlink(told)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return child
    code = 70
    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - ends with the process
        sys.stderr = open(told, "w", buffering=1)  # noqa: SIM115
        signal.signal(signal.SIGTERM, _early)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        code = main([str(word) for word in words])
        sys.stderr.flush()
    except _EarlyError:
        code = MET_THE_HARNESS
    except KeyboardInterrupt as stop:
        files = {frame.filename for frame in traceback.extract_tb(stop.__traceback__)}
        code = 70 if files - {__file__} else MET_THE_HARNESS
        print("Traceback: KeyboardInterrupt" if code == 70 else "", file=sys.stderr)
    except BaseException as error:  # what escapes from a command is for the parent to see
        print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def signalled(words, told, how, ready, delay_s):
    """Start a command, send it a signal once ``ready()`` and a little time have passed, and return its exit code.

    A child that the signal ended has the negative of the signal's number; one that was done before has its own code;
    one that met the signal outside of the command is started again.
    """
    code = MET_THE_HARNESS
    while code == MET_THE_HARNESS:
        code = _signalled(words, told, how, ready, delay_s)
    return code


def _signalled(words, told, how, ready, delay_s):
    child = start(words, told)
    deadline = time.monotonic() + 120
    ended = 0
    while not ended and not (os.path.exists(told) and ready()) and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not ended:
        time.sleep(delay_s)
        os.kill(child, how)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
