"""``mambascope completion``: a script that makes a shell complete commands, options and names."""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "fish")


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "completion",
        help="print a script with which the shell completes command lines",
        description="Prints a script for bash, zsh or fish that completes commands, options, bundled models, claims "
        "and the values of options; where a file is wanted the shell's own completion stays. The script starts no "
        "Python. Print it again after an update.",
        epilog="examples: mambascope completion bash > ~/.local/share/bash-completion/completions/mambascope   |   "
        "mambascope completion zsh >> ~/.zshrc   |   "
        "mambascope completion fish > ~/.config/fish/completions/mambascope.fish",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    from ..cli import build_parser
    from ..completion import script

    print(script(args.shell, build_parser()), end="")
