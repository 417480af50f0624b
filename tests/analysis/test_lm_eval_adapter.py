"""Test ``mambascope.analysis.lm_eval_adapter`` and ``harness_scores``: lm_eval's requests, and lm_eval itself."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from mambascope.analysis import lm_eval_adapter
from mambascope.analysis.harness_scores import HarnessScores, _refuse_code, _rows, lm_eval_scores
from mambascope.analysis.lm_eval_adapter import Requests, limit_and_stops, register
from mambascope.spectra.errors import RefusedInputError, ScaleError, UnsafeCheckpointError
from mambascope.spectra.loading import load
from mambascope.spectra.scales import scaling
from tests.spectra.tiny import save_tiny

HERE = importlib.util.find_spec("lm_eval") is not None


@dataclass
class Instance:
    """As lm_eval's: only ``args`` is read."""

    arguments: tuple

    @property
    def args(self):
        return self.arguments


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "small", "mamba2")


def test_requests_are_answered_in_order_with_scales_in_every_step(folder, tmp_path):
    scales = scaling("a", 0.02)
    scales.save(tmp_path / "scales.json")
    adapter, plain = Requests(str(folder), scales=str(tmp_path / "scales.json"), device="cpu"), Requests(str(folder))
    pairs = [("Q: one\nA:", " yes"), ("Q: one\nA:", " no"), ("", "x"), ("other", " text")]
    found = adapter.loglikelihood([Instance(pair) for pair in pairs], disable_tqdm=True)
    assert found == [adapter.language.loglikelihood(*pair) for pair in pairs]
    assert all(isinstance(total, float) and isinstance(greedy, bool) for total, greedy in found)
    assert found != plain.loglikelihood([Instance(pair) for pair in pairs], disable_tqdm=True)
    texts = ["One text.", "", "Another"]
    rolling = adapter.loglikelihood_rolling([Instance((text,)) for text in texts], disable_tqdm=True)
    assert rolling == [adapter.language.rolling(text) for text in texts]
    how = {"until": ["\n\n"], "max_gen_toks": 7, "do_sample": False, "temperature": 0.0}
    (answer,) = adapter.generate_until([Instance(("The box", how))], disable_tqdm=True)
    prompt = np.frombuffer(b"The box", np.uint8)[None]
    expected = load(folder, device="cpu").generate(prompt, 7, intervention=scales)[0].tolist()
    assert answer == adapter.language.decode(expected).split("\n\n")[0]


def test_answers_come_in_order_whatever_the_batch(folder):
    asked = [Instance((f"{'The box. ' * k}Q{k}", {"max_gen_toks": 4 + k, "until": ["\n"]})) for k in range(5)]
    batches = {None: 16, "auto": 16, "auto:4": 16, "2": 2, 1: 1}
    found = []
    for size, rows in batches.items():
        adapter = Requests(folder, device="cpu", batch_size=size)
        assert adapter.language.rows == rows
        found.append(adapter.generate_until(asked, disable_tqdm=True))
    expected = [adapter.language.answer(context, *limit_and_stops(how)) for context, how in (a.args for a in asked)]
    assert all(each == expected for each in found)
    with pytest.raises(RefusedInputError, match="batch_size '0': expected a whole number of 1 or more"):
        Requests(folder, device="cpu", batch_size="0")


def test_a_result_says_how_it_was_made(folder):
    about = Requests(folder, scaling("a", 2.0), device="cpu").get_model_info()
    assert about["max_length"] == "no limit: every text is read whole"
    assert about["truncation"] == "none"
    assert about["scales"]["factors"][0]["kind"] == "a"
    assert (about["prefix_token"], about["truncated_requests"]) == (256, 0)
    assert about["tokenizer"] == str(folder / "tokenizer.json")
    cut = Requests(folder, max_length="6", device="cpu")  # as a command line gives it
    cut.loglikelihood([Instance(("0123456789", "a"))], disable_tqdm=True)
    about = cut.get_model_info()
    assert (about["max_length"], about["truncation"], about["truncated_requests"]) == (6, "left", 1)
    assert about["scales"] == "none"
    json.dumps(about)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, (256, ())),
        ({"until": ["\n", "Q:"], "max_gen_toks": 5}, (5, ("\n", "Q:"))),
        ({"until": "\n", "max_new_tokens": 6, "do_sample": False, "temperature": 1, "top_p": 0.9}, (6, ("\n",))),
        ({"max_tokens": "7", "max_gen_toks": 8, "num_beams": 1, "until": None, "temperature": 0.0}, (8, ())),
    ],
)
def test_how_answers_end(how, expected):
    assert limit_and_stops(how) == expected


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"do_sample": True}, "answers are greedy here"),
        ({"temperature": 0.7}, "answers are greedy here"),
        ({"num_beams": 4}, "answers are greedy here"),
        ({"repetition_penalty": 1.2}, "repetition_penalty may change the answers"),
        ({"max_gen_toks": 0}, "max_gen_toks 0: expected a whole number of 1 or more"),
        ({"max_gen_toks": "many"}, "max_gen_toks 'many': expected a whole number"),
    ],
)
def test_what_would_not_be_done_is_refused(how, told):
    with pytest.raises(RefusedInputError, match=told):
        limit_and_stops(how)


