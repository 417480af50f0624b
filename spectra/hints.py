"""The known name that is most like a misspelt one, for the messages of errors."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a question that names the known word that is most like a misspelt one; capitals do not matter.

    Args:
        word: what the user wrote.
        known: what there is.
        cutoff: least similarity, of 1. Default: difflib's own.

    Returns:
        ``did you mean X?``, or nothing where nothing is like it.

    >>> nearest("Evalute", ["evaluate", "verify"])
    'did you mean evaluate?'
    """
    import difflib  # no help waits for it

    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), lower, 1, cutoff)
    return f"did you mean {lower[found[0]]}?" if found else ""
