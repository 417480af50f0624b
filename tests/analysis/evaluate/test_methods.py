"""Test ``mambascope.analysis.evaluate.methods`` on small random models: names, passages, resuming."""

import re

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import token_bits
from mambascope.analysis.evaluate.methods import Evaluation, check_methods, check_reference
from mambascope.analysis.evaluate.passages import cut_passages
from mambascope.analysis.evaluate.position_sums import LAST, edges_for
from mambascope.analysis.evaluate.rows import rows_of
from mambascope.analysis.evaluate.setups import score_setup
from mambascope.analysis.evaluate.table_text import perplexity_text
from mambascope.analysis.methods import Setup
from mambascope.analysis.methods.constants import GRIDS
from mambascope.analysis.proposal import propose_for
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import RefusedInputError, ScaleError, TextError
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document

T, L = 16, 128
METHODS = ("none", "spectrum", "fresh-window")


def documents(seed, count=3, length=600):
    rng = np.random.default_rng(seed)
    return tuple(Document(f"d{seed}-{k}", rng.integers(0, 50, length).astype(np.uint8)) for k in range(count))


def folder(path):
    return RunFolder.open(path, command={"test": "evaluate"}, seed=0)


def evaluation(model, passages=None, **changes):
    passages = passages or cut_passages(documents(3), L)
    return Evaluation(
        model, passages, **({"lengths": [32, L], "train_length": T, "calibration": documents(1)} | changes)
    )


class Dying:
    """Stops the process, as far as the run can tell, after some tokens."""

    def __init__(self, tokens):
        self.left = tokens

    def __call__(self, tokens):
        self.left -= tokens
        if self.left < 0:
            raise KeyboardInterrupt


def test_methods_by_name(make_model):
    model, passages = make_model("mamba2"), cut_passages(documents(3), L)
    watched = []
    methods = ["none", "scales", "constant:5", "constant:dt:5", "rule:hard-clip", "fresh-window"]
    job = evaluation(model, passages, scales=scaling("a", 5.0), batch=2)
    found = job.run(methods, tick=watched.append)
    rows = {(r.method, r.length): r for r in found.rows}
    assert len(rows) == 12
    direct = {
        "none": None,
        "scales": scaling("a", 5.0),
        "constant:5": scaling("a", 5.0),
        "constant:dt:5": scaling("dt", 5.0),
        "rule:hard-clip": propose_for(model, documents(1), T, L, rule="hard-clip", always=True).scales,
    }
    for method, how in direct.items():
        expected = token_bits(model, passages.tokens, how).mean()
        assert rows[method, L].bits_per_token == pytest.approx(expected, rel=1e-6)
    assert rows["fresh-window", L].harm == 0
    assert sum(watched) > 6 * passages.tokens.size
    assert found.pairs == ()  # no reference is run
    assert [note.partition(":")[2].partition(":")[0] for note in job.notes] == ["hard-clip"]


def test_others_are_compared_with_the_reference(make_model):
    found = evaluation(make_model("mamba2")).run(METHODS)
    assert {(p.method, p.reference) for p in found.pairs} == {("none", "spectrum"), ("fresh-window", "spectrum")}
    by_name = evaluation(make_model("mamba2"), reference="none").run(METHODS)
    first = next(p for p in by_name.pairs if p.method == "spectrum" and p.length == L)
    rows = {r.method: r for r in by_name.rows if r.length == L}
    assert first.difference == pytest.approx(rows["spectrum"].tail_bits_per_token - rows["none"].tail_bits_per_token)
    assert {(row.method, row.start) for row in found.curve} >= {("none", 1), ("spectrum", 64)}


def test_short_documents_count_where_they_reach(make_model):
    texts = (*documents(3), documents(4, 1, 50)[0])
    passages = cut_passages(texts, L, 2, shorter=[32])
    found = evaluation(make_model("mamba"), passages, batch=3).run(["none", "fresh-window"])
    counts = {(r.length, r.documents, r.passages) for r in found.rows}
    assert counts == {(32, 4, 7), (L, 3, 6)}


