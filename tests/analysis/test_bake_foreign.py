"""Test ``mambascope.analysis.bake_foreign``: only the asked-for bytes of six foreign layouts change, and as asked."""

import importlib.util
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mambascope.analysis import bake_foreign
from mambascope.analysis.bake_foreign import RatesCheckError
from mambascope.analysis.baking import bake
from mambascope.spectra.errors import CheckpointError, RefusedInputError, ScaleError
from mambascope.spectra.foreign.checkpoint import open_any
from mambascope.spectra.foreign.measures import foreign_spectrum
from mambascope.spectra.scales import Scales, scaling

_path = Path(__file__).parents[1] / "spectra" / "foreign" / "written_layouts.py"
_spec = importlib.util.spec_from_file_location("written_layouts", _path)
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)

MAMBA1, MAMBA2 = ["falcon_mamba", "jamba"], ["zamba2", "bamba", "nemotron_h", "granitemoehybrid"]
IDS = torch.randint(0, written.VOCAB, (2, 40), generator=torch.Generator().manual_seed(3))


def drawn(kind, shape, seed):
    u = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scaling(kind, (math.log(0.4) + math.log(5) * u).exp())


def of_every_granularity(family):
    """Factors of both kinds for the Mamba layers, and the rates that they make of given ones, worked out here."""
    n, modes = len(written.LAYERS[family]), written.INNER if family in MAMBA1 else written.HEADS
    parts = [drawn("a", (n, modes), 0), drawn("a_power", (n,), 1), drawn("a", (), 2)]
    if family in MAMBA1:
        parts.append(drawn("a_power", (n, modes, written.STATE), 3))
    scales = Scales()
    for part in parts:
        scales = scales.then(part)

    def rates(k, A):
        head, layer, model = (part.factors[0].values.numpy() for part in parts[:3])
        A = (A * (head[k][:, None] if A.ndim == 2 else head[k])) ** layer[k] * model
        return A ** parts[3].factors[0].values.numpy()[k] if family in MAMBA1 else A

    return scales, rates


def raw_tensors(folder):
    """Return the bytes of every tensor of a folder's safetensors, and where in its file each lies."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:start]).items():
            if name != "__metadata__":
                begin, end = (start + offset for offset in entry["data_offsets"])
                found[name] = (path.name, begin, end, data[begin:end])
    return found


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", written.FAMILIES)
def test_the_baked_spectrum_is_the_scaled_one_and_every_other_byte_is_the_sources(tmp_path, family, shards):
    written.write_foreign(tmp_path / "m", family, shards=shards)
    scales, rates = of_every_granularity(family)
    baked = bake(tmp_path / "m", scales, tmp_path / "b")
    before, after = foreign_spectrum(open_any(tmp_path / "m")), foreign_spectrum(open_any(tmp_path / "b"))
    assert after.layers == written.LAYERS[family]
    for k, A in enumerate(before.rates):
        np.testing.assert_allclose(after.rates[k], rates(k, A), rtol=1e-6)
        assert float(np.max(np.abs(after.rates[k] / A - 1))) > 0.1  # the factors do act
    assert baked.document["rates_check"]["largest_error"] < 1e-6
    asked = {f"{written.mixer_prefix(family, i)}A_log" for i in written.LAYERS[family]}
    assert set(baked.changes) == asked
    for path in (tmp_path / "m").iterdir():  # float32 rates stay in their places, so the files can be compared
        old, new = path.read_bytes(), bytearray((tmp_path / "b" / path.name).read_bytes())
        for name, (file, begin, end, data) in raw_tensors(tmp_path / "m").items():
            if name in asked and file == path.name:
                assert bytes(new[begin:end]) != data
                new[begin:end] = data
        assert bytes(new) == old, path.name
    (a_head, a_power, *_) = baked.folds
    assert (a_head.exactness, a_head.tensors, a_head.granularity) == ("exact", "A_log", "head")
    assert a_power.kind == "a_power"


def test_factors_count_the_mamba_layers_alone(tmp_path):
    """Bamba's layers are Mamba, attention, Mamba, Mamba: the second of three factors is that of layer 2."""
    written.write_foreign(tmp_path / "m", "bamba")
    baked = bake(tmp_path / "m", scaling("a", [1.0, 3.0, 1.0]), tmp_path / "b")
    before, after = (foreign_spectrum(open_any(tmp_path / name)).rates for name in "mb")
    np.testing.assert_allclose(after[1], 3 * before[1], rtol=1e-6)
    assert np.array_equal(after[0], before[0])
    assert np.array_equal(after[2], before[2])
    assert list(baked.changes) == ["model.layers.2.mamba.A_log"]
    assert baked.document["layers"] == [0, 2, 3]
    card = (tmp_path / "b/README.md").read_text()
    assert "Factors are of the Mamba layers, in the model's count 0, 2, 3." in card
    assert "Logits were not compared" in card
    for wrong in ([1.0, 2.0, 3.0, 4.0], [[2.0] * 7] * 3):
        with pytest.raises(ScaleError, match="made for another model"):
            bake(tmp_path / "m", scaling("a", wrong), tmp_path / "w")


