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
    with pytest.raises(ScaleError, match="fit float32"):
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
