"""Test ``mambascope evaluate --task longbench``: tables that add up, resuming, refusals, and the page."""

import csv
import json
import re

import numpy as np
import pytest

from mambascope.analysis.longbench.evaluation import LongBenchFound
from mambascope.analysis.longbench.metrics import score
from mambascope.analysis.longbench.rows import average_rows, task_row
from mambascope.analysis.longbench.tasks import TASKS
from mambascope.analysis.side_by_side import SideBySide
from mambascope.figures.cli import main
from mambascope.figures.commands.evaluate_longbench import words
from mambascope.figures.longbench import sentences
from mambascope.figures.longbench_plots import scores_figure
from mambascope.spectra.scales import scaling
from mambascope.spectra.zoo import text_files
from tests.analysis.longbench.made_up import fill, jsonl, line
from tests.spectra.tiny import save_tiny

TITLES = ["Qasper", "HotpotQA", "2WikiMQA", "TREC", "TriviaQA", "LCC", "RepoBench-P"]


@pytest.fixture
def few(monkeypatch):
    """Answers of a few tokens: the machinery is what is tested."""
    import dataclasses

    for name, task in TASKS.items():
        monkeypatch.setitem(TASKS, name, dataclasses.replace(task, answer_tokens=4))


@pytest.fixture
def asked(tmp_path, few):
    """A small model, all seven tasks, and short texts to fit on."""
    model, data = save_tiny(tmp_path / "small", "mamba2", train_length=64), fill(tmp_path / "data", samples=2)
    found = [
        "evaluate",
        str(model),
        "--task",
        "longbench",
        "--device",
        "cpu",
        "--data",
        str(data),
        "--max-length",
        "96",
    ]
    for role in ("calibration", "validation"):
        (tmp_path / f"{role}.txt").write_bytes(text_files(role)[0].read_bytes()[:6000])
        found += [f"--{role}", str(tmp_path / f"{role}.txt")]
    return found


def ran(capsys, asked, *more, code=0):
    found = main([*asked, *map(str, more)])
    shown = capsys.readouterr()
    assert found == code, shown.err
    return shown


def table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_json_document_with_rows_averages_and_differences(capsys, asked):
    shown = ran(capsys, asked, "--methods", "none,constant:a:2,spectrum", "--json")
    found = json.loads(shown.out)
    assert (found["task"], found["train_length"], found["max_length"], found["bos"]) == ("longbench", 64, 96, None)
    assert [(r["method"], r["task"]) for r in found["rows"]] == [
        (method, task) for method in ("none", "constant:a:2", "spectrum") for task in TASKS
    ]
    for row in found["rows"]:
        assert row.keys() >= {"metric", "score", "samples", "ci_low", "ci_high", "truncated", "answer_limit", "broken"}
        assert (row["samples"], row["truncated"], row["prompt_tokens"], row["prompts"]) == (2, 2, 96, "official")
    for average in found["averages"]:
        own = [row["score"] for row in found["rows"] if row["method"] == average["method"]]
        assert average["score"] == pytest.approx(sum(own) / 7)
    assert {(row["method"], row["reference"]) for row in found["pairs"]} == {
        ("constant:a:2", "none"),
        ("spectrum", "none"),
    }
    assert [row["task"] for row in found["pairs"][:8]] == [*TASKS, "average"]
    assert found["truncation"].startswith(
        "prompts of more than 96 tokens keep their first and last 48; 14 of 14 were cut"
    )
    assert [each["method"] for each in found["methods"]] == ["none", "constant:a:2", "spectrum"]


@pytest.fixture
def written(monkeypatch):
    """Answers that score something, each method its own."""
    from mambascope.analysis.longbench import evaluation

    def decode(_):
        return "City blue return total lamp"

    job = evaluation.LongBenchJob
    monkeypatch.setattr(evaluation, "LongBenchJob", lambda fits, asked, _, *more: job(fits, asked, decode, *more))