def test_a_resumed_evaluation_runs_nothing_again_and_is_the_same(make_model, tmp_path):
    watched = []
    found = evaluation(make_model("mamba2")).run(METHODS)
    with folder(tmp_path / "run") as run:
        assert evaluation(make_model("mamba2")).run(METHODS, folder=run).to_dict() == found.to_dict()
        again = evaluation(make_model("mamba2"))
        assert again.run(METHODS, folder=run, tick=watched.append).to_dict() == found.to_dict()
    assert not watched
    assert len(again.notes) == 1
    assert sum(path.stat().st_size for path in (tmp_path / "run/data").rglob("*.safetensors")) < 8 * 3 * L * len(
        METHODS
    )


def test_a_kill_anywhere_leaves_the_same_bytes(make_model, tmp_path):
    with folder(tmp_path / "whole") as run:
        whole, passed = evaluation(make_model("mamba2"), batch=1), []
        found = whole.run(METHODS, folder=run, tick=passed.append)
    for k, share in enumerate((0.05, 0.5, 0.8, 0.9, 0.97)):  # in the diagnosis, and in each method
        path = tmp_path / f"killed-{k}"
        with pytest.raises(KeyboardInterrupt), folder(path) as run:
            evaluation(make_model("mamba2"), batch=1).run(METHODS, folder=run, tick=Dying(share * sum(passed)))
        with folder(path) as run:
            resumed = evaluation(make_model("mamba2"), batch=1)
            assert resumed.run(METHODS, folder=run).to_dict() == found.to_dict()
        assert resumed.notes == whole.notes
        assert (path / "journal.jsonl").read_bytes() == (tmp_path / "whole/journal.jsonl").read_bytes()


def test_what_methods_need_is_said(make_model, make_config):
    job = evaluation(make_model("mamba"), train_length=None)
    for method, message in [
        ("fresh-window", "--train-length"),
        ("spectrum", "--train-length"),
        ("rule:hard-clip", "--train-length"),
        ("scales", "--scales FILE"),
        ("constant:x", "above 0 or best, as in constant:a:2"),
        ("constant:b:2", "Expected a kind out of a, a_power, dt"),
        ("rule:hard-clap", "hard-clip"),
        ("magic", "Expected one of none"),
    ]:
        with pytest.raises(RefusedInputError, match=message):
            job.run([method])
    check_methods(["none", "constant:2", "spectrum", "constant:a_power:0.5", "rule:hard-clip:4"], make_config("mamba"))
    with pytest.raises(RefusedInputError, match="above 0"):
        check_methods(["constant:-1"], make_config("mamba"))
    with pytest.raises(ScaleError, match=r"from 1\.26e-29 to"):
        check_methods(["constant:1e300"], make_config("mamba"))
    with pytest.raises(TextError, match="twice the training length"):
        evaluation(make_model("mamba"), train_length=400).run(["spectrum"])
    assert check_reference(None, ["none"]) is None
    with pytest.raises(RefusedInputError, match="expected one of the methods, none"):
        check_reference("spectrum", ["none"])


class DropsEarly:
    """Lets only the last tokens behind the first layer, as a method that decimates does."""

    def __init__(self, tail):
        self.tail = tail

    def boundaries(self):
        return ()

    def __call__(self, layer, position, dynamics):
        self.rows, self.length = dynamics.dt.shape[:2]
        return dynamics

    def kept(self, layer, position):
        return torch.arange(self.length - self.tail, self.length).expand(self.rows, -1) if layer == 0 else None


def test_a_method_that_drops_tokens_has_its_last_ones_alone(make_model):
    model, passages = make_model("mamba2"), cut_passages(documents(3), L)
    setup = Setup(model, DropsEarly(LAST + 1), last_only=True)
    sums = score_setup(setup, passages, edges_for([L]))
    (row,) = rows_of("drops", sums, passages, [L], score_setup(Setup(model), passages, edges_for([L])))
    assert (row.bits_per_token, row.tail_bits_per_token, row.perplexity, row.harm) == (None,) * 4
    assert (row.documents, row.tokens) == (3, 3 * LAST)
    (block,) = model.stream(passages.tokens[:, :-1], intervention=DropsEarly(LAST + 1))
    logits = block.logits()[:, -LAST:].log_softmax(-1)
    wanted = torch.from_numpy(passages.tokens[:, -LAST:].astype(np.int64))
    direct = -logits.gather(-1, wanted[..., None]).mean() / np.log(2)
    assert row.last_bits_per_token == pytest.approx(float(direct), rel=1e-6)
    assert perplexity_text([row]).splitlines()[1].split()[2:5] == ["-"] * 3
    with pytest.raises(ValueError, match="drops some of the last 100 tokens"):
        score_setup(Setup(model, DropsEarly(LAST - 1), last_only=True), passages, edges_for([L]))


