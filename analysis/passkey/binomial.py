"""Exact intervals of a share: the chances of success that a count does not rule out, for any true share.

Source: Clopper and Pearson 1934. The ends are quantiles of beta distributions.
"""

from __future__ import annotations


def exact_interval(solved: int, examples: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval.

    Args:
        solved: successes.
        examples: trials.
        level: coverage, at least.

    Returns:
        Its two ends.

    Raises:
        ValueError: not 0 <= solved <= examples, or no examples.
    """
    from scipy.stats import beta

    if not 0 <= solved <= examples or examples < 1:
        raise ValueError(f"{solved} of {examples}: expected a count of 0 to {examples}, of 1 or more")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, solved, examples - solved + 1)) if solved else 0.0
    high = float(beta.ppf(1 - tail, solved + 1, examples - solved)) if solved < examples else 1.0
    return low, high
