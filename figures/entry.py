"""Where the ``mambascope`` script begins: next to nothing is imported before an interrupt is told like any other."""

from __future__ import annotations

import sys


def main() -> int:
    """Run one command with the words of this process, and return its exit code."""
    try:
        from .cli import main

        return main()
    except KeyboardInterrupt:  # while the command line itself was imported
        print("mambascope: interrupted", file=sys.stderr)
        return 130
