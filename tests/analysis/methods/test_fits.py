"""analysis/methods: what each method makes of a model is what its definition says."""

import numpy as np
import pytest

from mambascope.analysis.calibration import calibrate
from mambascope.analysis.evaluate.bits import token_bits
from mambascope.analysis.methods import SETS, Fitted, find_method, fit
from mambascope.analysis.methods.constants import GRIDS, coarse, near
from mambascope.analysis.proposal import propose_for
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import RefusedInputError, ScaleError
from mambascope.spectra.scales import scaling


def test_constants_are_single_factors_of_their_kind(make_task):
    for kind in ("a", "a_power", "dt"):
        (factor,) = fit(find_method(f"constant:{kind}:3"), make_task()).scales.factors
        assert (factor.kind, factor.granularity, float(factor.values)) == (kind, "model", 3.0)
    assert fit(find_method("none"), make_task()).scales is None


@pytest.mark.parametrize("name", [*SETS["all"], "rule:hard-clip"])
def test_what_a_fit_reads_is_foreseen(make_task, name):
    """Within 15 %: how far a search or a look goes is not known before."""
    ticked, method = [], find_method(name)
    task = make_task(tokens=2000, tick=ticked.append)
    expected = method.expected_tokens(task)
    found = method.fit(task)
    assert expected == pytest.approx(found.passes * task.fit_length, rel=0.15)
    assert expected == pytest.approx(sum(ticked), rel=0.15)