@pytest.mark.parametrize("family", ["jamba", "nemotron_h"])
def test_rates_of_16_bits_become_wide_and_nothing_else_does(tmp_path, family):
    odd = {"a.first": torch.ones(3, dtype=torch.bfloat16), "z.last": torch.ones(3, dtype=torch.bfloat16)}
    written.write_foreign(
        tmp_path / "m", family, shards=2, dtype=torch.bfloat16, config={"torch_dtype": "bfloat16"}, extra=odd
    )
    scales, rates = of_every_granularity(family)
    bake(tmp_path / "m", scales, tmp_path / "b")
    before, after = foreign_spectrum(open_any(tmp_path / "m")), foreign_spectrum(open_any(tmp_path / "b"))
    for k, A in enumerate(before.rates):
        np.testing.assert_allclose(after.rates[k], rates(k, A), rtol=1e-6)  # bfloat16 would be off by 1e-2
    old, new = raw_tensors(tmp_path / "m"), raw_tensors(tmp_path / "b")
    for name, (file, begin, _, data) in new.items():
        assert old[name][0] == file
        if name.endswith("A_log"):
            assert begin % 4 == 0
            assert len(data) == 2 * len(old[name][3])
        else:
            assert data == old[name][3]
    for path in (tmp_path / "b").glob("*.safetensors"):
        load_file(path)
    index = json.loads((tmp_path / "b/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(len(data) for *_, data in new.values())
    assert index["weight_map"] == {name: file for name, (file, *_) in old.items()}
    values = json.loads((tmp_path / "b/config.json").read_text())
    assert values["dtype"] == "float32"  # or transformers would round the rates again
    assert "torch_dtype" not in values
    assert values["model_type"] == family


@pytest.fixture
def transformers():
    found = pytest.importorskip("transformers", reason="needs the transformers package")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield found


def peer_of(transformers, folder, family):
    kind = getattr(transformers, written.CONFIGS[family]["architectures"][0])
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("family", MAMBA1)
def test_dt_folds_exactly_where_no_norm_follows_the_scan(tmp_path, family, granularity, transformers, monkeypatch):
    """Against transformers' own forward with every step size multiplied after the softplus."""
    written.write_foreign(tmp_path / "m", family)
    n = len(written.LAYERS[family])
    scales = drawn("dt", (n,) if granularity == "layer" else (n, written.INNER), 5)
    factors = scales.factors[0].values
    baked = bake(tmp_path / "m", scales.then(scaling("a_power", 0.9)), tmp_path / "b")
    assert (baked.folds[0].exactness, baked.folds[0].states) == ("exact", "h/s")
    assert {name.rpartition("mamba.")[2].rpartition("mixer.")[2] for name in baked.changes} == {
        "A_log", "D", "out_proj.weight",
    }  # fmt: skip
    powered = bake(tmp_path / "m", scaling("a_power", 0.9), tmp_path / "p").folder
    peer = peer_of(transformers, powered, family)
    mixers = [m for m in peer.modules() if hasattr(m, "A_log")]
    module = sys.modules[type(mixers[0]).__module__]
    scan, calls = module.mamba_selective_scan, iter(range(10**6))

    def scaled(x, dt, A, B, C, *, delta_bias, delta_softplus, **given):
        assert delta_softplus
        s = factors[next(calls) % n].float()
        dt = torch.nn.functional.softplus(dt + delta_bias[..., None]) * (s if s.dim() == 0 else s[:, None])
        return scan(x, dt, A, B, C, **given)

    with torch.no_grad():
        plain = peer(IDS, use_cache=False).logits
        got = peer_of(transformers, tmp_path / "b", family)(IDS, use_cache=False).logits
        monkeypatch.setattr(module, "mamba_selective_scan", scaled)
        want = peer(IDS, use_cache=False).logits
    largest = float(want.abs().max())
    assert float((got - want).abs().max()) / largest <= 1e-5
    assert float((plain - want).abs().max()) / largest > 1e-2  # the factors do act


@pytest.mark.parametrize("family", MAMBA2)
def test_dt_is_refused_under_a_gated_norm(tmp_path, family):
    written.write_foreign(tmp_path / "m", family)
    for values in (2.0, [2.0] * len(written.LAYERS[family])):
        with pytest.raises(ScaleError, match=r"gated norm.*use kind 'a'"):
            bake(tmp_path / "m", scaling("dt", values), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    bake(tmp_path / "m", scaling("dt", 1.0).then(scaling("a", 2.0)), tmp_path / "one")  # a factor of 1 asks nothing


@pytest.mark.parametrize("family", written.FAMILIES)
def test_transformers_loads_what_was_baked_and_decays_by_it(tmp_path, family, transformers):
    written.write_foreign(tmp_path / "m", family, shards=2)
    scales, rates = of_every_granularity(family)
    bake(tmp_path / "m", scales, tmp_path / "b")
    before = foreign_spectrum(open_any(tmp_path / "m")).rates
    peer = peer_of(transformers, tmp_path / "b", family)
    mixers = [m for m in peer.modules() if hasattr(m, "A_log")]
    for k, mixer in enumerate(mixers):
        np.testing.assert_allclose(mixer.A_log.double().exp().detach().numpy(), rates(k, before[k]), rtol=1e-6)
    with torch.no_grad():
        assert bool(torch.isfinite(peer(IDS, use_cache=False).logits).all())


def test_what_cannot_be_baked_is_refused_before_anything_is_written(tmp_path):
    tensors = written.write_foreign(tmp_path / "m", "bamba")
    with pytest.raises(ScaleError, match="onset cannot be baked"):
        bake(tmp_path / "m", scaling("a", 2.0, onset_tokens=5), tmp_path / "b")
    with pytest.raises(RefusedInputError, match="leave --layout out"):
        bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b", "state-spaces")
    with pytest.raises(RefusedInputError, match="choose another folder"):
        bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "m")
    assert not (tmp_path / "b").exists()
    with pytest.raises(ScaleError, match=r"layer 2, mixer\.A_log"):
        bake(tmp_path / "m", scaling("a_power", [1.0, 128.0, 1.0]), tmp_path / "c")
    assert not (tmp_path / "c/config.json").exists()
    (tmp_path / "m/model.safetensors").unlink()
    torch.save(tensors, tmp_path / "m/pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: expected safetensors"):
        bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "d")


def test_rates_that_came_out_otherwise_are_never_loaded(tmp_path, monkeypatch):
    written.write_foreign(tmp_path / "m", "zamba2")
    whole = bake_foreign.ForeignJob.folded
    monkeypatch.setattr(bake_foreign.ForeignJob, "folded", lambda job, name: whole(job, name) + 1e-3)
    with pytest.raises(RatesCheckError, match="baked and scaled rates"):
        bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b")
    assert not (tmp_path / "b/config.json").exists()
    monkeypatch.undo()
    bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b")  # the same command again goes through
    assert (tmp_path / "b/config.json").exists()


def test_a_finished_bake_is_left_as_it_is_and_a_damaged_one_is_made_again(tmp_path):
    written.write_foreign(tmp_path / "m", "jamba", shards=2)
    for name in ("tokenizer.json", "modeling_jamba.py", "generation_config.json"):
        (tmp_path / "m" / name).write_text("{}")
    (tmp_path / "m/tokenizer_config.json").write_text("{}")
    first = bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b")
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"tokenizer.json", "generation_config.json", "scales.json", "bake.json"} <= names
    assert "modeling_jamba.py" not in names  # code is not handed on
    shard = tmp_path / "b/model-00001-of-00002.safetensors"
    stamp, whole = shard.stat().st_mtime_ns, shard.read_bytes()
    assert bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b").document == first.document
    assert shard.stat().st_mtime_ns == stamp
    shard.write_bytes(whole[:-1])
    bake(tmp_path / "m", scaling("a", 2.0), tmp_path / "b")
    assert shard.read_bytes() == whole