def test_table_2_adds_up_and_every_answer_is_kept(capsys, asked, written, tmp_path):
    shown = ran(capsys, asked, "--methods", "none,constant:dt:0.5", "-o", tmp_path / "run")
    rows = table(tmp_path / "run/tables/table2.csv")
    assert list(rows[0]) == ["method", *TITLES, "average"]
    assert [row["method"] for row in rows] == ["none", "constant:dt:0.5"]
    for row in rows:
        cells = [float(row[title]) for title in TITLES]
        assert len(set(cells)) > 3
        assert abs(sum(cells) / 7 - float(row["average"])) <= 0.005 + 1e-9
    pair = json.loads((tmp_path / "run/tables/longbench-paired.json").read_text())["rows"][-1]
    told = f"constant:dt:0.5 less none, average on the same 14 samples: {pair['difference']:+.2f} ["
    assert told in " ".join(shown.out.split())
    shown_row = shown.out.splitlines()[1].split()
    assert [float(cell) for cell in shown_row[1:]] == [float(rows[0][name]) for name in [*TITLES, "average"]]
    for slug in ("none", "constant-dt-0.5"):
        for task in TASKS.values():
            kept = (tmp_path / f"run/predictions/{slug}/{task.name}.jsonl").read_text()
            lines = [json.loads(each) for each in kept.removesuffix("\n").split("\n")]
            own = [score(task, each["pred"], each["answers"], each["all_classes"] or ()) for each in lines]
            assert own == [each["score"] for each in lines]
            printed = next(float(row[task.title]) for row in rows[:1])
            assert round(100 * sum(own) / len(own), 2) == printed
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert {each["name"] for each in manifest["inputs"] if each["role"] == "longbench"} == {f"{n}.jsonl" for n in TASKS}
    assert json.loads((tmp_path / "run/scales/constant-dt-0.5.json").read_text())["factors"][0]["values"] == 0.5


def test_the_page_has_the_table_and_says_what_was_cut(capsys, asked, written, tmp_path):
    ran(capsys, asked, "--methods", "none,constant:a:2", "-o", tmp_path / "run")
    page = (tmp_path / "run/table2.html").read_text()
    cells = table(tmp_path / "run/tables/table2.csv")[0]
    assert (tmp_path / "run/figures/longbench.png").stat().st_size > 1000
    for title in [*TITLES, "average"]:
        assert f"{title}</th>" in page
        assert f">{float(cells[title]):.2f}" in page
    assert "prompts of more than 96 tokens keep their first and last 48" in page
    assert "Difference from none" in page
    assert "<dt>seed</dt><dd>0</dd>" in page
    assert "qasper.jsonl (" in page
    assert "calibration.txt" not in page  # nothing was fitted on it
    ran(capsys, asked, "--methods", "none,spectrum", "-o", tmp_path / "run")
    page = (tmp_path / "run/table2.html").read_text()
    assert "calibration.txt (" in page
    assert "validation.txt" not in page
    assert "http" not in re.sub(r"<style>.*?</style>", "", page)  # nothing is loaded


def test_the_same_command_goes_on_and_more_methods_are_added(capsys, asked, tmp_path, monkeypatch):
    ran(capsys, asked, "--methods", "none", "--tasks", "lcc,trec", "-o", tmp_path / "run")
    ran(capsys, asked, "--methods", "spectrum", "--tasks", "lcc,trec", "-o", tmp_path / "run")
    written, answers = [], SideBySide.answers
    monkeypatch.setattr(SideBySide, "answers", lambda *a: (written.append(1) or each for each in answers(*a)))
    ran(capsys, asked, "--methods", "none,constant:a:2", "--tasks", "trec,lcc", "-o", tmp_path / "run", "--batch", 2)
    assert len(written) == 4  # another batch is not another run
    assert [row["method"] for row in table(tmp_path / "run/tables/table2.csv")] == ["none", "constant:a:2"]
    shown = ran(capsys, asked, "--methods", "none", "--tasks", "trec", "-o", tmp_path / "run", code=3)
    assert "holds a different run" in shown.err