@pytest.mark.parametrize("kind", ["a", "a_power", "dt"])
def test_grids_are_log_spaced_and_hold_the_model_as_it_is(kind):
    grid = np.array(GRIDS[kind])
    assert len(grid) >= 25
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(grid[1] / grid[0]))
    assert np.isclose(grid, 1).any()


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_best_constant_is_the_one_with_the_fewest_tail_bits_of_those_tried(make_task, arch):
    task = make_task(arch)
    found = fit(find_method("constant:a:best"), task)
    ids = np.stack([document.ids[:128] for document in task.texts.validation])
    for length in task.lengths:
        told = {c.factor: c.tail_bits for c in found.choices if c.length == length}
        bits = {s: token_bits(task.model, ids, scaling("a", s))[:, length // 2 - 1 : length - 1].mean() for s in told}
        np.testing.assert_allclose(list(told.values()), list(bits.values()), rtol=1e-6)
        assert float(found.at(length).factors[0].values) == min(told, key=lambda s: told[s])
        assert {GRIDS["a"][k] for k in coarse(GRIDS["a"])} <= set(told)
    longest = {c.factor: max(x.length for x in found.choices if x.factor == c.factor) for c in found.choices}
    assert found.passes == 2 * sum(longest.values()) / task.fit_length  # 2 validation texts


def searched(bits, grid):
    """Search a curve known in full; return the choice and how many candidates were tried."""
    seen = {k: bits[k] for k in coarse(grid)}
    seen |= {k: bits[k] for k in near(seen, grid)}
    usable = {k: v for k, v in seen.items() if v is not None}
    return min(usable, key=lambda k: usable[k]), len(seen)


@pytest.mark.parametrize("kind", ["a", "a_power", "dt"])
def test_a_search_from_coarse_to_fine_finds_the_bottom_of_any_valley(kind):
    """Every place of the bottom, slopes of any steepness on either side."""
    grid, rng = GRIDS[kind], np.random.default_rng(0)
    for bottom in range(len(grid)):
        for _ in range(20):
            steps = rng.exponential(size=len(grid) - 1)
            bits = np.concatenate([[0.0], np.cumsum(np.where(np.arange(len(steps)) < bottom, -steps, steps))]).tolist()
            found, tried = searched(bits, grid)
            assert found == bottom
            assert tried <= 0.8 * len(grid)


def test_a_search_finds_a_valley_of_one_candidate_beside_1_and_goes_everywhere_if_nothing_runs():
    grid = GRIDS["dt"]  # 1 is number 16
    bits = [1.0 + k for k in range(25)]
    bits[15] = 0.5  # between 12 and 16, where every fourth shows a slope
    assert searched(bits, grid)[0] == 15
    broken = [None] * 24 + [None]
    assert near(dict.fromkeys(coarse(grid)), grid) == list(range(25))
    broken[3] = 2.0
    assert searched(broken, grid) == (3, 25)


def test_lengths_beyond_the_validation_text_take_the_choice_at_its_end(make_task):
    found = fit(find_method("constant:dt:best"), make_task(lengths=(64, 256, 4096)))
    assert {choice.length for choice in found.choices} == {64, 256}
    assert found.at(4096).to_dict() == found.at(256).to_dict()


def test_spectrum_is_the_default_proposal_and_a_rule_always_acts(make_task):
    task = make_task()
    wanted = propose_for(task.model, task.texts.calibration, 16, 128)
    found = fit(find_method("spectrum"), task)
    assert found.scales.to_dict() == wanted.scales.to_dict()
    assert found.passes > 0
    by_rule = fit(find_method("rule:hard-clip:4"), task)
    forced = propose_for(task.model, task.texts.calibration, 16, 128, rule="hard-clip:4", always=True)
    assert by_rule.scales.to_dict() == forced.scales.to_dict()


RECIPES = {
    "mambaextend": ("dt", "layer", "random:0.75,1", "spsa-released"),
    "mamba-modulation": ("a_power", "layer", "random:0.75,1", "spsa-released"),
    "mamba-modulation:a": ("a", "layer", "random:0,1", "spsa-paper"),
    "heads": ("a", "head", "ones", "backprop"),
    "spectrum+calibrated": ("a", "head", "spectrum", "backprop"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_calibrated_method_is_the_calibration_of_its_recipe(make_task, name):
    task = make_task("mamba")
    kind, granularity, start, method = RECIPES[name]
    wanted = calibrate(
        task.model, task.texts, train_length=16, target_length=32,
        kind=kind, granularity=granularity, start=start, method=method, steps=1,
    )  # fmt: skip
    ticks = []
    found = fit(find_method(name), make_task("mamba", tick=ticks.append))
    assert found.scales.to_dict() == wanted.scales.to_dict()
    assert found.passes == wanted.passes
    assert sum(ticks) == round(wanted.passes * 32)
    wide = found.scales.factors[-1].values.shape
    assert wide == ((3,) if granularity == "layer" else (3, 48)) or start == "spectrum"


def test_published_step_counts(make_task):
    steps = {s.name: s.value for s in find_method("mambaextend").describe().settings}["steps"]
    assert steps == "50"
    assert {s.name: s.value for s in find_method("mamba-modulation").describe().settings}["steps"] == "30"


def test_bakes_says_why_not(make_task):
    gated = fit(find_method("heads"), make_task())
    assert gated.bakes == "yes"
    assert fit(find_method("constant:dt:2"), make_task()).bakes == "yes, up to the epsilon of a norm"
    assert "one dt factor for each" in fit(find_method("rule:head-dt"), make_task()).bakes
    assert "onset" in fit(find_method("rule:onset"), make_task()).bakes


def test_scales_from_a_file_come_back_and_those_of_another_model_are_refused(make_task, tmp_path):
    path = tmp_path / "s.json"
    scaling("a", [2.0, 3.0, 4.0]).save(path)
    found = fit(find_method(f"scales:{path}"), make_task())
    assert found.scales.factors[0].values.tolist() == [2.0, 3.0, 4.0]
    scaling("a", [2.0, 3.0]).save(path)
    with pytest.raises(ScaleError, match="another model"):
        fit(find_method(f"scales:{path}"), make_task())


def test_what_was_fitted_is_read_again_and_not_made_again(make_task, tmp_path, monkeypatch):
    names = ("constant:a_power:best", "spectrum", "heads")
    with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
        first = {name: fit(find_method(name), make_task(run=run)) for name in names}
        with monkeypatch.context() as patch:
            patch.setattr("mambascope.spectra.model.Model.stream", None)
            again = {name: fit(find_method(name), make_task(run=run)) for name in names}
    assert {n: f.to_dict() for n, f in first.items()} == {n: f.to_dict() for n, f in again.items()}
    alone = {name: fit(find_method(name), make_task()) for name in names}
    assert {n: f.to_dict() for n, f in first.items()} == {n: f.to_dict() for n, f in alone.items()}
    assert all(Fitted.from_dict(f.to_dict()).to_dict() == f.to_dict() for f in alone.values())


def test_windows_no_longer_than_training_are_refused(make_task):
    with pytest.raises(RefusedInputError, match="calibrate-at 16"):
        fit(find_method("none"), make_task(fit_length=16))
