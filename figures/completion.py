"""Scripts that make bash, zsh and fish complete ``mambascope``, made from the parsers; they start no Python."""

from __future__ import annotations

import argparse
import shlex

from mambascope.simulate.claims import KEYS
from mambascope.spectra.zoo import FOLDER

from .parser import Parser

WORDS: dict[str, tuple[str, ...]] = {
    "model": tuple(sorted(path.parent.name for path in FOLDER.glob("*/config.json"))),
    "recipe": tuple(sorted(path.parent.name for path in FOLDER.glob("*/recipe.json"))),
    "claims": KEYS,
    "device": ("auto", "cpu", "cuda"),
    "engine": ("sequential", "loky", "dask", "ray"),
    "goal": ("perplexity", "balanced", "retrieval"),
    "granularity": ("model", "layer", "head", "state"),
    "kind": ("a", "a_power", "dt", "joint"),
    "method": ("spsa", "spsa-paper", "spsa-released", "backprop"),
    "start": ("spectrum", "projected", "ones", "random"),
    "corpora": ("books", "gov"),
}
"""Words for arguments that take others, too, by their name in the parsers; a test holds them against the real lists."""


def words_of(action: argparse.Action) -> tuple[str, ...]:
    """Return the words that an argument may be, as far as they can be listed."""
    return tuple(map(str, action.choices)) if action.choices else WORDS.get(action.dest, ())


def script(shell: str, parser: Parser) -> str:
    """Return the script for one shell.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        parser: that of the whole program.

    Returns:
        Its text.
    """
    verbs: dict[str, Parser] = parser.verbs.choices
    if shell == "fish":
        return _fish(verbs, {each.dest: each.help or "" for each in parser.verbs._choices_actions})
    head = "" if shell == "bash" else "#compdef mambascope\nautoload -U +X bashcompinit && bashcompinit\n"
    return head + _bash(verbs)


def _bash(verbs: dict[str, Parser]) -> str:
    after, anywhere = [], []
    for verb, parser in verbs.items():
        options = [name for action in parser.options() for name in action.option_strings]
        for action in parser.options():
            if action.nargs != 0:
                patterns = "|".join(f'"{verb} {name}"' for name in action.option_strings)
                after.append(f"      {patterns}) words={shlex.quote(' '.join(words_of(action)))} ;;")
        words = [word for action in parser.positionals() for word in words_of(action)]
        anywhere.append(f"      {verb}:-*) words={shlex.quote(' '.join(options))} ;;")
        anywhere.append(f"      {verb}:*) words={shlex.quote(' '.join(words))} ;;")
    return "\n".join([
        "_mambascope() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '  local verb="${COMP_WORDS[1]}" words=""',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f"    words={shlex.quote(' '.join([*verbs, '--help', '--version']))}",
        "  else",
        '    case "$verb $before" in',
        *after,
        '      *) case "$verb:$word" in',
        *anywhere,
        "      esac ;;",
        "    esac",
        "  fi",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o default -F _mambascope mambascope",
        "",
    ])


def _fish(verbs: dict[str, Parser], about: dict[str, str]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = []
    for verb, parser in verbs.items():
        lines.append(f"complete -c mambascope -f -n __fish_use_subcommand -a {verb} -d {quoted(about[verb])}")
        here = f"complete -c mambascope -n '__fish_seen_subcommand_from {verb}'"
        for action in parser.options():
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in action.option_strings)
            words = " ".join(words_of(action))
            value = "" if action.nargs == 0 else f" -x -a {quoted(words)}" if words else " -r"
            lines.append(f"{here} {names}{value} -d {quoted((action.help or '').partition('. Default')[0])}")
        words = " ".join(word for action in parser.positionals() for word in words_of(action))
        if words:
            lines.append(f"{here} -a {quoted(words)}")
    return "\n".join([*lines, ""])
