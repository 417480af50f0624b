"""Test ``mambascope.analysis.evaluate.methods`` on small random models: names, passages, resuming."""

import numpy as np
import pytest

from mambascope.analysis.evaluate.bits import token_bits
from mambascope.analysis.evaluate.methods import Evaluation, check_methods, check_reference
from mambascope.analysis.evaluate.passages import cut_passages
from mambascope.analysis.proposal import propose_for
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import token_counter
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

    def boundaries(self):
        return ()

    def update(self, observation):
        self.left -= observation.dynamics.dt.shape[0] * observation.dynamics.dt.shape[1]
        if self.left < 0:
            raise KeyboardInterrupt


def test_methods_by_name(make_model):
    model, passages = make_model("mamba2"), cut_passages(documents(3), L)
    watched = []
    methods = ["none", "scales", "constant:5", "constant:dt:5", "rule:hard-clip", "fresh-window"]
    job = evaluation(model, passages, scales=scaling("a", 5.0), batch=2)
    found = job.run(methods, observers=[token_counter(watched.append)])
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
        assert again.run(METHODS, folder=run, observers=[token_counter(watched.append)]).to_dict() == found.to_dict()
    assert not watched
    assert len(again.notes) == 1
    assert sum(path.stat().st_size for path in (tmp_path / "run/data").rglob("*.safetensors")) < 8 * 3 * L * len(
        METHODS
    )


def test_a_kill_anywhere_leaves_the_same_bytes(make_model, tmp_path):
    with folder(tmp_path / "whole") as run:
        whole = evaluation(make_model("mamba2"), batch=1)
        found = whole.run(METHODS, folder=run)
    for k, tokens in enumerate((100, 2500, 3000, 3400)):  # in the diagnosis, and in each method
        path = tmp_path / f"killed-{k}"
        with pytest.raises(KeyboardInterrupt), folder(path) as run:
            evaluation(make_model("mamba2"), batch=1).run(METHODS, folder=run, observers=[Dying(tokens * 3)])
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
        ("constant:x", "constant:2"),
        ("constant:b:2", "expected a kind out of a, a_power, dt"),
        ("rule:hard-clap", "hard-clip"),
        ("magic", "expected some of"),
    ]:
        with pytest.raises(RefusedInputError, match=message):
            job.run([method])
    check_methods(["none", "constant:2", "spectrum", "constant:a_power:0.5", "rule:hard-clip:4"], make_config("mamba"))
    with pytest.raises(ScaleError, match="positive"):
        check_methods(["constant:-1"], make_config("mamba"))
    with pytest.raises(TextError, match="twice the training length"):
        evaluation(make_model("mamba"), train_length=400).run(["spectrum"])
    assert check_reference(None, ["none"]) is None
    with pytest.raises(RefusedInputError, match="expected one of the methods, none"):
        check_reference("spectrum", ["none"])
