"""Test ``mambascope.analysis.verification`` and ``theory``: verdicts from data, reproducible, honest when unsettled."""

import dataclasses
import json

import pytest

from mambascope.analysis import theory
from mambascope.analysis import verification as module
from mambascope.analysis.atomic import json_bytes
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.verification import chosen_claims, jobs_of, slug, verify
from mambascope.simulate.claims import KEYS, load
from mambascope.spectra.errors import RefusedInputError

CLAIMS = ["theorem-4.2", "eq-6"]


@pytest.fixture(scope="module")
def found():
    return verify(chosen_claims(CLAIMS), trials=16384, seed=1)


def test_claims_are_settled_and_say_so_in_json(found):
    assert found.undecided() == []
    assert found.family_error == pytest.approx(1e-6)
    assert found.weakest_power > 0.99
    told = json.loads(json_bytes(found.to_dict()))
    rows = {row["claim"]: row for row in told["verdicts"]}
    assert list(rows) == ["eq-6", "theorem-4.2"]  # in the order of the paper
    assert rows["theorem-4.2"]["printed_holds"] is False
    assert rows["theorem-4.2"]["corrected_holds"] is True
    assert abs(rows["theorem-4.2"]["z_printed"]) > 15
    assert abs(rows["theorem-4.2"]["z_corrected"]) < 5.5
    assert rows["eq-6"]["printed_holds"] is True
    for row in rows.values():
        assert {"statement", "corrected_text", "assumptions", "comparisons", "controls", "power"} <= set(row)


def test_equal_seeds_give_equal_bytes_and_others_do_not(found):
    again = verify(chosen_claims(CLAIMS), trials=16384, seed=1, engine="loky", workers=2)
    assert json_bytes(again.to_dict()) == json_bytes(found.to_dict())
    other = verify(chosen_claims(CLAIMS), trials=16384, seed=2)
    assert json_bytes(other.to_dict()) != json_bytes(found.to_dict())


def test_a_wrong_correction_is_not_settled(monkeypatch):
    claim = load("theorem-4.2")

    def wrong(samples):
        return [dataclasses.replace(c, corrected=1.05 * c.corrected) for c in claim.compare(samples)]

    spoiled = dataclasses.replace(claim, compare=wrong)
    (reason,) = verify([spoiled], trials=16384).undecided()
    assert "corrected form: fails" in reason


def test_a_control_that_passes_and_a_step_that_fails_are_named(monkeypatch):
    claim = load("theorem-4.2")
    tame = dataclasses.replace(claim, control=lambda samples: claim.compare(samples)[:1])
    monkeypatch.setattr(module, "derivation_failures", lambda key: ["an integral"])
    (reason,) = verify([tame], trials=16384).undecided()
    assert "negative control" in reason
    assert "an integral" in reason


def test_few_trials_leave_claims_open_instead_of_guessing(monkeypatch):
    with pytest.raises(RefusedInputError, match="expected 4096"):
        verify(chosen_claims(CLAIMS), trials=4095)
    monkeypatch.setattr(module, "FEWEST_TRIALS", 64)
    for verdict in verify(chosen_claims(["theorem-b.1", "b.4-1", "eq-6"]), trials=64).verdicts:
        assert verdict.corrected == "undecided"
        assert not verdict.decisive


def test_unknown_claims_are_refused_with_a_hint():
    with pytest.raises(RefusedInputError, match=r"did you mean corollary-4\.3"):
        chosen_claims(["corolary-4.3"])
    assert [claim.key for claim in chosen_claims([])] == list(KEYS)


def test_experiments_have_names_and_keys_of_their_own():
    jobs = jobs_of(chosen_claims([]), 4096, 0)
    assert len({job.name for job in jobs}) == len(jobs)
    assert len({job.key.tobytes() for job in jobs}) == len(jobs)
    assert slug("control, rho = .8") == "control-rho-.8"


def test_a_run_folder_resumes_and_equals_a_fresh_run(tmp_path, found, monkeypatch):
    with RunFolder.open(tmp_path / "run", command={}, seed=1) as run:
        verify(chosen_claims(CLAIMS), trials=16384, seed=1, run=run)
    monkeypatch.setattr(module, "derivation_failures", lambda key: pytest.fail("derived again"))
    with RunFolder.open(tmp_path / "run", command={}, seed=1) as run:
        again = verify(chosen_claims(CLAIMS), trials=16384, seed=1, run=run)
    assert json_bytes(again.to_dict()) == json_bytes(found.to_dict())


def test_theory_has_growth_and_coverage(monkeypatch):
    monkeypatch.setattr(theory, "NEAR_ONE", (0.1, 1e-6))
    monkeypatch.setattr(theory, "TIMES", (2, 16, 64))
    made = theory.study_theory(chosen_claims(["theorem-4.2"]), trials=8192)
    for estimate in made.growth.values():
        assert estimate.exact is not None
        assert abs((estimate.mean - estimate.exact) / estimate.se).max() < 5.5
        assert (estimate.mean[1:] >= estimate.mean[:-1] * 0.99).all()
    rows = made.rows()
    assert {"claims", "comparisons", "growth", "near-one"} == set(rows)
    assert len(rows["growth"]) == 3 * len(made.growth)
    assert [row["trusted"] for row in rows["near-one"]] == [True, False]
    json_bytes(rows)  # plain and finite
