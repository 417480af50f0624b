"""The parser of the command line: one line for each fault, naming what to type instead, and examples in every help."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from mambascope.spectra.hints import nearest

_SEPARATOR = re.compile(r"\s{2,}\|\s{2,}|\n|;\s")
"""Between two examples of an epilog."""

_WORDED = (
    (r"the following arguments are required: (.+)", r"\1 is missing"),
    (r"argument (.+?): expected one argument", r"\1 needs a value"),
    (r"argument (.+?): expected at least one argument", r"\1 needs at least one value"),
    (r"argument (.+?): (.+)", r"\1: \2"),
)
"""argparse's words, and ours."""


def one_line(message: str) -> str:
    r"""Return a message as one line that any terminal can show, its endless words cut in the middle.

    >>> one_line("a\x1b[31m\nb")
    'a [31m b'
    """
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", message).encode("utf-8", "backslashreplace").decode()
    return re.sub(r"\S{240,}", lambda word: f"{word[0][:80]}...{word[0][-80:]}", plain).strip()


def examples(epilog: str) -> list[str]:
    """Return the command lines of an epilog that starts with ``example:`` or ``examples:``; none of any other.

    >>> examples("examples: mambascope verify   |   mambascope models")
    ['mambascope verify', 'mambascope models']
    """
    head, colon, rest = epilog.partition(":")
    if not colon or head not in {"example", "examples"}:
        return []
    return [line.strip() for line in _SEPARATOR.split(rest) if line.strip()]


def whole_number(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number; write digits, as in 8") from None


def number(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 0.5 or 1e-3") from None


def path(text: str) -> Path:
    """Read the name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; give the name of a file or folder")
    return Path(text)


class _Help(argparse.HelpFormatter):
    """Help whose examples stand on lines of their own, ready to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = examples(text)
        if not lines:
            return super()._fill_text(text, width, indent)
        return "\n".join([f"{indent}{text.partition(':')[0]}:", *(f"{indent}  {line}" for line in lines)])


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that says what is wrong in one line, and exits with 2."""

    verbs: Any = None
    """What ``add_subparsers`` gave, on the parser of the whole program."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**({"formatter_class": _Help} | named))
        self._negative_number_matcher = re.compile(r"-\.?\d\S*")  # -1e-3 and -4G are values: no option has a digit
        for kind, read in ((int, whole_number), (float, number), (Path, path)):
            self.register("type", kind, read)

    def error(self, message: str) -> NoReturn:
        """Print the fault and end the program.

        Args:
            message: argparse's words.

        Raises:
            SystemExit: always, with code 2.
        """
        for pattern, words in _WORDED:
            if found := re.fullmatch(pattern, message, re.DOTALL):
                message = found.expand(words)
                break
        print(one_line(f"mambascope: {message} (usage: {self.prog} --help)"), file=sys.stderr)
        raise SystemExit(2)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a whole command line, as ``argparse`` does."""
        words = list(sys.argv[1:] if args is None else args)
        if any("\0" in word for word in words):
            self.error("a word of the command line holds a zero byte, which no name can have; remove it")
        found, rest = self.parse_known_args(words, namespace)
        if rest:
            verb = self.verbs.choices[found.command] if self.verbs else self
            verb.error(f"{' '.join(map(repr, rest[:3]))}: not expected here, remove it or put an option before it")
        return found

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse misspelt options first: they are the cause where argparse would say that something is missing."""
        if self.verbs is None:
            self._refuse_misspelt(list(args or []))
        return super().parse_known_args(args, namespace)

    def options(self) -> Iterator[argparse.Action]:
        """Yield the options, in the order of the help."""
        yield from (action for action in self._actions if action.option_strings)

    def positionals(self) -> Iterator[argparse.Action]:
        """Yield the positional arguments, in their order."""
        yield from (action for action in self._actions if not action.option_strings)

    def _refuse_misspelt(self, words: list[str]) -> None:
        known = [name for action in self.options() for name in action.option_strings]
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if not re.match(r"-[^\d.]", name) or " " in word:
                continue  # a value, a negative number, standard input
            if name.startswith("--"):
                if not any(each.startswith(name) for each in known):
                    self.error(f"{name} is not an option of {self.prog}; {nearest(name, known) or 'see its help'}")
            elif f"-{name}" in known:
                self.error(f"{name} is written with two dashes: -{name}")
            elif name[:2] not in known:
                self.error(f"{name} is not an option of {self.prog}; {nearest(f'-{name}', known) or 'see its help'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = list(map(str, action.choices))
        hint = nearest(str(value), known)
        if action is self.verbs:
            raise argparse.ArgumentError(None, f"{value!r} is not a command; {hint or 'there are ' + ', '.join(known)}")
        expected = f"expected {' or '.join(known)}" if len(known) < 3 else f"expected one of {', '.join(known)}"
        raise argparse.ArgumentError(action, f"{value!r}: {hint + ' ' if hint else ''}{expected}")
