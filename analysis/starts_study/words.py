"""A comparison of starts in sentences, each computed from the numbers; none of them is left out when it is a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curves import PassRatio
from .entries import LayerEntry, best_entry
from .scores import less

if TYPE_CHECKING:
    from .result import StartsStudy

MAY_LOSE_BITS = 0.002
"""A calibration may lose this much on test text against its start. Ours: 0.14 % of perplexity."""
SHOWN_BITS = 5e-5
"""Less than this is 0.0000 in a table, and no difference. Ours."""
STARTS = {
    "spectrum": "layer factors on top of the proposal",
    "projected": "layer factors from the proposal reduced to them",
    "uniform": "layer factors from U(0, 1)",
}
"""Starts of the second part. The first keeps a factor a head in front; the others have one number a layer and kind."""
SHARE_OF_PASSES = 1 / 5
"""Share of the passes in which the spectrum start has to be where the others end. Ours."""


def sentences(study: StartsStudy) -> list[str]:
    """Say what was found.

    Args:
        study: a finished comparison.

    Returns:
        Sentences.
    """
    found = [_reached(ratio) for ratio in study.ratios()]
    for method in study.plan.methods:
        found += [_kept(study, method), *_elsewhere(study, method)]
        found.append(_ends(study, method))
    return [*found, *_layers(study)]


def _reached(ratio: PassRatio) -> str:
    by = "whatever the method" if ratio.method == "any" else f"by {ratio.method}"
    end = (
        f"the best other start ({ratio.other}) ends at {ratio.bits:.4f} selection bits, after {ratio.other_passes:.0f} "
        f"of its {ratio.other_whole:.0f} passes"
    )
    worst, whole = ratio.worst, ratio.worst_of_whole
    if worst is None or whole is None:
        never = sum(p is None for p in ratio.spectrum_passes)
        many = len(ratio.spectrum_passes)
        return f"{by}: {end}; the spectrum start never gets there with {never} of {many} seeds: missed"
    took = ", ".join(f"{p:.0f}" for p in ratio.spectrum_passes if p is not None)
    verdict = "met" if worst <= SHARE_OF_PASSES else "missed"
    return (
        f"{by}: {end}; the spectrum start is there after {took}: with the worst seed {worst:.3f} of the former, "
        f"{whole:.3f} of the latter (at most {SHARE_OF_PASSES:g} of the former wanted: {verdict})"
    )


def _kept(study: StartsStudy, method: str) -> str:
    worst = study.worst_change("spectrum", method)
    assert worst is not None
    change = worst[1]
    within = "met" if change.mean <= MAY_LOSE_BITS else "missed"
    sure = change.high is not None and change.high <= MAY_LOSE_BITS
    return (
        f"{method} from the spectrum start: in its worst seed the result less the start is {change} tail bits on "
        f"{len(study.control.tail)} test documents (at most +{MAY_LOSE_BITS:g} wanted: {within}"
        f"{', for the whole interval' if sure else ''})"
    )


def _elsewhere(study: StartsStudy, method: str) -> list[str]:
    """Say what the first seed's calibration did inside the training length and beyond the target length."""
    run = study.of("starts", label="spectrum", method=method)[0]
    told = [f"inside the training length {less(run.final.inside, run.start.inside)} bits"]
    beyond = less(run.final.far, run.start.far)
    if beyond is not None:
        harm = less(run.start.far, study.control.far)
        told.append(f"at {study.plan.far_length:,} tokens {beyond} tail bits (the start's harm there is {harm})")
    return [f"{method} from the spectrum start, seed {run.task.plan.seed}, result less start: {'; '.join(told)}"]


def _ends(study: StartsStudy, method: str) -> str:
    means = {}
    for label in dict.fromkeys(run.task.label for run in study.of("starts", method=method)):
        runs = study.of("starts", method=method, label=label)
        harms = [less(run.final.tail, study.control.tail) for run in runs]
        means[label] = sum(h.mean for h in harms if h) / len(harms)
    order = sorted(means, key=lambda label: means[label])
    told = ", ".join(f"{label} {means[label]:+.4f}" for label in order)
    return f"harm on test text after {method}, mean over seeds: {told}; {order[0]} ends lowest"


def _layers(study: StartsStudy) -> list[str]:
    entries = study.layers()
    if not entries:
        return []
    best = best_entry(entries)
    assert best is not None
    found = [
        f"of one factor a layer and what needs no calibration, {best.name} has the least harm on test text: "
        f"{_harm(study, best)}; {_next(study, entries, best)}"
    ]
    for method in study.plan.layer_methods:
        of = [e for e in entries if e.method == method]
        for label, words in STARTS.items():
            entry = min((e for e in of if e.label == label), key=lambda e: e.selection_bits or 0.0)
            seed = f", seed {entry.seed} of {entry.seeds}" if entry.seeds > 1 else ""
            found.append(
                f"{method}, {words}: selection text chooses {entry.kind}{seed}; harm on test text {_harm(study, entry)}"
            )
        found += [_against_random(study, of, method, label) for label in ("spectrum", "projected")]
    return found


def _against_random(study: StartsStudy, of: list[LayerEntry], method: str, label: str) -> str:
    """Say for each kind whether a start from the spectrum or the random one wins."""
    told, wins, losses = [], 0, 0
    for kind in study.plan.layer_kinds:
        here = {e.label: e for e in of if e.kind == kind}
        difference = less(here[label].score.tail, here["uniform"].score.tail)
        assert difference is not None
        told.append(f"{kind} {difference}")
        wins += difference.high is not None and difference.high < 0
        losses += difference.low is not None and difference.low > 0
    kinds = len(study.plan.layer_kinds)
    return (
        f"{method}, tail bits of {STARTS[label]} less those of random factors of the same kind: {', '.join(told)}; "
        f"the interval says that it wins in {wins} of {kinds} kinds and loses in {losses}"
    )


def _harm(study: StartsStudy, entry: LayerEntry) -> str:
    return f"{less(entry.score.tail, study.control.tail)} bits"


def _next(study: StartsStudy, entries: list[LayerEntry], best: LayerEntry) -> str:
    """Name what is as good as the best within the interval, and the first that is not."""
    even: list[LayerEntry] = []
    apart: list[LayerEntry] = []
    for entry in entries:
        difference = less(entry.score.tail, best.score.tail)
        assert difference is not None
        sure = difference.low is not None and difference.low > 0 and difference.mean >= SHOWN_BITS
        (apart if sure else even).append(entry)
    others = [e.name for e in even if e is not best]
    told = f"not told apart from it: {'; '.join(others)}" if others else "nothing else comes as low"
    second = best_entry(apart)
    if second is None:
        return told
    return f"{told}. Behind them {second.name}: {less(second.score.tail, best.score.tail)} more by document"