def test_the_batch_changes_no_file(capsys, asked, tmp_path, monkeypatch):
    rows, answers = [], SideBySide.answers
    monkeypatch.setattr(SideBySide, "answers", lambda each, asked: rows.append(each.rows) or answers(each, asked))
    words = ("--methods", "none,constant:dt:4", "--tasks", "lcc,qasper", "-o")
    for name, batch in (("one", ("--batch", 1)), ("two", ("--batch", 2)), ("default", ())):
        ran(capsys, asked, *words, tmp_path / name, *batch)
    assert sorted(set(rows)) == [1, 2, 16]
    runs = [tmp_path / name for name in ("one", "two", "default")]
    files = [{str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()} for run in runs]
    assert files[0].keys() == files[1].keys() == files[2].keys()
    for name in files[0].keys() - {"manifest.json", "journal.jsonl", ".lock"}:
        assert len({each[name].read_bytes() for each in files}) == 1, name


def test_scales_from_a_file_are_a_method(capsys, asked, tmp_path):
    scaling("a", 0.05).save(tmp_path / "own.json")
    words = ("--tasks", "lcc,qasper", "--limit", 1, "-o")
    ran(capsys, asked, "--methods", "none,scales", "--scales", tmp_path / "own.json", *words, tmp_path / "one")
    ran(capsys, asked, "--methods", "none,constant:a:0.05", *words, tmp_path / "two")
    kept = [
        {path.parent.name: path.read_bytes() for path in (tmp_path / run / "predictions").rglob("lcc.jsonl")}
        for run in ("one", "two")
    ]
    plain, scaled = ([each[name] for name in sorted(each, key=lambda name: name != "none")] for each in kept)
    assert plain == scaled
    assert plain[0] != plain[1]
    assert plain[0].count(b"\n") == 1


def test_some_tasks_longbench_e_and_a_range_of_words(capsys, asked, tmp_path):
    shown = ran(capsys, asked, "--methods", "none", "--tasks", "lcc,qasper", "--limit", 1, "--json")
    assert [row["task"] for row in json.loads(shown.out)["rows"]] == ["qasper", "lcc"]
    data = fill(tmp_path / "e", ["trec"], samples=3, suffix="_e")
    few = [*asked[:7], str(data), "--longbench-e", "--methods", "none"]
    shown = ran(capsys, few, "--json")
    found = json.loads(shown.out)
    assert [(row["task"], row["samples"], row["truncated"]) for row in found["rows"]] == [("trec", 3, 0)]
    assert "no files for Qasper, " in shown.err
    assert "The average is over 1 of the 7 tasks of the paper's Table 2." in found["notes"]
    longest = line("trec", 2, sentences=9)["length"]
    found = json.loads(ran(capsys, few, "--words", f"{longest}..9000", "--bos", 256, "--json").out)
    assert (found["rows"][0]["samples"], found["bos"]) == (1, 256)
    assert "token 256 comes before each prompt" in found["truncation"]


def test_ready_made_prompts_are_told_apart(capsys, asked, tmp_path):
    (tmp_path / "ready").mkdir()
    made = {"task": "qasper", "id": "1", "prompt": "Question: what?\nAnswer:", "answers": ["this"]}
    (tmp_path / "ready/qasper.jsonl").write_bytes(jsonl(made))
    shown = ran(capsys, [*asked[:7], str(tmp_path / "ready"), "--methods", "none"])
    assert "Prompts as the files have them, which need not be LongBench's own: Qasper." in " ".join(shown.out.split())
    assert "Truncation: none, every prompt is read whole" in " ".join(shown.out.split())
    assert "No interval stands" not in shown.out  # there is one sample


