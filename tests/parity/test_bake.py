"""What ``bake`` writes, loaded by transformers unchanged, against our model under the same scales."""

import importlib.util
import json
import math
import warnings
from pathlib import Path

import pytest
import torch

from mambascope.analysis.baking import bake
from mambascope.spectra import load, scaling
from mambascope.spectra.checkpoint import save_checkpoint
from mambascope.spectra.zoo import text_files

transformers = pytest.importorskip("transformers", reason="needs the transformers package")


def module(name, path):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


peer_of = module("parity_transformers", "parity/test_transformers.py").peer_of
tiny = module("tiny", "spectra/tiny.py")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield


def drawn(kind, shape, seed):
    u = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scaling(kind, (math.log(0.4) + math.log(5) * u).exp())


def scales_for(config):
    """Every kind that folds exactly, every granularity."""
    head = (config.n_layer, config.dt_width)
    found = [drawn("a", head, 0), drawn("a_power", (config.n_layer,), 1), drawn("a", (), 2)]
    if config.arch == "mamba":
        found += [drawn("a_power", (config.n_layer, *config.A_shape), 3), drawn("dt", (config.n_layer,), 4)]
        found += [drawn("dt", head, 5)]
    return found


def error(folder, model, scales, ids):
    peer, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        theirs = peer.eval()(ids).logits
    want = torch.cat([block.logits() for block in model.stream(ids, intervention=scales)], dim=1)
    return float((theirs - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_transformers_computes_what_the_scaled_model_computes(tmp_path, arch):
    peer = peer_of(arch)
    model = load(peer, device="cpu")
    ids = torch.randint(0, 100, (2, 150), generator=torch.Generator().manual_seed(1))
    parts = scales_for(model.config)
    composed = parts[0]
    for number, scales in enumerate(parts):
        bake(peer, scales, tmp_path / str(number), check_tokens=0)  # a model of theirs that is in memory
        assert error(tmp_path / str(number), model, scales, ids) <= 1e-5
        composed = composed.then(scales) if number else composed
    bake(peer, composed, tmp_path / "all", check_tokens=0)
    assert error(tmp_path / "all", model, composed, ids) <= 1e-5
    assert error(tmp_path / "all", model, parts[0], ids) > 1e-3  # negative control


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bundled_models_and_their_tokenizers(tmp_path, arch):
    name = f"{arch}-tiny"
    model = load(name, device="cpu")
    scales = drawn("a", (model.config.n_layer, model.config.dt_width), 0).then(scaling("a", 3.0))
    if arch == "mamba":
        scales = scales.then(drawn("dt", (model.config.n_layer, model.config.dt_width), 1))
    bake(name, scales, tmp_path / "b")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    text = text_files("test")[0].read_text()[1000:1400]
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == list(text.encode())
    assert error(tmp_path / "b", model, scales, ids) <= 1e-5


def test_the_mamba_2_dt_fold_in_transformers_is_off_by_what_it_states(tmp_path):
    model = load("mamba2-tiny", device="cpu")
    scales = scaling("dt", [2.0, 0.5, 4.0, 1.5])
    baked = bake("mamba2-tiny", scales, tmp_path / "b")
    ids = torch.tensor(list(text_files("test")[0].read_bytes()[2000:2400]))[None]
    assert 1e-5 < error(tmp_path / "b", model, scales, ids) < baked.check.stated_error


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transformers_keeps_the_rates_digits_of_a_16_bit_checkpoint(tmp_path, dtype):
    model = tiny.tiny_model("mamba")
    tensors = {n: t.to(dtype) for n, t in model.state_dict().items() if n != "lm_head.weight"}
    save_checkpoint(tmp_path / "s", model.config, tensors, "transformers", extra_config={"dtype": str(dtype)[6:]})
    source = load(tmp_path / "s", device="cpu")
    scales = drawn("a", (3, *model.config.A_shape), 0)
    bake(tmp_path / "s", scales, tmp_path / "b")
    ids = torch.randint(0, 50, (1, 100), generator=torch.Generator().manual_seed(1))
    assert error(tmp_path / "b", source, scales, ids) <= 1e-5
    # negative control: what the source's own dtype would have done to the rates
    values = json.loads((tmp_path / "b/config.json").read_text()) | {"dtype": str(dtype)[6:]}
    (tmp_path / "b/config.json").write_text(json.dumps(values))
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    assert peer.backbone.layers[0].mixer.A_log.dtype == dtype


def test_mamba_ssm_reads_a_plain_dict_and_a_config_of_its_own_keys(tmp_path):
    for name in ("mamba-tiny", "mamba2-tiny"):
        bake(name, scaling("a", 2.0), tmp_path / name, "state-spaces", check_tokens=0)
        stored = torch.load(tmp_path / name / "pytorch_model.bin", weights_only=True)
        assert type(stored) is dict
        assert all(type(tensor) is torch.Tensor and not tensor.is_sparse for tensor in stored.values())
        known = {"d_model", "n_layer", "vocab_size", "ssm_cfg", "rms_norm", "residual_in_fp32", "fused_add_norm"}
        known |= {"pad_vocab_size_multiple", "tie_embeddings"}  # MambaConfig takes no others
        assert set(json.loads((tmp_path / name / "config.json").read_text())) == known