def test_methods_that_differ_by_length_are_run_for_each(make_model, tmp_path):
    """The best constant of each length has its own factor; both lengths are scored with theirs."""
    model, passages = make_model("mamba2"), cut_passages(documents(3), L)
    job = evaluation(model, passages, validation=documents(2), fit_length=64)
    with folder(tmp_path / "run") as run:
        found = job.run(["constant:a:best"], folder=run)
    chosen = {n: float(s) for s, n in re.findall(r"([\d.e+]+) at (\d+)", job.notes[0].partition("tokens: ")[2])}
    assert len(set(chosen.values())) == 2
    for row in found.rows:
        (scales,) = (s for s in GRIDS["a"] if f"{s:.3g}" == f"{chosen[str(row.length)]:.3g}")
        expected = token_bits(model, passages.tokens[:, : row.length], scaling("a", scales)).mean()
        assert row.bits_per_token == pytest.approx(expected, rel=1e-6)


def test_a_rule_for_a_length_is_not_shown_on_texts_that_end_before(make_model):
    """The curve of such a method, and of the control beside it, is of the documents that reach its length."""
    texts = (*documents(3, 2), documents(4, 1, 50)[0])
    passages = cut_passages(texts, L, shorter=[32])
    job = evaluation(make_model("mamba2"), passages, validation=documents(2))
    found = job.run(["none", "longmamba", "fresh-window"])
    by_method = {m: [row for row in found.curve if row.method == m] for m in ("none", "longmamba", "fresh-window")}
    assert {row.documents for row in by_method["none"] if row.stop <= 32} == {3}
    assert {row.documents for row in by_method["longmamba"]} == {2}
    assert {(r.length, r.documents) for r in found.rows if r.method == "longmamba"} == {(32, 3), (L, 2)}
    alone = evaluation(make_model("mamba2"), cut_passages(texts[:2], L)).run(["longmamba", "fresh-window"])
    assert [row for row in alone.curve if row.method == "longmamba"] == by_method["longmamba"]


def test_whole_prompts_run_one_at_a_time(make_model):
    class Rows(DropsEarly):
        def __init__(self):
            super().__init__(LAST + 1)
            self.most = 0

        def __call__(self, layer, position, dynamics):
            self.most = max(self.most, dynamics.dt.shape[0])
            return super().__call__(layer, position, dynamics)

        def kept(self, layer, position):
            return None

    rule, passages = Rows(), cut_passages(documents(3), L)
    whole = score_setup(Setup(make_model("mamba2"), rule), passages, edges_for([L]), batch=3)
    assert rule.most == 1
    plain = score_setup(Setup(make_model("mamba2")), passages, edges_for([L]), batch=3)
    np.testing.assert_allclose(whole.whole(L), plain.whole(L), rtol=1e-6)


def test_a_reference_without_a_tail_is_told(make_model):
    passages = cut_passages(documents(3), 256)  # the last 100 tokens do not reach back to its middle
    job = evaluation(make_model("mamba2"), passages, lengths=[256], reference="decimamba:0")
    found = job.run(["none", "decimamba:0"])
    assert found.pairs == ()
    assert any("no differences from decimamba:0 at 256" in note for note in job.notes)


def test_progress_is_foreseen(make_model):
    """What was ticked is near what was planned, for every way of running."""
    methods = ["none", "fresh-window", "spectrum", "decimamba", "longmamba", "constant:a:best", "state-passing:noise"]
    texts = documents(2, 3, 2000)
    job = evaluation(make_model("mamba2"), validation=texts, calibration=documents(1, 3, 2000))
    ticked = []
    job.run(methods, tick=ticked.append)
    assert 0.5 < sum(ticked) / job.planned_tokens(methods) < 2
