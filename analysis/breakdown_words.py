"""A breakdown in words: which layers and heads break, why, and what theory predicts for the target length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .breakdown import FAR_OUT, OUT_OF_RANGE, Breakdown
from .proposal import growth_to_act

Floats = npt.NDArray[np.float64]

WORST_HEADS = 5
"""Heads that are named."""
FASTER_THAN_PREDICTED = 1.25
"""Growth beyond this times the prediction is more than the forms are wrong by on inputs that stay what they are. Ours:
in the first layers of the bundled models, whose inputs cannot change, the two agree to 5 %."""


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _plural(layers: list[int]) -> str:
    return ("layer " if len(layers) == 1 else "layers ") + ", ".join(map(str, layers))


def words(found: Breakdown, argument: str | None = None) -> list[str]:
    """Return the sentences, the verdict first.

    Args:
        found: a breakdown.
        argument: how the model is given on a command line. Default: its name.

    Returns:
        One sentence or two a line.
    """
    measured, _ = found.layer_growth()
    lines = [_verdict(found, measured)]
    lines.append(_why(found))
    lines.append(_prediction(found))
    if changed := _changed(found):
        lines.append(changed)
    lines.append(_next(found, measured, argument or found.name))
    return lines


def _enough(found: Breakdown) -> float:
    return growth_to_act(found.train_length, found.target_length)


def _verdict(found: Breakdown, measured: Floats) -> str:
    worst, broken = int(measured.argmax()), np.flatnonzero(measured >= _enough(found)).tolist()
    where = f"{found.target_length:,} tokens ({found.target_length / found.train_length:g} times training)"
    if not broken:
        return (
            f"Stays in range: at {where} no layer's state has grown by {_enough(found):.3g} times; the most is "
            f"{measured[worst]:.2f} times, in layer {worst}."
        )
    first = min(n for n in found.outgrown_at(_enough(found)) if n is not None)
    all_of_them = "every layer" if len(broken) == len(measured) else _plural(broken)
    return (
        f"Breaks: at {where} the state of {all_of_them} has outgrown what training showed, most in layer {worst} "
        f"({measured[worst]:.1f} times). The first to grow by {_enough(found):.3g} times did so within {first:,}."
    )


def _why(found: Breakdown) -> str:
    long = found.horizon_tokens > found.train_length
    modes = "head" if found.unit == "head" else "state"
    if not long.any():
        return (
            f"Why: none of its {_count(long.size, modes)} remembers more than the {found.train_length:,} tokens of "
            f"training; the longest horizon is {found.horizon_tokens.max():,.0f} tokens, so all were filled at T."
        )
    kappa = float(np.median(found.kappa[long]))
    alike = kappa * found.train_length / (1 + kappa * found.train_length)
    return (
        f"Why: {int(long.sum()):,} of {_count(long.size, modes)} remember more than the {found.train_length:,} tokens "
        f"of training (median {np.median(found.horizon_tokens[long]):,.0f} tokens) and are still filling at T. After T "
        f"tokens {alike:.0%} of what such a {modes} holds comes from writes that are alike and add up like a constant "
        f"(coherence kappa {kappa:.2g}), the rest adds up like noise."
    )


def _prediction(found: Breakdown) -> str:
    growth, (measured, expected) = found.predicted_growth(), found.layer_growth()
    out, far = growth > OUT_OF_RANGE, growth > FAR_OUT
    units = _count(growth.size, found.unit)
    told = (
        f"Theory, from windows of {found.train_length:,} tokens alone: "
        f"{int(out.sum()):,} of {units} out of range at {found.target_length:,} (norm {OUT_OF_RANGE - 1:.0%} above "
        f"that at T or more), {int(far.sum()):,} of them by {FAR_OUT:g} times or more"
    )
    if out.any():
        order = np.argsort(growth, axis=None)[::-1][: min(WORST_HEADS, int(out.sum()))]
        named = [np.unravel_index(k, growth.shape) for k in order]
        told += "; most: " + ", ".join(f"layer {i} {found.unit} {h} ({growth[i, h]:.1f} times)" for i, h in named)
    by_layer = ", ".join(f"{e:.1f} and {m:.1f}" for e, m in zip(expected, measured, strict=True))
    return f"{told}. Growth of the layers, predicted and measured: {by_layer}."


def _changed(found: Breakdown) -> str:
    over = found.beyond_the_bound()
    measured, expected = found.layer_growth()
    told = ""
    if over:
        each = ", ".join(f"layer {layer} {times:.1f} times from {n:,} to {2 * n:,}" for layer, n, times in over)
        told = (
            f"Inputs that change: {each}. No stationary input can more than double a state while the text doubles, so "
            "scaling these layers alone does not mend them. "
        )
    sure = {layer for layer, _, _ in over}
    faster = [i for i in range(len(measured)) if measured[i] > FASTER_THAN_PREDICTED * expected[i] and i not in sure]
    if faster:
        also = "also " if over else ""
        told += f"The inputs of {_plural(faster)} have probably {also}changed: growth is beyond the prediction. "
    calm = [i for i in range(min(sure | set(faster), default=0)) if measured[i] >= _enough(found)]
    if calm:
        told += f"Before them, {_plural(calm)} left the range as theory says, from its own horizons."
    return told.strip()


def _next(found: Breakdown, measured: Floats, argument: str) -> str:
    if measured.max() < _enough(found):
        return "Next: nothing needs to be scaled."
    return f"Next: mambascope propose {argument} --target-length {found.target_length}"
