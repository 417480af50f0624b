"""A comparison made by hand: every number follows from a method's harm."""

from __future__ import annotations

import numpy as np

from mambascope.analysis.compare import Comparison
from mambascope.analysis.compare_best import Best
from mambascope.analysis.compare_keys import Keys, KeyShare
from mambascope.analysis.compare_rows import CompareRow
from mambascope.analysis.methods import Fitted
from mambascope.analysis.methods.constants import GRIDS
from mambascope.analysis.methods.method import Choice
from mambascope.spectra.scales import scaling

LENGTHS = (512, 4096, 32768)
HARM = {"none": 5.0, "fresh-window": 0.0, "constant:a:2": 2.0, "constant:a:3": 1.5, "constant:dt:2": 9.0}
HARM |= {"constant:a:best": 0.1, "heads": 0.05, "spectrum": 0.002, "decimamba": 0.7}
DROPS = "decimamba"
"""Has losses for the last tokens alone."""


def row_of(method, harm, corpus, length, *, broken=False):
    """Bits are 2 + harm, tail bits 2.1 + harm, last bits 2.2 + harm; intervals are 0.001 and 0.002 to either side."""
    last = {"last_bits": 2.2 + harm, "last_harm": harm + 0.01, "last_harm_low": harm, "last_harm_high": harm + 0.02}
    last |= {"last_difference": harm + 0.008, "last_difference_low": harm, "last_difference_high": harm + 0.02}
    tail = {"bits": 2 + harm, "perplexity": 2 ** (2 + harm), "tail_bits": 2.1 + harm}
    tail |= {"harm": harm, "harm_low": harm - 0.001, "harm_high": harm + 0.001}
    tail |= {"difference": harm - 0.002, "difference_low": harm - 0.003, "difference_high": harm - 0.001}
    inside = {"inside": 0.0, "inside_low": -0.001, "inside_high": 0.001}
    p = {"difference_p": 0.01, "last_difference_p": 0.02}
    numbers = tail | last | inside | p
    missing = numbers if broken else {*tail, "difference_p"} if method == DROPS else {}
    return CompareRow(
        corpus=corpus, method=method, length=length, factor=None, documents=8, passages=16, passes=7.0, bakes="yes",
        **(numbers | dict.fromkeys(missing)),
    )  # fmt: skip


def best_of(by, corpus, length):
    ends = (-0.048, -0.06, -0.03, 0.01)
    return Best(corpus, length, by, 8, "spectrum", 2.102, "heads", ends, "spectrum", (None,) * 4)


def cost_of(name, method, k):
    return {
        "model": name, "method": method, "passes": 7.0, "fit_seconds": 10.0 * k or None, "fit_peak_bytes": 10**6 * k,
        "fit_resumed": method == "heads", "tokens_per_second": 1000.0 + k, "bakes": "yes",
    }  # fmt: skip


def made_up(name="made-up", broken=(), keys=None, harms=HARM):
    """Return a comparison with given harms, the same at every length."""
    fitted, rows = [], []
    for method, harm in harms.items():
        choices, by_length = (), ()
        if method.endswith("best"):
            choices = tuple(Choice("a", s, n, 3.0, 2 + abs(np.log2(s) - 4)) for s in GRIDS["a"] for n in LENGTHS)
            by_length = tuple((n, scaling("a", 16.0)) for n in LENGTHS)
        scales = None if method in {"none", "fresh-window", DROPS} else scaling("a", 16.0)
        fitted.append(Fitted(method, scales, "made up", 7.0, "yes", by_length, choices))
        rows += [row_of(method, harm, c, n, broken=method in broken) for c in ("books", "gov") for n in LENGTHS]
    best = [best_of(by, c, n) for c in ("books", "gov") for n in LENGTHS for by in ("tail", "last")]
    costs = tuple(cost_of(name, method, k) for k, method in enumerate(harms))
    return Comparison(
        name, 256, "books", 2048, "spectrum", tuple(fitted), tuple(rows), tuple(best), keys or Keys(), costs
    )


def made_up_keys(harms=HARM, lengths=(512, 2048)):
    """Return shares of 50 keys: 50 less ten times the harm, and half of that four times as far."""
    return Keys(
        tuple(
            KeyShare.of(method, n, max(0, round(50 - 10 * harm)) // (n // 512 or 1), 50)
            for method, harm in harms.items() if method != "fresh-window" for n in lengths
        )
    )  # fmt: skip
