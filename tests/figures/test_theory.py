"""Test ``mambascope.figures.theory`` and ``theory_section``: figures show the numbers, words follow from them."""

import dataclasses

import numpy as np
import pytest

from mambascope.analysis import theory as theory_module
from mambascope.analysis.head_norms import HeadNorms
from mambascope.analysis.heads import Heads
from mambascope.analysis.norm_forms import FORMS
from mambascope.analysis.scaled_heads import ScaledHead, ScaledHeads
from mambascope.analysis.theory import study_theory
from mambascope.analysis.verification import chosen_claims
from mambascope.figures.answers import LEVEL, claim_answers, claims_card
from mambascope.figures.claim_words import PLAIN, in_plain_words
from mambascope.figures.markup import escape
from mambascope.figures.style import svg_bytes
from mambascope.figures.theory import claims_figure, growth_figure, near_one_figure, theory_drawings, with_curves
from mambascope.figures.theory_section import NEAR_ONE, heads_drawing, rounded_down, theory_section
from tests.simulate.claims.test_claims import AS_PRINTED


@pytest.fixture(scope="module")
def theory():
    patch = pytest.MonkeyPatch()
    patch.setattr(theory_module, "NEAR_ONE", (0.1, 1e-3, 1e-6))
    patch.setattr(theory_module, "TIMES", (2, 16, 64))
    yield study_theory(chosen_claims(["theorem-4.2", "eq-6"]), trials=4096)
    patch.undo()


def heads(name="tiny", exceptions=1):
    rng = np.random.default_rng(1)
    trained, measured = rng.uniform(0.1, 1, (2, 6)), rng.uniform(1, 9, (2, 6))
    norms = {}
    for inputs in ("model", "replay"):
        predicted = dict.fromkeys(FORMS, 1.1 * measured)
        norms[inputs] = HeadNorms(name, "head", 64, 4096, inputs, trained, measured, 0 * measured + 0.01, predicted)
    tried = [ScaledHead(0, h, 3.0, 1.0, 9.0, 1.4 if h < exceptions else 1.02, 1.3, 1.0, 0.02) for h in range(6)]
    return Heads(norms["model"], norms["replay"], ScaledHeads(name, 64, 4096, "long_run", tuple(tried), 5 / 6))


def test_claims_are_drawn_with_both_forms_and_the_points(theory):
    ((claim, points),) = with_curves(theory.verification)
    assert claim.key == "theorem-4.2"
    (axes,) = claims_figure(theory.verification).axes
    printed, corrected = axes.lines[:2]
    np.testing.assert_allclose(printed.get_ydata(), [claim.curve.printed(x) for x in claim.curve.grid])
    np.testing.assert_allclose(corrected.get_ydata(), [claim.curve.corrected(x) for x in claim.curve.grid])
    shown = axes.containers[0].lines[0]
    np.testing.assert_allclose(shown.get_xdata().astype(float), [c.x for c in points])
    np.testing.assert_allclose(shown.get_ydata().astype(float), [c.value for c in points])


def test_growth_shows_simulated_points_on_exact_lines(theory):
    (axes,) = growth_figure(theory).axes
    for k, found in enumerate(theory.growth.values()):
        points, line = axes.lines[2 * k : 2 * k + 2]
        np.testing.assert_allclose(points.get_ydata(), found.mean / theory_module.CHANNELS)
        np.testing.assert_allclose(line.get_ydata(), found.exact / theory_module.CHANNELS)


def test_the_regime_near_1_shades_what_is_flagged(theory):
    ratio, covers = near_one_figure(theory.near_one).axes
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), [each.median_ratio for each in theory.near_one])
    np.testing.assert_allclose(covers.lines[0].get_ydata(), [100 * each.interval_covers for each in theory.near_one])
    assert [each.trusted for each in theory.near_one] == [True, False, False]


def test_words_are_computed_from_the_numbers(theory):
    drawn = theory_drawings(theory)
    assert set(drawn) == {"claims", "growth", "near-one"}
    worst = min(theory.near_one, key=lambda each: each.interval_covers)
    assert f"{worst.interval_covers:.0%}" in drawn["near-one"].alt
    assert all(svg_bytes(drawing.figure) == svg_bytes(drawing.figure) for drawing in drawn.values())


