"""The report's part on theory: verdicts on the paper's claims, simulation beside it, and the heads of real models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mambascope.analysis.heads import Heads
from mambascope.analysis.scaled_heads import WITHIN
from mambascope.analysis.theory import Theory
from mambascope.simulate.claims import Claim
from mambascope.simulate.verdict import Comparison, Verdict

from .gallery import Drawing
from .head_norms import head_norms_figure
from .markup import Cell, Number, commands, escape, facts, figure, folded, paragraph, table

ANCHOR = "theory"
REASONS = (
    "Norm near L with the factor, as a part of that at T (1 is right); the same of windows started fresh near L, "
    "without a factor: where these differ from 1 alike, the text there is another one; error: standard error of the "
    "first"
)
NEAR_ONE = "Where a plain simulation misleads: decays close to 1"


def theory_section(theory: Theory, drawn: Mapping[str, Drawing], heads: Sequence[Heads]) -> str:
    """Return the section.

    Args:
        theory: verdicts, growth and the regime near 1.
        drawn: its drawings by key, with ``heads`` where there are any.
        heads: what theory says of each model's heads.

    Returns:
        HTML.
    """
    found = theory.verification
    words = [verdict.printed for verdict in found.verdicts]
    settled = "Every claim was settled." if not found.undecided() else f"Not settled: {'; '.join(found.undecided())}."
    lead = (
        f"Of {len(words)} claims about the norm of a state, as printed {words.count('holds')} hold, "
        f"{words.count('holds in part')} hold in part and {words.count('fails')} fail; each was derived symbolically, "
        f"simulated, and tested with an assumption violated. {settled} The chance that a true form was rejected "
        f"anywhere is at most {found.family_error:.0e}; the power to tell a claim from its rival is at least "
        f"{rounded_down(found.weakest_power)}. What is wrong with each, in words, is told at the top "
        "of this page."
    )
    parts = [
        f'<section id="{ANCHOR}"><h2>What theory says, and what is true of it</h2>',
        paragraph(lead),
        _verdicts(found.claims, found.verdicts),
        *(figure(drawn[key]) for key in ("claims",) if key in drawn),
        folded(
            "Each claim: as printed, what is true, evidence and proof",
            "".join(map(_details, found.claims, found.verdicts)),
        ),
        *(figure(drawn[key]) for key in ("growth",) if key in drawn),
        *(folded(NEAR_ONE, figure(drawn[key])) for key in ("near-one",) if key in drawn),
        _heads(drawn, heads),
        "<h3>Look closer</h3>",
        commands(["mambascope verify --explain theorem-4.2", "mambascope verify", "mambascope simulate --help"]),
        "</section>",
    ]
    return "\n".join(parts)


def rounded_down(share: float) -> str:
    """Return a share with four digits, never above itself: what is "at least" so much must be.

    >>> rounded_down(0.99999), rounded_down(1.0)
    ('0.9999', '1.0000')
    """
    return f"{math.floor(1e4 * share) / 1e4:.4f}"


def _verdicts(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    columns = ["claim", "about", "as printed", "simulated", "printed says", "corrected says"]
    columns.append("standard errors from printed")
    rows: list[list[Cell]] = []
    for claim, verdict in zip(claims, verdicts, strict=True):
        shown = verdict.strongest()
        away = None if shown.printed is None or shown.freedom is None else abs(shown.distance(shown.printed))
        rows.append([
            claim.key,
            claim.title,
            verdict.printed,
            Number(shown.value, f"{shown.value:.4g} ± {shown.error:.1g}"),
            "" if shown.printed is None else Number(shown.printed, f"{shown.printed:.4g}"),
            Number(shown.corrected, f"{shown.corrected:.4g}"),
            "" if away is None else Number(away, f"{away:,.1f}"),
        ])
    caption = (
        "The claims in the order of the paper, each with the one number, simulated or computed, that tells most; what "
        "number it is stands with its evidence below"
    )
    return table(caption, columns, rows)


def _details(claim: Claim, verdict: Verdict) -> str:
    """Return everything about one claim, folded: statement, correction, evidence, derivation."""
    told = facts([
        ("stands in", claim.source),
        ("as printed", claim.printed),
        ("what is true", "as printed" if verdict.printed == "holds" else claim.corrected),
        ("assumes", "; ".join(claim.assumptions)),
        (
            "proof",
            "every step confirmed" if verdict.derived else f"NOT CONFIRMED: {'; '.join(verdict.unconfirmed)}",
        ),
        ("negative control", "rejected, as it must be" if verdict.control_failed else "NOT REJECTED"),
        ("power", f"{verdict.power:.4f}"),
    ])
    rows = [_evidence(c, verdict.chance) for c in verdict.comparisons]
    rows += [_evidence(c, verdict.chance, "control: ") for c in verdict.controls]
    columns = ["quantity", "measured", "printed says", "corrected says", "errors from printed", "errors from corrected"]
    columns.append("critical")
    caption = (
        "Simulated (± standard error) or computed (± bound on its error); a form is rejected beyond the critical number"
    )
    proof = claim.derive()
    evidence = f"Evidence: {len(verdict.comparisons)} numbers, {len(verdict.controls)} with an assumption violated"
    inside = (
        told
        + folded(evidence, table(caption, columns, rows), "long")
        + folded(f"Proof in {len(proof.steps)} steps: {proof.concludes}", f"<pre>{escape(proof.text())}</pre>", "long")
    )
    return folded(f"{claim.key}: {claim.title} ({verdict.printed})", inside)


def _evidence(c: Comparison, chance: float, prefix: str = "") -> list[Cell]:
    def away(form: float | None) -> Cell:
        if form is None or not math.isfinite(distance := c.distance(form)):
            return ""
        return Number(distance, f"{distance:+,.1f}" if abs(distance) < 1e6 else f"{distance:+.1e}")

    return [
        prefix + c.name,
        Number(c.value, f"{c.value:.5g} ± {c.error:.1g}"),
        "" if c.printed is None else Number(c.printed, f"{c.printed:.5g}"),
        Number(c.corrected, f"{c.corrected:.5g}"),
        away(c.printed),
        away(c.corrected),
        Number(c.critical(chance), f"{c.critical(chance):.1f}"),
    ]


def _heads(drawn: Mapping[str, Drawing], heads: Sequence[Heads]) -> str:
    if not heads:
        return ""
    rows: list[list[Cell]] = []
    for each in heads:
        own, replayed = each.own.by_channel(), each.replayed.by_channel()
        share, unit = each.scaled.share_within, own.unit
        rows.append([
            own.name,
            f"{own.measured.size} {unit}s",
            *(Number(n.median_error(), f"{100 * n.median_error():.1f} %") for n in (own, replayed)),
            Number(share, f"{100 * share:.1f} % of {len(each.scaled.heads)}"),
        ])
    columns = ["model", "measured", "median error, own run", "median error, inputs in range"]
    columns += [f"norm at L within {WITHIN:.0%} of that at T with one factor a head (of those tried)"]
    reasons: list[list[Cell]] = [
        [each.scaled.name, f"layer {h.layer}", str(h.head), h.reason]
        for each in heads
        for h in each.scaled.exceptions()
    ]
    why = (
        folded(
            f"Not kept by one factor: {len(reasons)} of {sum(len(each.scaled.heads) for each in heads)}, and why",
            table(REASONS, ["model", "layer", "head or channel", "why"], reasons),
        )
        if reasons
        else ""
    )
    words = (
        "From windows of the training length alone, closed forms predict the norm of every head at the target length. "
        "Where a head's inputs stay what they were in training, theory of one head is all it takes; behind a layer "
        "that has left its range the inputs change, and no theory of one head can know."
    )
    return (
        "<h3>The heads of real models</h3>"
        + paragraph(words)
        + figure(drawn["heads"])
        + table(
            "Predicted and measured norms at the target length, and the scale rule on recorded inputs", columns, rows
        )
        + why
    )


def heads_drawing(heads: Sequence[Heads]) -> Drawing:
    """Draw predicted and measured norms of every head of several models."""
    errors = "; ".join(
        f"{each.own.name}: median error {each.own.by_channel().median_error():.1%} in its own run, "
        f"{each.replayed.by_channel().median_error():.1%} on inputs that stayed in range"
        for each in heads
    )
    return Drawing(
        "heads",
        head_norms_figure([[each.own, each.replayed] for each in heads]),
        "Every point a head (Mamba-2) or channel (Mamba-1). Across: the norm that closed forms predict from windows of "
        "the training length. Up: the norm measured over calibration texts. Left: in the model's own run, where layers "
        "behind a broken one get inputs never seen in training. Right: replayed on inputs that stayed in range.",
        errors + ".",
    )


def navigation() -> str:
    """Return the section's link."""
    return f'<a href="#{ANCHOR}">{escape("Theory")}</a>'
