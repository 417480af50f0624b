"""Test ``mambascope.analysis.resources``: what a run needs, by hand and against what is loaded; refusal; speed."""

import importlib.util
from pathlib import Path

import pytest
import torch

from mambascope.analysis import resource_formulas as formulas
from mambascope.analysis import resources
from mambascope.analysis.calibration.plan import make_plan
from mambascope.analysis.planned_work import calibration_work, gradient_work, methods_work
from mambascope.analysis.resource_limits import Limit
from mambascope.analysis.resources import (
    MemoryNeedError,
    Need,
    Work,
    check_need,
    need_of,
    times,
    together,
    tokens_per_second,
)
from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.loading import DTYPES, load


def module(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"spectra/{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


shapes, tiny = module("shapes"), module("tiny")


@pytest.fixture(params=["mamba", "mamba2"])
def checkpoint(request, tmp_path):
    ssm = {"layer": "Mamba2", "headdim": 16} if request.param == "mamba2" else {}
    return Checkpoint.open(shapes.write_shape("small", tmp_path, ssm_cfg=ssm, vocab_size=300))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_weights_and_states_are_those_of_the_loaded_model(checkpoint, dtype):
    model = load(checkpoint, device="cpu", dtype=dtype)
    assert formulas.weight_bytes(checkpoint.config, DTYPES[dtype]) == sum(p.nbytes for p in model.parameters())
    state = model.zero_state(3)
    held = sum(layer.conv.nbytes + layer.ssm.nbytes for layer in state.layers)
    assert 3 * formulas.state_bytes(checkpoint.config, DTYPES[dtype]) == held


def test_loading_holds_the_largest_tensor_twice_where_its_type_changes(tmp_path):
    folder = shapes.write_shape("small", tmp_path, vocab_size=300, dtype=torch.float16)
    with Checkpoint.open(folder) as checkpoint:
        embedding = 304 * 64  # padded to a multiple of 16
        largest = max(embedding, 64 * (2 * 128 + 2 * 128 + 2))  # in_proj
        assert formulas.loading_bytes(checkpoint, torch.float16) == 2 * largest
        assert formulas.loading_bytes(checkpoint, torch.float32) == 6 * largest


def test_the_parts_of_a_need_add_up_and_loading_counts_where_it_is_more(checkpoint):
    need = need_of("m", checkpoint, Work(100, rows=4, logits=True), dtype=torch.float32)
    assert need.peak_bytes == sum(need.parts.values())
    assert need.parts["states"] == 8 * formulas.state_bytes(checkpoint.config, torch.float32)
    assert need.parts["a block of 512 tokens"] == formulas.pass_bytes(checkpoint.config, torch.float32, 512)
    assert Need("m", {"weights": 10, "states": 1}, loading_bytes=5).peak_bytes == 15


def test_many_rows_make_a_block_longer_and_a_whole_prompt_is_one(checkpoint):
    assert Work(1, rows=8).block_tokens("cpu") == 512
    assert Work(1, rows=32).block_tokens("cpu") == 32 * 64
    assert Work(1, rows=2, longest_tokens=100).block_tokens("cpu") == 200
    assert Work(1, rows=1, whole_tokens=65536).block_tokens("cpu") == 65536
    need = need_of("m", checkpoint, Work(1, whole_tokens=65536), dtype=torch.float32)
    assert "a prompt of 65,536 tokens" in need.parts


def test_work_one_after_the_other_takes_the_most_of_each_and_the_tokens_of_both():
    both = Work(10, rows=8, remedies=("a",)).and_then(Work(5, rows=2, states=99, logits=True, remedies=("a", "b")))
    assert (both.tokens, both.rows, both.states, both.logits, both.remedies) == (15, 8, 99, True, ("a", "b"))


def test_what_does_not_fit_is_refused_with_parts_limit_and_remedies():
    need = Need(
        "mamba2-370m", {"weights": 1_500_000_000, "states": 300_000_000}, remedies=("--dtype bfloat16 saves 1",)
    )
    check_need(need, None)
    check_need(need, Limit(1_800_000_000, "free"))
    with pytest.raises(MemoryNeedError) as refused:
        check_need(need, Limit(1_799_999_999, "free on this machine"))
    told = str(refused.value)
    assert "mamba2-370m: needs about 1.8 GB of memory (weights 1.5 GB, states 300 MB)" in told
    assert "1.8 GB are free on this machine" in told
    assert "--dtype bfloat16" in told
    assert refused.value.exit_code == 5
    assert refused.value.limit.room_bytes == 1_799_999_999


def test_models_loaded_at_once_and_workers_add_up():
    one, two = Need("one", {"weights": 5, "states": 90}), Need("two", {"weights": 7, "states": 1})
    assert together([one, two]).parts == {"weights": 12, "states": 90}
    assert together([one]) is one
    assert times(one, 3).parts == {"weights": 20, "states": 270}
    assert "fewer --jobs" in times(one, 3).remedies


def test_methods_ask_for_what_they_do():
    def work(*names):
        return methods_work(names, 1000, 2, [256, 4096], 128, 2048)

    plain = Work(1000, 2, longest_tokens=4096, logits=True, remedies=("fewer rows (--batch)",))
    assert work("none", "constant:a:2", "scales") == plain
    assert work("fresh-window").rows == 32
    assert methods_work(["fresh-window"], 1000, 2, [256], 128, 2048).rows == 4
    assert work("decimamba").whole_tokens == work("longmamba:bound").whole_tokens == 4096
    assert work("longmamba").whole_tokens == 0
    assert "decimamba" in " ".join(work("decimamba").remedies)
    assert work("full-finetuning").trains
    assert work("full-finetuning").graph_tokens == 4 * 512
    assert not work("mambaextend").graph_tokens


def test_a_gradient_keeps_every_state_of_a_short_stream_and_few_of_a_long_one():
    assert gradient_work(2, 1024).states == 2 * (2 + 1 + 2)
    assert gradient_work(1, 512 * 100).states == 10 + 10 + 2
    plan = make_plan(train_length=256, target_length=4096, kind="a", granularity="head", start="ones",
                     method="backprop", seed=0)  # fmt: skip
    assert calibration_work(plan).graph_tokens == plan.batch * 512
    assert calibration_work(plan).tokens == plan.expected_passes() * 4096


def test_speed_is_tokens_over_the_time_of_the_longest_block(monkeypatch):
    model = tiny.tiny_model("mamba2")
    seen = []

    def timed(model, ids, state, logits):
        seen.append(tuple(ids.shape))
        return 1e-4 * ids.numel()

    monkeypatch.setattr(resources, "_timed", timed)
    assert tokens_per_second(model, Work(1, rows=4)) == pytest.approx(1e4)
    assert seen == [(4, 32), (4, 64), (4, 128), (4, 128), (4, 128)]
    seen.clear()
    assert tokens_per_second(model, Work(1, rows=4), warm_up_s=0.02) == pytest.approx(1e4)
    assert seen == [(4, 32)]  # a slow model is not run for longer than that


def test_a_warm_up_runs_the_real_model():
    assert tokens_per_second(tiny.tiny_model("mamba2"), Work(1, logits=True), warm_up_s=0.1) > 100