def test_the_section_tells_verdicts_evidence_and_derivations(theory):
    drawn = theory_drawings(theory) | {"heads": heads_drawing([heads()])}
    page = theory_section(theory, drawn, [heads()])
    assert "Of 2 claims about the norm of a state, as printed 1 hold, 0 hold in part and 1 fail;" in page
    assert "Therefore:" in page
    assert "E||h||^2 = (artanh lmax - artanh lmin)" in page
    assert "control: correlated inputs" in page
    assert "inputs drift: norm 1.40" in page
    assert "83.3 % of 6" in page
    assert "10.0 %" in page
    assert theory_section(theory, theory_drawings(theory), []).count("heads of real models") == 0


def test_evidence_and_proofs_are_folded_behind_their_gist(theory):
    page = theory_section(theory, theory_drawings(theory) | {"heads": heads_drawing([heads()])}, [heads()])
    assert page.count('<details class="long">') == 4  # of each claim
    for claim, verdict in zip(theory.verification.claims, theory.verification.verdicts, strict=True):
        proof = claim.derive()
        assert f"<summary>{escape(f'Proof in {len(proof.steps)} steps: {proof.concludes}')}</summary><pre>" in page
        assert f"<summary>Evidence: {len(verdict.comparisons)} numbers, {len(verdict.controls)} with" in page
        assert page.index(escape(claim.printed)) < page.index(escape(proof.concludes))
    assert "<summary>Not kept by one factor: 1 of 6, and why</summary>" in page
    assert f"<summary>{NEAR_ONE}</summary>" in page


def test_the_power_is_never_rounded_up(theory):
    assert f"is at least {rounded_down(theory.verification.weakest_power)}. " in theory_section(theory, {}, [])
    assert [rounded_down(share) for share in (0.99999, 0.99, 1.0)] == ["0.9999", "0.9900", "1.0000"]


def test_the_section_says_when_a_claim_is_not_settled(theory):
    spoiled = [dataclasses.replace(v, unconfirmed=("an integral",)) for v in theory.verification.verdicts]
    broken = dataclasses.replace(theory, verification=dataclasses.replace(theory.verification, verdicts=tuple(spoiled)))
    page = theory_section(broken, theory_drawings(broken), [])
    assert "Not settled: eq-6" in page
    assert "NOT CONFIRMED: an integral" in page


def test_in_short_every_claim_stands_under_its_verdict(theory):
    found, listed = theory.verification, claim_answers(theory)
    for word, lines in listed:
        for claim, verdict in zip(found.claims, found.verdicts, strict=True):
            there = [line for line in lines if line.startswith(f"{claim.key} (")]
            belongs = word.lower().startswith(f"{verdict.printed} as printed")
            assert there == ([f"{in_plain_words(claim, verdict)}."] if belongs else [])
        assert int(word.rpartition(" ")[2]) == len(lines)
    assert sum(len(lines) for _, lines in listed) == len(found.claims)
    page = claims_card(theory, "theory")
    assert escape(LEVEL) in page
    assert page.count("<li>") == len(found.claims)


def test_what_is_wrong_with_a_claim_is_told_only_under_the_verdict_it_was_written_for(theory):
    found = dict(zip((c.key for c in theory.verification.claims), theory.verification.verdicts, strict=True))
    (claim,) = chosen_claims(["theorem-4.2"])
    assert found[claim.key].printed == PLAIN[claim.key][0] == "fails"
    assert in_plain_words(claim, found[claim.key]) == f"{claim.key} ({claim.title}): {PLAIN[claim.key][1]}"
    assert in_plain_words(claim, found["eq-6"]) == f"{claim.key} ({claim.title})"


def test_every_claim_told_in_plain_words_is_one_and_is_corrected():
    claims = {claim.key: claim for claim in chosen_claims([])}
    assert {key: word for key, (word, _) in PLAIN.items()} == {k: w for k, w in AS_PRINTED.items() if w != "holds"}
    for key in PLAIN:
        assert claims[key].corrected != claims[key].printed
        assert claims[key].corrected != "as printed"
