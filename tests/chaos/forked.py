"""Commands in forked children: a whole process to kill, without the seconds that a new one takes to start."""

import os
import sys
import time

import torch

from mambascope.figures.cli import main

USABLE = hasattr(os, "fork") and not torch.cuda.is_available()
"""A CUDA context does not survive a fork."""


def start(words, told):
    """Run a command in a child whose stderr goes into a file; return the child's number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code, inside = 70, False
    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - ends with the process
        sys.stderr = open(told, "w", buffering=1)  # noqa: SIM115
        inside = True
        code = main([str(word) for word in words])
        inside = False
        sys.stderr.flush()
    except KeyboardInterrupt:
        code = 70 if inside else 130  # outside of the program the signal met this harness
        print("Traceback: KeyboardInterrupt" if inside else "", file=sys.stderr)
    except BaseException as error:  # what escapes from a command is for the parent to see
        print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def signalled(words, told, how, ready, delay_s):
    """Start a command, send it a signal once ``ready()`` and a little time have passed, and return its exit code.

    A child that the signal ended has the negative of the signal's number; one that was done before has its own code.
    """
    child = start(words, told)
    deadline = time.monotonic() + 120
    ended = 0
    while not ended and not ready() and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not ended:
        time.sleep(delay_s)
        os.kill(child, how)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
