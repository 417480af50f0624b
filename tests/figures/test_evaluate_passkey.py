"""Test ``mambascope evaluate --task passkey``: the contract of its rows, resuming, refusals, tables and the figure."""

import csv
import json

import numpy as np
import pytest

from mambascope.analysis.methods.method import Fitted
from mambascope.analysis.passkey.evaluation import PasskeyFound, _summary
from mambascope.analysis.passkey.grid import PasskeyCell, PasskeyGrid, PasskeyPlan
from mambascope.analysis.passkey.keys import part_of
from mambascope.figures.cli import main
from mambascope.figures.passkey import summary_rows
from mambascope.figures.passkey_plots import grid_figure
from mambascope.spectra.checkpoint import save_checkpoint
from mambascope.spectra.zoo import text_files
from tests.analysis.passkey.conftest import joining_tokenizer
from tests.spectra.tiny import save_tiny, tiny_model


@pytest.fixture
def words(tmp_path):
    """A small model and short texts."""
    model = save_tiny(tmp_path / "small", "mamba2", train_length=180)
    files = {}
    for role in ("calibration", "validation", "test"):
        files[role] = tmp_path / f"{role}.txt"
        files[role].write_bytes(text_files(role)[0].read_bytes()[:12_000])
    return [
        "evaluate", str(model), "--task", "passkey", "--device", "cpu", "--calibration", str(files["calibration"]),
        "--validation", str(files["validation"]), "--noise", str(files["test"]),
    ]  # fmt: skip


def ran(capsys, words, *more, code=0):
    found = main([*words, *map(str, more)])
    shown = capsys.readouterr()
    assert found == code, shown.err
    return shown


def test_rows_keep_the_contract(capsys, words):
    shown = ran(
        capsys, words, "--methods", "none,constant:a:2", "--lengths", "180,360", "--depths", "0,1",
        "--examples", 3, "--far-examples", 2, "--json",
    )  # fmt: skip
    found = json.loads(shown.out)
    assert (found["task"], found["keys"], found["train_length"]) == ("passkey", "test", 180)
    assert [(r["method"], r["length"], r["depth"]) for r in found["rows"]] == [
        (m, n, d) for m in ("none", "constant:a:2") for n in (180, 360) for d in (0.0, 1.0)
    ]
    for row in found["rows"]:
        assert row.keys() >= {"solved", "examples", "ci_low", "ci_high"}
        assert (row["solved"], row["examples"], row["ci_low"]) == (0, 3, 0.0)  # 360 is not beyond 16 T = 2880
    assert [each["method"] for each in found["methods"]] == ["none", "constant:a:2"]
    assert found["methods"][0]["loss_inside"] == 0


def test_far_cells_have_fewer_keys_and_the_table_says_so(capsys, words):
    shown = ran(
        capsys, words, "--methods", "none", "--lengths", "180,3k", "--depths", "0.5", "--examples", 3,
        "--far-examples", 1,
    )  # fmt: skip
    assert "3 keys a cell, 1 beyond 2880 tokens" in shown.err
    assert shown.out.splitlines()[0].split()[:3] == ["method", "solved", "at"]


def test_a_run_goes_on_with_more_methods_and_writes_everything(capsys, words, tmp_path, monkeypatch):
    grid = ("--lengths", "180,360", "--examples", 2, "--depths", "0,1", "--steps", 1, "--rates", "0.01", "-o")
    ran(capsys, words, "--methods", "none", *grid, tmp_path / "run")
    calls = []
    from mambascope.analysis.passkey import evaluation

    cell = evaluation.passkey_grid
    monkeypatch.setattr(evaluation, "passkey_grid", lambda *a, **k: calls.append(k["method"]) or cell(*a, **k))
    shown = ran(capsys, words, "--methods", "none,passkey:a+dt,rule:onset", *grid, tmp_path / "run")
    assert calls == ["none", "passkey:a+dt", "rule:onset"]
    assert "lengthens the memory of" in shown.out
    made = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert made >= {
        "figures/passkey.png", "figures/passkey.pdf", "figures/passkey.svg", "tables/passkey.csv",
        "tables/passkey-methods.json", "tables/passkey-heads.csv", "tables/passkey-agreement.csv", "which-heads.txt",
        "scales/passkey-a-dt.json", "data/train/passkey-a+dt/tuning.safetensors",
    }  # fmt: skip
    with open(tmp_path / "run/tables/passkey-heads.csv", encoding="utf-8") as file:
        heads = list(csv.DictReader(file))
    assert len(heads) == 3 * 6
    for row in heads:
        assert float(row["horizon_in_T"]) == pytest.approx(float(row["horizon_tokens"]) / 180)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    shown = ran(capsys, words, "--methods", "none", *grid[:-1], "--seed", 1, "-o", tmp_path / "run", code=3)
    assert "holds a different run" in shown.err


def test_keys_of_the_validation_part_are_hidden_in_validation_text(capsys, words, monkeypatch):
    from mambascope.analysis.passkey import evaluation

    seen = []
    cell = evaluation.passkey_grid
    monkeypatch.setattr(evaluation, "passkey_grid", lambda task, *a, **k: seen.append(task) or cell(task, *a, **k))
    few = [*words[:-2], "--methods", "none", "--lengths", "180", "--examples", "2", "--depths", "0.5", "--json"]
    found = json.loads(ran(capsys, few, "--keys", "validation").out)
    assert found["keys"] == "validation"
    examples = seen[0].examples(75, 0.5, 5)
    assert {part_of(int(item.key)) for item in examples.items} == {"validation"}
    text = " ".join(text_files("validation")[0].read_bytes()[:12_000].decode("utf-8", "replace").split())
    noise = bytes(seen[0].noise.ids[: seen[0].noise.starts[3]].astype(np.uint8)).decode()
    assert " ".join(noise.split()[:12]) in text or seen[0].noise.ids.size > 12_000  # bundled texts where none is given


