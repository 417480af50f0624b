"""Promise 3: a weight that is no finite number is named, with layer and index, before any token is read."""

import itertools
import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.errors import CheckpointError
from mambascope.spectra.layouts import layout_name
from mambascope.spectra.loading import load
from tests.attacks.commands import refused
from tests.spectra.tiny import save_tiny, tiny_model

WHOLE = {"mamba": "channel", "mamba2": "head"}


@pytest.fixture(scope="module", params=list(WHOLE))
def small(request):
    model = tiny_model(request.param, d_model=8, d_inner=16, n_layer=2, d_state=4, vocab_size=16)
    return model.config, {n: v for n, v in model.state_dict().items() if n != "lm_head.weight"}


@pytest.mark.parametrize("layout", ["transformers", "state-spaces"])
def test_every_kind_of_tensor_in_every_layer(small, tmp_path, layout):
    config, tensors = small
    rng, found = torch.Generator().manual_seed(0), 0
    for name, bad in itertools.product(tensors, (float("nan"), float("inf"), -float("inf"))):
        broken = tensors[name].clone()
        place = int(torch.randint(broken.numel(), (), generator=rng))
        broken.view(-1)[place] = bad
        folder = tmp_path / str(found)
        save_checkpoint(folder, config, tensors | {name: broken}, layout)
        with pytest.raises(CheckpointError) as caught:
            load(folder)
        index = [int(k) for k in torch.unravel_index(torch.tensor(place), broken.shape)]
        told, stored = str(caught.value), layout_name(name, layout)
        assert f"{stored}, index {index}: expected a finite number, got {bad}" in told
        assert not name.startswith("backbone.layers.") or f"layer {name.split('.')[2]}, " in told
        found += 1
    assert found == 3 * len(tensors) >= 60


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_16_bits_too(small, tmp_path, dtype):
    config, tensors = small
    narrow = {name: value.to(dtype) for name, value in tensors.items()}
    narrow["backbone.layers.1.mixer.out_proj.weight"][3, 2] = float("inf")
    save_checkpoint(tmp_path / "m", config, narrow, "transformers")
    with pytest.raises(CheckpointError, match=r"layer 1, .*out_proj\.weight, index \[3, 2\]"):
        load(tmp_path / "m")


@pytest.mark.parametrize("log_rate", [89.0, 1e30])
def test_an_A_log_whose_rate_overflows_is_named_before_a_token_is_read(small, tmp_path, log_rate):
    config, tensors = small
    broken = tensors["backbone.layers.1.mixer.A_log"].clone()
    broken.view(-1)[-1] = log_rate
    save_checkpoint(tmp_path / "m", config, tensors | {"backbone.layers.1.mixer.A_log": broken}, "transformers")
    for read in (load, lambda folder: Checkpoint.open(folder).A_log(1)):
        with pytest.raises(CheckpointError, match=rf"layer 1, {WHOLE[config.arch]} \d+.*A_log: expected at most 88\.7"):
            read(tmp_path / "m")


def test_a_weight_that_the_dtype_asked_for_cannot_hold_is_named(small, tmp_path):
    config, tensors = small
    broken = tensors["backbone.layers.1.mixer.in_proj.weight"].clone()
    broken[2, 1] = 1e6
    save_checkpoint(
        tmp_path / "m", config, tensors | {"backbone.layers.1.mixer.in_proj.weight": broken}, "transformers"
    )
    load(tmp_path / "m", dtype="bfloat16")
    with pytest.raises(CheckpointError, match=r"layer 1, .*in_proj\.weight, index \[2, 1\].*float16"):
        load(tmp_path / "m", dtype="float16")


def test_weights_below_the_smallest_normal_number_are_read_and_cost_little_more(small, tmp_path):
    """Every weight 1e-40 or -1e-40, with which some processors are slow; measured on an AMD EPYC: 1.0 to 1.4 times
    the seconds of the processor."""
    config, tensors = small
    tokens = torch.randint(0, 16, (1, 2048), generator=torch.Generator().manual_seed(0))

    def seconds(model):
        taken = []
        for _ in range(4):
            began = time.process_time()
            with torch.no_grad():
                logits = [block.logits() for block in model.stream(tokens)]
            taken.append(time.process_time() - began)
            assert all(bool(torch.isfinite(each).all()) for each in logits)
        return min(taken)

    tiny = {n: v if n.endswith("A_log") else torch.where(v < 0, -1e-40, 1e-40).to(v) for n, v in tensors.items()}
    for name, values in (("plain", tensors), ("denormal", tiny)):
        save_checkpoint(tmp_path / name, config, values, "transformers")
    flooded = load(tmp_path / "denormal")
    assert all(torch.equal(flooded.state_dict()[name], value) for name, value in tiny.items())
    assert float(flooded.state_dict()["backbone.norm_f.weight"].abs().max()) > 0
    assert seconds(flooded) < 20 * seconds(load(tmp_path / "plain"))


@pytest.mark.parametrize("arch", list(WHOLE))
def test_every_command_says_which_layer(tmp_path, arch):
    folder, text = save_tiny(tmp_path / "model", arch), tmp_path / "text.txt"
    text.write_text("Nothing of this is read, as the weights come first. " * 4)
    weights = folder / "model.safetensors"
    stored = load_file(weights)
    stored["backbone.layers.2.mixer.D"][1] = float("nan")
    save_file(stored, weights)
    (tmp_path / "scales.json").write_text(json.dumps({"format": 1, "factors": []}))
    aim = ["--target-length", "32"]
    for words in (
        ["norms", folder, "--text", text, "--lengths", "8"],
        ["spectrum", folder, "--text", text],
        ["evaluate", folder, "--text", text, "--lengths", "8", "--methods", "none", "-o", tmp_path / "evaluated"],
        ["diagnose", folder, *aim],
        ["propose", folder, *aim],
        ["forecast", folder, *aim],
        ["calibrate", folder, *aim, "--steps", "1"],
        ["bake", folder, "--scales", tmp_path / "scales.json", "-o", tmp_path / "baked"],
        ["report", folder, *aim, "--no-theory", "-o", tmp_path / "report"],
    ):
        refused(words, "layer 2, backbone.layers.2.mixer.D, index [1]: expected a finite number, got nan")
    assert not (tmp_path / "baked/config.json").exists()
    shutil.rmtree(folder)