def test_bad_arguments_are_refused(folder):
    with pytest.raises(RefusedInputError, match="truncation 'right': expected left or middle"):
        Requests(folder, truncation="right")
    with pytest.raises(RefusedInputError, match=r"max_length '2\.5'"):
        Requests(folder, max_length="2.5")
    with pytest.raises(ScaleError, match="cannot read the scales"):
        Requests(folder, scales="nowhere.json")
    with pytest.raises(RefusedInputError, match="has no chat template"):
        Requests(folder, device="cpu").apply_chat_template([])


@pytest.mark.skipif(HERE, reason="lm_eval is installed")
def test_without_the_harness_the_extra_is_named(folder):
    for ask in (register, lambda: lm_eval_adapter.MambascopeLM, lambda: lm_eval_scores(folder, ["x"])):
        with pytest.raises(RefusedInputError, match=r'pip install "mambascope\[eval\]"'):
            ask()


def test_the_harnesss_table_is_read():
    raw = {
        "results": {
            "one": {"alias": "one", "acc,none": 0.5, "acc_stderr,none": 0.1, "f1,strict": 2, "f1_stderr,strict": "N/A"},
            "group": {"alias": " - group", "acc,none": 0.25},
        },
        "n-samples": {"one": {"original": 9, "effective": 4}},
        "versions": {"one": 2.0},
    }
    rows = _rows(raw)
    assert [(r.task, r.metric, r.filter, r.value, r.stderr, r.samples, r.version) for r in rows] == [
        ("one", "acc", "none", 0.5, 0.1, 4, "2.0"),
        ("one", "f1", "strict", 2.0, None, 4, "2.0"),
        ("group", "acc", "none", 0.25, None, None, ""),
    ]
    found = HarnessScores(tuple(rows), {"lm_eval": "x"})
    assert found.value("group", "acc") == 0.25
    assert repr(found) == "HarnessScores(one acc 0.5, one f1 2, group acc 0.25)"
    json.dumps(found.to_dict())


TASKS = {
    "ms_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{label}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False},
        ],
    },
    "ms_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
    "ms_answer": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 1.0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}
IN_THE_HARNESS = """
import json, sys
from pathlib import Path
from mambascope.analysis.harness_scores import lm_eval_scores
from mambascope.spectra.scales import Scales
folder, baked, tasks, scales = map(Path, sys.argv[1:5])
names = ["ms_choice", "ms_rolling", "ms_answer"]
found = {"none": lm_eval_scores(folder, names, include=tasks, resamples=10, device="cpu")}
found["scaled"] = lm_eval_scores(folder, names, scales=scales, include=tasks, resamples=10, device="cpu")
found["baked"] = lm_eval_scores(baked, names, include=tasks, resamples=10, device="cpu")
found["cut"] = lm_eval_scores(folder, names, include=tasks, resamples=10, device="cpu", max_length=16)
document = {name: scores.to_dict() for name, scores in found.items()}
import lm_eval
from lm_eval.tasks import TaskManager
raw = lm_eval.simple_evaluate(
    model="mambascope", model_args={"pretrained": str(folder), "scales": str(scales), "device": "cpu"},
    tasks=names, task_manager=TaskManager(include_path=str(tasks), include_defaults=False), bootstrap_iters=0,
)
document["by name"] = {"config": {k: str(v) for k, v in raw["config"].items()}, "results": raw["results"]}
if len(sys.argv) > 5:
    from lm_eval.models.huggingface import HFLM
    lm = HFLM(pretrained=str(baked), device="cpu", dtype="float32", max_length=4096)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    raw = lm_eval.simple_evaluate(model=lm, tasks=names, task_manager=manager, bootstrap_iters=0)
    document["transformers"] = {"results": raw["results"]}
    from lm_eval.api.instance import Instance
    from mambascope.analysis.lm_eval_adapter import register
    how = {"until": ["\\n"], "max_gen_toks": 24, "do_sample": False}
    asked = [Instance("generate_until", {}, (f"Box {k}", how), 0) for k in range(4)]
    models = {"ours": register()(folder, scales, device="cpu"), "theirs": lm}
    document["answers"] = {name: model.generate_until(asked, disable_tqdm=True) for name, model in models.items()}
print(json.dumps(document, default=str))
"""