def test_a_model_with_a_tokenizer_answers_and_trains_as_well(capsys, words, tmp_path):
    pytest.importorskip("tokenizers")
    model = tiny_model("mamba", vocab_size=320, n_layer=1, d_state=4)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    folder = tmp_path / "joins"
    save_checkpoint(folder, model.config, tensors, "transformers", tokenizer_json=joining_tokenizer(), eos_id=256)
    few = ["evaluate", str(folder), *words[2:], "--train-length", "180", "--train-up-to", "360", "--steps", "1"]
    shown = ran(
        capsys, few, "--methods", "none,passkey:dt", "--lengths", "180", "--depths", "0.5", "--examples", 2,
        "--rates", "0.01", "--criterion", "word", "--json",
    )  # fmt: skip
    found = json.loads(shown.out)
    assert [row["method"] for row in found["rows"]] == ["none", "passkey:dt"]
    assert found["rows"][0]["prompt_tokens"] == 175
    assert len(found["heads"][0]["heads"]) == 48
    assert len(found["sentences"]) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--methods", "fresh-window"), "fresh-window scores texts"),
        (("--methods", "passky:a"), "did you mean passkey:a"),
        (("--lengths", "100"), "cannot hold the passkey prompt; give at least 169"),
        (("--examples", "0"), "--examples 0: expected at least 1"),
        (("--depths", "0,2"), "--depths 2: expected shares from 0 to 1"),
        (("--depths", "0,0.5,0.5"), "--depths: a depth is given twice"),
        (("--rates", "0"), "--rates 0: expected numbers above 0"),
        (("--train-up-to", "200", "--methods", "passkey:a"), "at least 360, twice the training length"),
    ],
)
def test_what_cannot_be_is_refused(capsys, words, more, told):
    shown = ran(capsys, words, "--examples", 1, "--lengths", 180, *more, code=3)
    assert told in shown.err
    assert not shown.out


def test_options_of_one_task_are_refused_by_the_other(capsys, words):
    shown = ran(capsys, words, "--text", words[-1], code=3)
    assert "give the texts that keys are hidden in with --noise" in shown.err
    assert main(["evaluate", "mamba2-tiny", "--examples", "3"]) == 3
    assert "--examples is for --task passkey" in capsys.readouterr().err


def found_of(shares):
    """Two methods, three lengths, two depths, T = 256; shares by method, depth and length, of 20 keys."""
    lengths, depths = (256, 512, 4096), (0.0, 1.0)
    plan = PasskeyPlan(lengths, depths, 20, far_examples=10, far_from=1024)
    grids = []
    for method, of in shares.items():
        cells = [
            PasskeyCell(method, n, d, n - 105, n - 5, d, round(of[i][j] * 20), 20, 0.0, 1.0)
            for j, n in enumerate(lengths)
            for i, d in enumerate(depths)
        ]
        grids.append(PasskeyGrid(tuple(cells)))
    fitted = tuple(Fitted(method, None, "how") for method in shares)
    summaries = tuple(_summary(f, g, 256, 2.0, 2.0, 256) for f, g in zip(fitted, grids, strict=True))
    return PasskeyFound("x", 256, "test", plan, tuple(grids), summaries, fitted)


def test_the_figure_shows_shares_outlines_what_is_solved_and_marks_T():
    shares = {"none": [[1.0, 0.5, 0.0], [0.95, 0.9, 0.0]], "passkey:a+dt": [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]}
    figure = grid_figure(found_of(shares))
    panels = [axes for axes in figure.axes if axes.collections and axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == list(shares)
    for axes, of in zip(panels, shares.values(), strict=True):
        np.testing.assert_allclose(axes.collections[0].get_array(), of)
        numbers = {(t.get_position()[0] - 0.5, t.get_position()[1] - 0.5): t.get_text() for t in axes.texts}
        assert [[numbers[column, row] for column in range(3)] for row in range(2)] == [
            [f"{100 * share:.0f}" for share in row] for row in of
        ]
        outlined = {(int(box.get_x()), int(box.get_y())) for box in axes.patches}
        assert outlined == {(j, i) for i in range(2) for j in range(3) if of[i][j] >= 0.95}
        (line,) = axes.lines
        assert list(line.get_xdata()) == [1, 1]  # behind the first length
        assert axes.yaxis_inverted()
    assert "20 keys a cell, 10 beyond 1024 tokens" in figure.get_suptitle()


def test_the_table_of_methods():
    shares = {"none": [[1.0, 0.5, 0.0], [1.0, 0.9, 0.0]], "passkey:a": [[1.0, 1.0, 0.0], [1.0, 0.95, 1.0]]}
    one, two = summary_rows(found_of(shares))
    assert (one["solved at"], one["solved up to"], one["in T"], one["times none"]) == ("256", "256", 1.0, 1.0)
    assert (two["solved at"], two["solved up to"], two["in T"], two["times none"]) == ("256 512", "512", 2.0, 2.0)
    assert two["keys inside T"] == 1.0
