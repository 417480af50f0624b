"""Test what public results show in a notebook: a table of their rows."""

import dataclasses
import html
import importlib
import re

import pytest

from mambascope.spectra.html_table import MOST_ROWS


def read(result):
    """Return the rows of cells, the head first, and the title."""
    text = result._repr_html_()
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?>(.*?)</tr>", text, re.DOTALL)]
    title = re.match(r"(?:<div>)?<p>(.*?)</p><table", text)
    return rows, title[1] if title else ""


SHOWN = {
    "mambascope.spectra.eigenvalues": ["Spectrum"],
    "mambascope.spectra.norms": ["StateNorms"],
    "mambascope.spectra.scales": ["Scales"],
    "mambascope.simulate.montecarlo": ["Estimate"],
    "mambascope.simulate.verdict": ["Verdict"],
    "mambascope.analysis.diagnosis": ["Diagnosis"],
    "mambascope.analysis.proposal": ["Proposal"],
    "mambascope.analysis.evaluate.perplexity": ["Perplexity"],
    "mambascope.analysis.calibration.result": ["Calibrated"],
    "mambascope.analysis.compare": ["Comparison"],
    "mambascope.analysis.forecast": ["Forecast"],
    "mambascope.analysis.forecast_check": ["Checked"],
    "mambascope.analysis.memory": ["MemoryChange"],
    "mambascope.analysis.verification": ["Verification"],
    "mambascope.analysis.passkey.evaluation": ["PasskeyFound"],
    "mambascope.analysis.rule_table": ["RuleTable"],
    "mambascope.analysis.breakdown": ["Breakdown"],
    "mambascope.analysis.starts_study.result": ["StartsStudy"],
}


@pytest.mark.parametrize(("module", "names"), SHOWN.items())
def test_public_results_show_themselves(module, names):
    for name in names:
        kind = getattr(importlib.import_module(module), name)
        assert dataclasses.is_dataclass(kind)
        assert callable(kind._repr_html_)


def test_results_of_a_bundled_model_as_tables():
    from mambascope.analysis import diagnose, perplexity, propose
    from mambascope.spectra import Scales, load, open_checkpoint, read_texts
    from mambascope.spectra.zoo import text_files

    model = load("mamba2-tiny", device="cpu")
    (text,) = read_texts(open_checkpoint("mamba2-tiny"), text_files("calibration")[:1])
    found = diagnose(model, text.ids[None, :1024], train_length=256, target_length=1024)
    proposed = propose(found)
    for result, rows in (
        (found.spectrum, 8),
        (found.norms, 4 * len(found.norms.lengths_tokens)),
        (found, 4),
        (proposed, 4),
        (proposed.memory(), 4),
        (proposed.scales, len(proposed.scales.factors)),
        (Scales(), 0),
        (perplexity(model, text.ids[None, :512], lengths=[256, 512]), 2),
    ):
        assert len(read(result)[0]) == 1 + min(rows, MOST_ROWS), type(result)
    assert html.unescape(read(proposed)[1]) == f"{proposed.rule}: {proposed.reason}"
    (row,) = proposed.scales.rows()
    assert row["min"] <= row["median"] <= row["max"]
    assert row["factors"] == proposed.scales.factors[0].values.numel()


def test_simulated_results_as_tables():
    from mambascope.analysis import verify
    from mambascope.analysis.verification import chosen_claims
    from mambascope.simulate import Recurrence, estimate, uniform

    found = estimate(Recurrence("diagonal", 2, uniform(0.0, 0.9)), [4, 16], trials=64, key=0)
    rows, _ = read(found)
    assert rows[0][:3] == ["steps", "mean", "se"]
    assert [row[0] for row in rows[1:]] == ["4", "16"]
    judged = verify(chosen_claims(["eq-6"]), trials=8192, seed=0)
    assert read(judged)[0][1][0] == "eq-6"
    rows, title = read(judged.verdicts[0])
    assert len(rows) == 1 + len(judged.verdicts[0].comparisons)
    assert title == "eq-6: holds as printed, holds as corrected"