def test_a_plan_can_be_seen_before(capsys, asked):
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--methods", "none,constant:a:2", "--dry-run", "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"]
    assert told["models"][0]["tokens"] > 2 * 14 * (96 + 4)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--data", "nowhere"), "nowhere: there is no such folder or zip file"),
        (("--tasks", "qaspar"), "did you mean qasper?"),
        (("--methods", "none,fresh-window"), "fresh-window scores texts and answers no question"),
        (("--methods", "none,passkey:a"), "is trained on passkey prompts"),
        (("--methods", "none", "--reference", "spectrum"), "reference 'spectrum': expected one of the methods, none"),
        (("--methods", "scales"), "method 'scales' needs --scales FILE"),
        (("--limit", "0"), "--limit 0: expected at least 1"),
        (("--max-length", "1"), "--max-length 1: expected at least 2"),
        (("--batch", "0"), "--batch 0: expected at least 1"),
        (("--batch", "4", "--dtype", "bfloat16"), "--batch 4: in bfloat16 nearly every token is so close to another"),
        (("--starts", "2"), "--starts and --same-documents are for --task perplexity"),
        (("--words", "90000..90001"), "no sample has 90000 to 90001 words"),
        (("--bos", "9999"), "--bos 9999: expected an id from 0 to 263"),
        (("--examples", "3"), "--examples is for --task passkey"),
        (("--text", "x.txt"), "--text is for --task perplexity"),
    ],
)
def test_what_cannot_be_is_refused(capsys, asked, more, told):
    shown = ran(capsys, asked, *more, code=3)
    assert told in shown.err
    assert not shown.out


def test_a_bad_line_is_named_and_options_belong_to_their_task(capsys, asked, tmp_path):
    (tmp_path / "data/trec.jsonl").write_bytes(jsonl(line("trec")) + b"{}\n")
    assert "data/trec.jsonl: line 2: " in ran(capsys, asked, "--methods", "none", code=3).err
    assert main(["evaluate", "mamba2-tiny", "--data", "x"]) == 3
    assert "--data is for --task longbench" in capsys.readouterr().err
    assert main(["evaluate", "mamba2-tiny", "--task", "longbench"]) == 3
    assert "--task longbench needs --data DIR" in capsys.readouterr().err
    assert main(["evaluate", "mamba2-tiny", "--task", "passkey", "--longbench-e"]) == 3
    assert "--longbench-e is for --task longbench" in capsys.readouterr().err


def test_the_figure_shows_every_score_with_its_interval():
    rng = np.random.default_rng(0)
    methods, tasks = ["none", "spectrum", "constant:a:2"], ["qasper", "trec", "lcc"]
    scores = {(method, task): rng.random(5).tolist() for method in methods for task in tasks}
    scores["none", "trec"] = [0.0] * 5  # no interval
    told = {"truncated": 0, "ended": 0, "broken": 0, "ready_made": False}
    rows = [
        task_row(method, TASKS[task], scores[method, task], prompt_tokens=[9] * 5, answer_tokens=[3] * 5, **told)
        for method in methods
        for task in tasks
    ]
    averages = average_rows(rows, scores)
    found = LongBenchFound("x", None, None, tuple(rows), tuple(averages), (), (), ())
    assert any(told.startswith("No interval stands where all samples of a task") for told in sentences(found))
    figure = scores_figure(found)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["Qasper", "TREC", "LCC", "average"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == methods
    for axes, shown in zip(panels, [*([row for row in rows if row.task == t] for t in tasks), averages], strict=True):
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in points] == [row.score for row in shown]
        assert [line.get_ydata()[0] for line in points] == [0, 1, 2]
        ends = [tuple(line.get_xdata()) for line in axes.lines if line.get_marker() != "o"]
        assert ends == [(row.ci_low, row.ci_high) for row in shown if row.ci_low is not None]
        assert axes.get_xlim()[0] == 0
        assert axes.get_xlim()[1] >= max(row.score for row in shown)
        assert not any(line.get_clip_on() for line in points)  # a score of 0 is a whole dot
    assert panels[0].yaxis_inverted()


@pytest.mark.parametrize("text", ["4000", "a..b", "9..3", "..", "-1..3"])
def test_ranges_of_words(text):
    import argparse

    with pytest.raises(argparse.ArgumentTypeError, match="expected a range of words"):
        words(text)
    assert words("0..10") == (0, 10)