def local_tasks(place):
    """Tasks of the harness over files of our own."""
    place.mkdir()
    lines = [
        {"question": f"Box {k}: ", "choices": ["ab", "cd", "ef"], "label": k % 3, "text": f"Text {k} " * 4}
        for k in range(8)
    ]
    (place / "made-up.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(place / "made-up.jsonl")}}}
    for name, task in TASKS.items():  # JSON is YAML
        whole = {"task": name, "test_split": "test", "metadata": {"version": 1.0}} | data | task
        (place / f"{name}.yaml").write_text(json.dumps(whole))
    return place


def without_padding(folder):
    """Make the ids that no text gives impossible to write: decoders differ in what they make of them."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    (embedding,) = (name for name in tensors if "embed" in name)
    tensors[embedding][257:] = 0
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.skipif(not HERE, reason='lm_eval is not installed: pip install "mambascope[eval]"')
def test_the_harness_itself_scores_scaled_and_baked_models_alike(folder, tmp_path):
    from mambascope.analysis import bake

    without_padding(folder)
    scales = scaling("a", 0.05)
    scales.save(tmp_path / "scales.json")
    bake(folder, scales, tmp_path / "baked")
    words = [folder, tmp_path / "baked", local_tasks(tmp_path / "tasks"), tmp_path / "scales.json"]
    words += ["transformers"] if all(map(importlib.util.find_spec, ("transformers", "accelerate"))) else []
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_HARNESS, *map(str, words)], env=os.environ | home, capture_output=True,
        text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    by_name = {
        name: {(r["task"], r["metric"]): r["value"] for r in each["rows"]}
        for name, each in found.items()
        if "rows" in each
    }
    rolling, brier = ("ms_rolling", "byte_perplexity"), ("ms_choice", "brier_score")
    assert by_name["none"].keys() == {("ms_choice", "acc"), brier, rolling, ("ms_answer", "exact_match")}
    adapter = Requests(folder, scales, device="cpu")
    texts = [json.loads(line)["text"] for line in (tmp_path / "tasks/made-up.jsonl").read_text().splitlines()]
    total = sum(adapter.language.rolling(text) for text in texts)
    assert by_name["scaled"][rolling] == pytest.approx(np.exp(-total / sum(map(len, texts))), rel=1e-5)
    for metric in (rolling, brier):
        assert by_name["none"][metric] != pytest.approx(by_name["scaled"][metric], rel=1e-3)
    if "answers" in found:
        assert found["answers"]["ours"] == found["answers"]["theirs"]
        assert all(found["answers"]["ours"])
    for task in by_name["none"]:
        assert by_name["baked"][task] == pytest.approx(by_name["scaled"][task], rel=1e-5)
        told = found["by name"]["results"][task[0]][f"{task[1]},none"]
        assert told == pytest.approx(by_name["scaled"][task], rel=1e-9)
        if "transformers" in found:
            told = found["transformers"]["results"][task[0]][f"{task[1]},none"]
            assert told == pytest.approx(by_name["baked"][task], rel=1e-4)
    assert found["by name"]["config"]["max_length"] == "no limit: every text is read whole"
    assert found["scaled"]["about"]["scales"]["factors"][0]["values"] == 0.05
    assert found["none"]["about"]["truncated_requests"] == 0
    assert found["cut"]["about"]["truncated_requests"] >= 8
    assert found["cut"]["about"]["max_length"] == 16
    assert by_name["cut"][rolling] != by_name["none"][rolling]
    assert {row["samples"] for row in found["none"]["rows"]} == {8}


@pytest.mark.skipif(not HERE, reason='lm_eval is not installed: pip install "mambascope[eval]"')
def test_the_model_is_registered_on_import_and_lengths_are_refused_that_would_be_cut(folder):
    from lm_eval.api.model import LM
    from lm_eval.api.registry import get_model

    assert get_model("mambascope") is register()
    assert issubclass(lm_eval_adapter.MambascopeLM, LM)
    with pytest.raises(RefusedInputError, match="prompts of 4096 tokens would be cut to max_length 2048"):
        lm_eval_scores(folder, ["niah_single_1"], lengths=[1024, 4096], max_length=2048, device="cpu")


@pytest.mark.parametrize("key", ["auto_map", "auto\\u005fmap"])
def test_code_in_a_models_folder_is_not_run(folder, key):
    path = folder / "tokenizer_config.json"
    before = path.read_text()
    _refuse_code(folder)
    named = f'{{"{key}": {{"AutoTokenizer": ["own.Tokenizer", null]}}, '
    path.write_text(named + before.lstrip()[1:])
    try:
        with pytest.raises(UnsafeCheckpointError, match=r"tokenizer_config\.json: names code \(auto_map\)"):
            _refuse_code(folder)
    finally:
        path.write_text(before)


def test_the_module_has_nothing_else():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lm_eval_adapter.nothing
    assert Path(lm_eval_adapter.__file__).name == "lm_eval_adapter.py"
