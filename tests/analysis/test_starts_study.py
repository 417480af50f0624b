"""Test ``mambascope.analysis.starts_study``: what runs, what it costs, what is compared, and what is said of it."""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.intervals import Interval, interval
from mambascope.analysis.evaluate.perplexity import fresh_window_bits, token_bits
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.starts_study import START_LABELS, make_starts_plan, runner, study_starts
from mambascope.analysis.starts_study.curves import PassRatio, pass_ratio, passes_to_reach
from mambascope.analysis.starts_study.plan import CONSTANTS, read_rates
from mambascope.analysis.starts_study.scores import less
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

T, L = 16, 64


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


HERE = Path(__file__).parent
made_up = module(HERE / "made_up_starts.py").made_up
kit = module(HERE / "calibration" / "conftest.py")


def plan_of(arch="mamba2", **changes):
    options = {"methods": ("spsa",), "seeds": 1, "steps": 2, "batch": 1, "select_every": 1, "selection_windows": 2}
    layers = {"layer_kinds": ("dt",), "layer_methods": ("spsa-paper",), "layer_passes": 65, "layer_batch": 2}
    return make_starts_plan(**({"train_length": T, "target_length": L, "arch": arch} | options | layers | changes))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a worker: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def study(folder, plan, *, arch="mamba2", fresh=False, texts=None, **options):
    model, texts = kit.tiny.tiny_model(arch), texts or kit.texts_of(documents=3, length=600)
    with RunFolder.open(folder, command={"plan": plan.to_dict()}, seed=0, fresh=fresh) as run:
        return study_starts(model, texts, run, plan, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One comparison, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("starts") / "run"
    return study(folder, plan_of(methods=("spsa", "backprop"))), folder


def test_every_start_and_method_runs_from_its_own_point(done):
    found, _ = done
    assert [(r.task.plan.method, r.task.label) for r in found.of("starts")] == [
        (method, label) for method in ("spsa", "backprop") for label in START_LABELS
    ]
    assert [r.task.label for r in found.of("layers")] == ["spectrum", "projected", "uniform"]
    by = {label: [r.start for r in found.of("starts", label=label)] for label in START_LABELS}
    assert all(a == b for a, b in by.values())
    assert len({a.tail for a, _ in by.values()}) == 5
    assert by["ones"][0] == found.unscaled
    assert found.of("layers", label="spectrum")[0].start == by["spectrum"][0]  # whatever the kind: the proposal
    assert found.of("layers", label="uniform")[0].start != by["uniform"][0]


def test_scores_are_those_of_a_fresh_evaluation_of_the_stored_scales(done):
    found, folder = done
    model, test = kit.tiny.tiny_model("mamba2"), np.stack([d.ids[: 4 * L] for d in kit.texts_of(documents=3).test])
    test = np.stack([d.ids[: 4 * L] for d in kit.texts_of(documents=3, length=600).test])
    for run in found.runs:
        scales = Scales.load(folder / "calibrations" / run.task.key / "scales.json")
        bits = token_bits(model, test, scales)
        assert run.final.inside == tuple(bits[:, : T - 1].mean(1))
        assert run.final.tail == tuple(bits[:, L // 2 - 1 : L - 1].mean(1))
        assert run.final.far == (tuple(bits[:, 2 * L - 1 :].mean(1)) if run.task.part == "starts" else ())
    control = fresh_window_bits(model, test, T)
    assert found.control.tail == tuple(control[:, L // 2 - 1 : L - 1].mean(1))
    row = found.test_rows()[0]
    assert row["harm_final"] == pytest.approx(np.mean(found.runs[0].final.tail) - np.mean(found.control.tail))
    assert row["documents"] == 3


def test_the_best_constant_is_that_of_the_selection_windows(done):
    found, _ = done
    model = kit.tiny.tiny_model("mamba2")
    windows = np.stack([d.ids[:L] for d in kit.texts_of(documents=3, length=600).validation[:2]])
    tails = {s: token_bits(model, windows, scaling("a", s))[:, L // 2 - 1 :].mean() for s in CONSTANTS}
    assert found.best_constant == min(tails, key=lambda s: tails[s])
    assert len(found.constants) == 25
    assert max(found.constants) == 4096


def test_what_a_start_costs_is_in_its_curve(done):
    found, _ = done
    first = {label: found.of("starts", label=label)[0].curve[0][0] for label in START_LABELS}
    assert first["ones"] == first["uniform"] == first["log-uniform"] == 2
    assert first["constant"] == 2 + 2 * 25
    assert first["spectrum"] == 2 + found.proposal_passes > 2
    assert all(run.passes == run.curve[-1][0] for run in found.runs)


def test_layer_factors_get_one_budget_whatever_they_start_from(done):
    found, _ = done
    a_step = 2 * 2 + 2  # both losses on two windows, and a look
    for run in found.of("layers"):
        assert found.plan.layer_passes - a_step < run.passes <= found.plan.layer_passes


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first part of one method alone."""
    folder = tmp_path_factory.mktemp("starts") / "small"
    return study(folder, plan_of(layer_kinds=())), folder


def test_workers_give_the_same_bytes(small, tmp_path):
    study(tmp_path / "workers", plan_of(layer_kinds=()), engine="loky", jobs=2)
    assert (tmp_path / "workers/journal.jsonl").read_bytes() == (small[1] / "journal.jsonl").read_bytes()


def test_a_stopped_comparison_goes_on_to_the_same_bytes(done, tmp_path, monkeypatch):
    whole, folder = done
    plan, seen = plan_of(methods=("spsa", "backprop")), []

    def tick(passes):
        seen.append(passes)
        if len(seen) in {30, 45}:  # within a calibration
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "run", plan, tick=tick)
    found = study(tmp_path / "run", plan, tick=tick)
    assert len(seen) > 45
    assert json.dumps(found.to_dict()) == json.dumps(whole.to_dict())
    for path in [*folder.rglob("journal.jsonl"), *folder.rglob("scales.json")]:
        assert (tmp_path / "run" / path.relative_to(folder)).read_bytes() == path.read_bytes()
    monkeypatch.setattr(runner, "run_task", None)  # all is there: nothing runs again
    assert study(tmp_path / "run", plan).to_dict() == whole.to_dict()


def test_starting_over_drops_an_older_comparison(small, tmp_path):
    study(tmp_path / "run", plan_of(steps=1, layer_kinds=()))
    found = study(tmp_path / "run", plan_of(layer_kinds=()), fresh=True)
    assert found.to_dict() == small[0].to_dict()
    assert found.layers() == []
    assert (tmp_path / "run/journal.jsonl").read_bytes() == (small[1] / "journal.jsonl").read_bytes()


def test_mamba_1_moves_as_many_factors_as_its_proposal_has(tmp_path):
    plan = plan_of("mamba", layer_kinds=())
    assert plan.granularity == "state"
    found = study(tmp_path / "run", plan, arch="mamba")
    scales = Scales.load(tmp_path / "run/calibrations" / found.runs[0].task.key / "scales.json")
    assert scales.factors[0].granularity == "state"
    assert plan_of("mamba", kind="dt").granularity == "head"


def test_documents_that_end_early_count_as_far_as_they_reach(tmp_path):
    texts = kit.texts_of(documents=3, length=600)
    short = Document("short", texts.test[0].ids[:100])
    texts = type(texts)(texts.calibration, texts.validation, (short, *texts.test[1:]))
    found = study(tmp_path / "run", plan_of(layer_kinds=()), texts=texts)
    assert len(found.control.tail) == 3
    assert len(found.control.far) == 2
    rows = found.test_rows()
    assert rows[0]["harm_final_far"] is not None


def test_too_little_text_and_a_model_left_alone_are_refused(tmp_path, monkeypatch):
    with pytest.raises(TextError, match="0 of 2"):
        study(tmp_path / "a", plan_of(), texts=kit.texts_of(length=60))
    texts = kit.texts_of()
    shared = type(texts)(texts.calibration, texts.validation, texts.validation)
    with pytest.raises(RefusedInputError, match="must differ"):
        study(tmp_path / "b", plan_of(), texts=shared)
    alone = SimpleNamespace(acts=False, reason="left alone: nothing grows")
    monkeypatch.setattr(runner, "propose_for", lambda *_, **__: alone)
    with pytest.raises(RefusedInputError, match=r"left alone.*no start to compare"):
        study(tmp_path / "c", plan_of())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": ("newton",)}, "--methods 'newton'"),
        ({"methods": ()}, "at least one"),
        ({"methods": ("spsa", "spsa")}, "each name once"),
        ({"layer_kinds": ("joint",)}, "--layer-kinds 'joint'"),
        ({"layer_methods": ("x",)}, "--layer-methods 'x'"),
        ({"seeds": 0}, "--seeds 0"),
        ({"far_length": L - 1}, "--far-length 63"),
        ({"target_length": T}, "--target-length"),
        ({"steps": 0}, "--steps 0"),
        ({"kind": "b"}, "--kind 'b'"),
        ({"layer_passes": 5}, "one step takes 8"),
    ],
)
def test_a_plan_that_makes_no_comparison_is_refused(changes, told):
    with pytest.raises(RefusedInputError, match=told):
        plan_of(**changes)


def test_rates_are_read_and_reach_the_starts_that_have_far_to_go():
    assert read_rates(["spsa:0.5", "backprop:2"]) == {"spsa": 0.5, "backprop": 2.0}
    for wrong in ("spsa", "spsa:x", "newton:1"):
        with pytest.raises(RefusedInputError, match="--far-rates"):
            read_rates([wrong])
    plan = plan_of(far_rates={"spsa": 0.5}, layer_methods=("spsa", "spsa-paper"), layer_passes=100)
    tasks = plan.tasks(largest=64.0, best_constant=8.0, proposal_passes=0.0)
    rates = {(t.part, t.plan.method, t.label): t.plan.learning_rate for t in tasks}
    assert rates["starts", "spsa", "spectrum"] == 0.05
    assert {rates["starts", "spsa", label] for label in START_LABELS[1:]} == {0.5}
    assert rates["layers", "spsa", "uniform"] == 0.5
    assert rates["layers", "spsa-paper", "uniform"] == 1e-3
    assert len({t.key for t in tasks}) == len(tasks)
    assert next(t.plan.start for t in tasks if t.label == "log-uniform") == "log-random:1,64.0"


def test_differences_are_taken_by_document():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 8), rng.normal(0.5, 1, 8)
    assert less(a, b) == interval(a - b)
    assert less([], b) is None
    assert less([3.0], [1.0]) == Interval(2.0, None, None, 1)


def test_passes_to_reach_a_level():
    curve = ((28, 2.3), (78, 2.2), (128, 2.2), (178, 2.05))
    assert [passes_to_reach(curve, bits) for bits in (2.3, 2.25, 2.2, 2.1, 2.0)] == [28, 78, 78, 178, None]


def test_the_ratio_compares_with_the_best_of_all_other_starts_when_it_got_there():
    found = made_up({"log-uniform": 0.012}, methods=("spsa",))
    ratio = pass_ratio(found.of("starts"), "spsa")
    assert ratio.other == "log-uniform (seed 0)"
    assert ratio.other_passes == 108
    # spectrum: looks at 28, 78, 128 with 1.5, 1.25 and 1 times 0.01, 0.011 or 0.012
    assert ratio.spectrum_passes == (128, 128, 128)
    assert (ratio.worst, ratio.worst_of_whole) == (128 / 108, 128 / 108)
    assert pass_ratio(made_up({"log-uniform": 0.1}).of("starts"), "spsa").spectrum_passes == (28, 28, 28)
    never = pass_ratio(made_up({"log-uniform": 0.0115}, methods=("spsa",)).of("starts"), "spsa")
    assert never.spectrum_passes == (128, 128, None)
    assert never.worst is None
    assert PassRatio("spsa", 2.0, "ones", 100, 200, (10, 20)).worst == 0.2
    assert PassRatio("spsa", 2.0, "ones", 100, 200, (10, 20)).worst_of_whole == 0.1


def test_a_result_that_took_no_more_looks_than_needed_counts_as_there():
    """A start that is best at its first look is there after that look, not after its whole budget."""
    found = made_up({"log-uniform": 0.04}, gain=0.0, methods=("spsa",))
    ratio = pass_ratio(found.of("starts"), "spsa")
    assert (ratio.other_passes, ratio.other_whole, ratio.spectrum_passes) == (8, 108, (28, 28, 28))


def test_what_wins_is_said_either_way():
    ours = " ".join(made_up().sentences())
    assert ours.count("it wins in 3 of 3 kinds and loses in 0") == 4  # two methods, on top of the proposal and reduced
    assert "proposal, not calibrated has the least harm" not in ours  # it is where the calibrations began
    assert "wanted: met, for the whole interval" in ours
    assert re.search(r"at 256 tokens -0\.0(09|1)", ours)
    assert re.search(r"not told apart from it: .*spectrum\. Behind them [a-z_, ]*: \+0\.00", ours)
    assert "at 256 tokens" not in " ".join(made_up(far_length=64).sentences())
    assert re.search(r"mean over seeds: spectrum \+0\.01", ours)
    theirs = " ".join(made_up({"uniform": 0.0001, "ones": 0.00001}).sentences())
    assert theirs.count("it wins in 0 of 3 kinds and loses in 3") == 4
    assert "uniform has the least harm on test text" in theirs
    assert "never gets there with 3 of 3 seeds: missed" in theirs
    assert re.search(r"mean over seeds: (ones|uniform) [+-]0\.000", theirs)
    alone = made_up({"projected": 1.0, "uniform": 1.0}, layer_kinds=("a",), layer_methods=("spsa",)).sentences()
    assert any("nothing else comes as low. Behind them proposal, not calibrated: +0.00" in told for told in alone)
    even = " ".join(made_up({"uniform": 0.01}).sentences())
    assert "on top of the proposal less those of random factors of the same kind" in even
    assert "it wins in 0 of 3 kinds and loses in 0" in even


def test_a_calibration_that_lost_on_test_text_is_told():
    worse = " ".join(made_up({"spectrum": 0.02}, gain=-0.5).sentences())
    assert "wanted: missed" in worse


def test_the_layer_table_holds_the_seed_that_selection_chose():
    found = made_up()
    entries = {e.name: e for e in found.layers()}
    chosen = entries["a_power, spsa, uniform"]
    assert (chosen.seed, chosen.seeds) == (0, 3)
    assert chosen.score == found.of("layers", kind="a_power", method="spsa", label="uniform")[0].final
    rows = {row["entry"]: row for row in found.layer_rows()}
    assert len(rows) == 3 + 3 * 3 * 2
    assert min(row["less_best"] for row in rows.values()) == 0
    assert rows["no scaling"]["harm"] == pytest.approx(3.0, abs=0.01)
    assert rows["no scaling"]["inside_less_unscaled"] == 0
    single = made_up(documents=1).layer_rows()[0]
    assert single["harm_ci_low"] is None
