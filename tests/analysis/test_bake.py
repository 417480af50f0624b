"""Test ``mambascope.analysis.baking`` (and ``folds``, ``bake_check``, ``bake_files``, ``bake_card`` behind it)."""

import hashlib
import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mambascope.analysis import bake_files
from mambascope.analysis.atomic import StorageError
from mambascope.analysis.bake_check import BakeCheckError, check_baked, compare
from mambascope.analysis.baking import bake
from mambascope.analysis.folds import plan_folds
from mambascope.analysis.manifest import RunFolderError, read_manifest
from mambascope.spectra import load, open_checkpoint, scaling
from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.errors import CheckpointError, RefusedInputError, ScaleError
from mambascope.spectra.scales import Scales
from mambascope.spectra.zoo import FOLDER, text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

LAYOUTS = ["transformers", "state-spaces"]
IDS = torch.randint(0, 50, (2, 120), generator=torch.Generator().manual_seed(3))


def factors(kind, granularity, config, seed=0, low=0.3, high=3.0):
    shapes = {
        "model": (),
        "layer": (config.n_layer,),
        "head": (config.n_layer, config.dt_width),
        "state": (config.n_layer, *config.A_shape),
    }
    drawn = torch.rand(shapes[granularity], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scaling(kind, (math.log(low) + math.log(high / low) * drawn).exp())


def logits(model, scales=None, ids=IDS):
    return torch.cat([block.logits() for block in model.stream(ids, intervention=scales)], dim=1)


def error(folder, model, scales, ids=IDS, dtype="float32"):
    """Largest difference of baked and scaled logits, relative to the largest."""
    want = logits(model, scales, ids)
    return float((logits(load(folder, dtype=dtype, device="cpu"), ids=ids) - want).abs().max() / want.abs().max())


def cases(arch):
    granularities = ["model", "layer", "head"] + (["state"] if arch == "mamba" else [])
    found = [(kind, g) for kind in ("a", "a_power") for g in granularities]
    return found + ([("dt", g) for g in granularities[:3]] if arch == "mamba" else [])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_exact_folds_compute_what_the_scaled_model_computes(tmp_path, arch, layout):
    for dtype, limit in (("float32", 1e-5), ("float64", 1e-13))[: 2 if layout == "transformers" else 1]:
        model = tiny.tiny_model(arch, dtype=getattr(torch, dtype))
        for kind, granularity in cases(arch):
            scales = factors(kind, granularity, model.config)
            folder = tmp_path / f"{dtype}-{kind}-{granularity}"
            baked = bake(model, scales, folder, layout, check_tokens=0)
            assert error(folder, model, scales, dtype=dtype) <= limit, (kind, granularity, dtype)
            moved = logits(model, scales) - logits(model)
            assert float(moved.abs().max() / logits(model).abs().max()) > 1e-3  # the factors do act
            (fold,) = baked.folds
            assert (fold.exactness, fold.granularity) == ("exact", granularity)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_compositions_fold_in_their_order(tmp_path, arch):
    model = tiny.tiny_model(arch, dtype=torch.float64)
    parts = {(k, g): factors(k, g, model.config, seed=i) for i, (k, g) in enumerate(cases(arch))}
    orders = [[("a", "head"), ("a_power", "layer")], [("a_power", "layer"), ("a", "head")]]
    orders += [[("a", "model"), ("a_power", "head"), ("a", "layer"), ("a_power", "model")]]
    if arch == "mamba":
        orders += [[("dt", "head"), ("a_power", "state")], [("a_power", "state"), ("dt", "layer"), ("a", "head")]]
        orders += [[("dt", "layer"), ("a_power", "layer"), ("dt", "head"), ("a", "state"), ("dt", "model")]]
    for number, order in enumerate(orders):
        scales = Scales()
        for key in order:
            scales = scales.then(parts[key])
        bake(model, scales, tmp_path / str(number), check_tokens=0)
        assert error(tmp_path / str(number), model, scales, dtype="float64") <= 1e-13, order
    backwards = Scales(scales.factors[::-1])  # negative control: the order matters
    assert error(tmp_path / str(len(orders) - 1), model, backwards, dtype="float64") > 1e-4


def test_a_power_after_dt_acts_on_A_alone():
    config = tiny.tiny_config("mamba")
    scales = scaling("dt", 2.0).then(scaling("a_power", 3.0))
    A_log = torch.full(config.A_shape, 0.5, dtype=torch.float64)
    folded = plan_folds(scales, config)[0].apply(config, 0, "A_log", A_log)
    assert float(folded[0, 0]) == pytest.approx(3 * 0.5 + math.log(2), abs=1e-15)


def test_states_are_those_of_the_scaled_model_or_divided_by_the_factor(tmp_path):
    model = tiny.tiny_model("mamba", dtype=torch.float64)
    for granularity, states in (("layer", "h"), ("head", "h/s")):
        scales = factors("dt", granularity, model.config)
        baked = bake(model, scales, tmp_path / granularity, check_tokens=0)
        assert baked.folds[0].states == states
        (want,) = model.stream(IDS, intervention=scales)
        (got,) = load(tmp_path / granularity, dtype="float64", device="cpu").stream(IDS)
        for layer, (a, b) in enumerate(zip(got.state.layers, want.state.layers, strict=True)):
            s = scales.factors[0].values[layer]
            expected = b.ssm if states == "h" else b.ssm / s[:, None]
            assert float((a.ssm - expected).abs().max() / expected.abs().max()) <= 1e-12


@pytest.mark.parametrize("name", ["mamba-tiny", "mamba2-tiny"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bundled_models(tmp_path, name, layout):
    model = load(name, device="cpu")
    scales = factors("a", "head", model.config, low=1.0, high=20.0).then(factors("a_power", "layer", model.config))
    if name == "mamba-tiny":
        scales = scales.then(factors("dt", "layer", model.config)).then(factors("dt", "head", model.config, seed=1))
    baked = bake(name, scales, tmp_path / "b", layout)
    text = torch.tensor(list(text_files("test")[0].read_bytes()[5000:6000]))[None]
    assert error(tmp_path / "b", model, scales, text) <= 1e-5
    assert baked.check.error == baked.check.fold_error <= 1e-5
    assert baked.check.stated_error == 0
    again = load(tmp_path / "b")
    assert (again.name, again.train_length) == (f"{name}-baked", 256)
    assert (tmp_path / "b/tokenizer.json").read_bytes() == (FOLDER / name / "tokenizer.json").read_bytes()
    assert Scales.load(tmp_path / "b/scales.json").to_dict() == scales.to_dict()
    for each in baked.document["files"]:
        data = (tmp_path / "b" / each["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
    assert read_manifest(tmp_path / "b").status == "finished"
    card = (tmp_path / "b/README.md").read_text()
    for file in open_checkpoint(name).files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() in card


@pytest.mark.parametrize("factor", [0.125, 0.5, 2.0, 8.0])
def test_the_mamba_2_dt_fold_states_its_error_and_stays_below(tmp_path, factor):
    """Measured on mamba2-tiny, layers alike: 8e-5, 6e-5, 3e-4, 6e-3 of the largest logit for 1/8, 1/2, 2, 8."""
    model = load("mamba2-tiny", device="cpu")
    scales = factors("dt", "layer", model.config, low=0.8 * factor, high=1.25 * factor)
    baked = bake("mamba2-tiny", scales, tmp_path / "b")
    assert baked.folds[0].exactness == "norm_eps"
    assert baked.check.fold_error <= 1e-5 < baked.check.error < baked.check.stated_error
    held_out = torch.tensor(list(text_files("test")[1].read_bytes()[2000:4000]))[None]
    measured = error(tmp_path / "b", model, scales, held_out)
    assert 1e-5 < measured < baked.check.stated_error
    assert "s^2 eps" in (tmp_path / "b/README.md").read_text()


def test_mamba_2_dt_is_exact_once_the_epsilon_is_put_right(tmp_path):
    """One factor for each group of the gated norm; D for each head or channel."""
    for changes in ({}, {"D_has_hdim": True}, {"ngroups": 3}):
        model = tiny.tiny_model("mamba2", dtype=torch.float64, **changes)
        groups = model.config.ngroups
        of_group = factors("dt", "head", model.config).factors[0].values[:, :groups]
        scales = scaling("dt", of_group.repeat_interleave(6 // groups, dim=1)).then(
            factors("a", "head", model.config, seed=1)
        )
        folder = tmp_path / f"{groups}{len(changes)}"
        bake(model, scales, folder, "state-spaces", check_tokens=0)
        plan = plan_folds(scales, model.config)
        source = bake(model, Scales(), folder.with_suffix(".source"), "state-spaces", check_tokens=0)
        check = compare(
            Checkpoint.open(source.folder), Checkpoint.open(folder), scales, plan, IDS[0].numpy(), dtype=torch.float64
        )
        assert check.fold_error <= 1e-13
        assert 1e-8 < check.error <= check.stated_error
        assert check.error == pytest.approx(error(folder, model, scales, IDS[:1], "float64"), rel=1e-6)
        # in float32 the norms run inside compiled loops unless they are watched, as they are here
        narrow = compare(
            Checkpoint.open(source.folder), Checkpoint.open(folder), scales, plan, IDS[0].numpy(), dtype=torch.float32
        )
        assert narrow.fold_error <= 1e-5
        assert narrow.norm_errors == pytest.approx(check.norm_errors, rel=1e-3)


def test_mamba_2_without_a_gated_norm_takes_dt_for_every_head(tmp_path):
    for changes in ({}, {"D_has_hdim": True}):
        model = tiny.tiny_model("mamba2", dtype=torch.float64, rmsnorm=False, **changes)
        scales = factors("dt", "head", model.config)
        baked = bake(model, scales, tmp_path / str(len(changes)), "state-spaces", check_tokens=0)
        assert baked.folds[0].tensors == "A_log, D, out_proj.weight"
        assert error(tmp_path / str(len(changes)), model, scales, dtype="float64") <= 1e-13
    with pytest.raises(CheckpointError, match="state-spaces layout instead"):
        bake(model, scales, tmp_path / "t", "transformers")
    assert not (tmp_path / "t").exists()


def save_as(folder, model, dtype, layout="transformers"):
    tensors = {n: t.to(dtype) for n, t in model.state_dict().items() if n != "lm_head.weight"}
    save_checkpoint(folder, model.config, tensors, layout)
    return tensors


@pytest.mark.parametrize("layout", LAYOUTS)
def test_identity_gives_the_same_tensors_byte_by_byte(tmp_path, layout):
    model = tiny.tiny_model("mamba2")
    with torch.no_grad():
        model.backbone.layers[0].mixer.A_log[0] = -0.0
    ones = scaling("a", torch.ones(3, 6)).then(scaling("dt", 1.0)).then(scaling("a_power", 1.0, onset_tokens=7))
    one_layer = scaling("a", [1.0, 2.0, 1.0])
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tensors = save_as(tmp_path / f"s-{dtype}", model, dtype, layout)
        for number, scales in enumerate((Scales(), ones, one_layer)):
            folder = tmp_path / f"{dtype}-{number}"
            baked = bake(tmp_path / f"s-{dtype}", scales, folder, layout, check_tokens=0)
            changed = ["backbone.layers.1.mixer.A_log"] if number == 2 else []
            assert list(baked.changes) == changed
            with Checkpoint.open(folder) as got:
                for name, tensor in tensors.items():
                    if name not in changed:
                        stored = got.read(name)
                        assert stored.dtype == dtype
                        assert torch.equal(stored.view(torch.uint8), tensor.view(torch.uint8)), name
            if number < 2:
                for name in (file.name for file in got.files):
                    assert (folder / name).read_bytes() == (tmp_path / f"s-{dtype}" / name).read_bytes()


def test_bundled_files_come_back_byte_by_byte(tmp_path):
    for name in ("mamba-tiny", "mamba2-tiny"):
        baked = bake(name, scaling("dt", 1.0), tmp_path / name)
        assert baked.check.error == 0
        for file in ("model.safetensors", "config.json"):
            assert (tmp_path / name / file).read_bytes() == (FOLDER / name / file).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rates_are_kept_in_float32_and_the_rest_in_its_type(tmp_path, dtype, layout):
    model = tiny.tiny_model("mamba")
    save_as(tmp_path / "s", model, dtype, layout)
    source = load(tmp_path / "s", device="cpu")
    scales = factors("a", "state", model.config)
    baked = bake(tmp_path / "s", scales, tmp_path / "a", layout)
    assert baked.folds[0].exactness == "exact"
    assert max(error(tmp_path / "a", source, scales), baked.check.error) <= 1e-5
    with Checkpoint.open(tmp_path / "a") as got:
        types = {name: tensor.dtype for name, tensor in got.state_dict().items()}
    assert {d for n, d in types.items() if n.endswith("A_log")} == {torch.float32}
    assert {d for n, d in types.items() if not n.endswith("A_log")} == {dtype}
    if layout == "transformers":
        assert json.loads((tmp_path / "a/config.json").read_text())["dtype"] == "float32"
    for granularity, tensors in (("layer", "A_log, x_proj.weight"), ("head", "A_log, D, out_proj.weight")):
        scales = factors("dt", granularity, model.config)
        (fold,) = bake(tmp_path / "s", scales, tmp_path / granularity, layout).folds
        assert (fold.exactness, fold.tensors) == ("rounded", tensors)
        assert 1e-5 < error(tmp_path / granularity, source, scales) < 2e-2
    # negative control: rates rounded to 16 bits would not do
    rounded = tiny.tiny_model("mamba")
    rounded.load_state_dict(load(tmp_path / "a", device="cpu").state_dict())
    for layer in rounded.layers():
        layer.mixer.A_log.copy_(layer.mixer.A_log.to(dtype))
    want = logits(source, factors("a", "state", model.config))
    assert float((logits(rounded) - want).abs().max() / want.abs().max()) > 1e-5


def test_wrong_folds_are_seen(tmp_path, monkeypatch):
    """Negative controls: another factor, a shift of dt_bias, D left alone, and the self-check that stops the bake."""
    for arch in ("mamba", "mamba2"):
        model = tiny.tiny_model(arch)
        scales, other = scaling("a", 2.0), scaling("a", 2.01)
        bake(model, other, tmp_path / arch, check_tokens=0)
        assert error(tmp_path / arch, model, scales) > 1e-5
        naive = tiny.tiny_model(arch)
        for layer in naive.layers():
            bias = layer.mixer.dt_proj.bias if arch == "mamba" else layer.mixer.dt_bias
            bias += math.log(2)
        want = logits(model, scaling("dt", 2.0))
        assert float((logits(naive) - want).abs().max() / want.abs().max()) > 1e-3
        with Checkpoint.open(tmp_path / arch) as baked:
            plan = plan_folds(scales, model.config)
            source = open_checkpoint(bake(model, Scales(), tmp_path / f"{arch}-source", check_tokens=0).folder)
            with pytest.raises(BakeCheckError, match="of the largest logit on 120 tokens") as caught:
                check_baked(source, baked, scales, plan, IDS[0].numpy(), text="ids", narrow=False)
            assert caught.value.exit_code == 4
            assert caught.value.partial.fold_error > 1e-5
    plan = plan_folds(scaling("dt", 2.0), load("mamba2-tiny").config)
    forgot = tuple(replace(fold, write="none", rates=(("a", torch.tensor(2.0)),)) for fold in plan)
    monkeypatch.setattr("mambascope.analysis.baking.plan_folds", lambda *_: forgot)
    with pytest.raises(BakeCheckError):
        bake("mamba2-tiny", scaling("dt", 2.0), tmp_path / "forgot")
    assert not (tmp_path / "forgot/config.json").exists()
    assert read_manifest(tmp_path / "forgot").status == "failed"


def test_what_no_weights_can_express_is_refused(tmp_path):
    one, two = tiny.tiny_model("mamba"), tiny.tiny_model("mamba2")
    per_head = factors("dt", "head", two.config)
    refused = [
        (one, scaling("a", 2.0, onset_tokens=16), "act from token 16 on"),
        (two, scaling("a", 2.0).then(scaling("dt", 2.0, onset_tokens=1)), "kind 'dt' act from token 1"),
        (two, per_head, "under one gated norm.*for each group of 3 heads .* use one for each layer, use kind 'a'"),
        (two, scaling("a", torch.ones(5)), "were they made for another model"),
        (one, scaling("a_power", 40.0), r"mixer\.A_log at \(\d+, \d+\): .* cannot hold after exp"),
    ]
    for number, (model, scales, words) in enumerate(refused):
        with pytest.raises(ScaleError, match=words):
            bake(model, scales, tmp_path / str(number))
        assert not (tmp_path / str(number) / "config.json").exists()
    # what only looks like it is taken: factors per head that are the same in each group of the norm
    bake(two, scaling("dt", torch.full((3, 6), 2.0)), tmp_path / "same", check_tokens=0)
    # and two per-head sets whose product is one factor
    inverse = scaling("dt", 2 / per_head.factors[0].values)
    bake(two, per_head.then(inverse), tmp_path / "product", check_tokens=0)
    narrow = tiny.tiny_model("mamba", dtype=torch.float16)
    with pytest.raises(ScaleError, match=r"layer 0, mixer\.x_proj\.weight .* torch\.float16 cannot hold"):
        bake(narrow, scaling("dt", 1e7), tmp_path / "wide")


def test_the_folder_is_a_run_folder(tmp_path, monkeypatch):
    source = tiny.save_tiny(tmp_path / "source", "mamba")
    out, scales = tmp_path / "out", tmp_path / "scales.json"
    scaling("a", 2.0).save(scales)
    first = bake(source, scales, out)
    assert read_manifest(out).outputs.keys() >= {"model.safetensors", "config.json", "README.md", "bake.json"}
    times = {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name not in {"manifest.json", ".lock"}}
    monkeypatch.setattr(bake_files, "stream_weights", lambda *_: pytest.fail("written again"))
    assert bake(source, scales, out).document == first.document  # the same bake does nothing
    assert times == {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name in times}
    with pytest.raises(RunFolderError, match="layout"):
        bake(source, scales, out, "state-spaces")
    scaling("a", 3.0).save(scales)
    with pytest.raises(RunFolderError, match="--fresh"):
        bake(source, scales, out)
    scaling("a", 2.0).save(scales)
    monkeypatch.undo()
    whole = {p.name: p.read_bytes() for p in out.iterdir() if p.name not in {"manifest.json", ".lock"}}
    for damage in ("model.safetensors", "README.md", "config.json", "bake.json"):  # as after a kill: it is mended
        (out / damage).write_bytes(b"x")
        bake(source, scales, out)
        assert {p.name: p.read_bytes() for p in out.iterdir() if p.name in whole} == whole
    bake(source, scales, out, "state-spaces", fresh=True)
    assert not (out / "model.safetensors").exists()
    assert Checkpoint.open(out).layout == "state-spaces"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        bake(source, scales, tmp_path / "thesis")
    for folder in (source, tmp_path):
        with pytest.raises(RefusedInputError, match="which is read"):
            bake(source, scales, folder, fresh=True)


def test_a_bake_that_stops_leaves_no_checkpoint_and_goes_on(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    scales = scaling("a", 2.0)
    for step in ("stream_weights", "check_baked", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(bake_files, step, full)
            with pytest.raises((StorageError, OSError)):
                bake("mamba-tiny", scales, tmp_path / step)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            Checkpoint.open(tmp_path / step)
        bake("mamba-tiny", scales, tmp_path / step)
        assert not [p.name for p in (tmp_path / step).iterdir() if "tmp" in p.name]
    names = {p.name for p in (tmp_path / "write_json").iterdir()} - {"manifest.json", ".lock"}
    assert all((tmp_path / "write_json" / n).read_bytes() == (tmp_path / "check_baked" / n).read_bytes() for n in names)


def test_layouts_translate_into_each_other(tmp_path):
    scales = scaling("a", 2.0)
    bake("mamba2-tiny", scales, tmp_path / "a", "state-spaces")
    bake(tmp_path / "a", Scales(), tmp_path / "b", "transformers", name="mamba2-tiny-twice")
    bake("mamba2-tiny", scales, tmp_path / "c", "transformers")
    assert (tmp_path / "b/config.json").read_bytes() == (tmp_path / "c/config.json").read_bytes()
    assert (tmp_path / "b/model.safetensors").read_bytes() == (tmp_path / "c/model.safetensors").read_bytes()
    stored = torch.load(tmp_path / "a/pytorch_model.bin", weights_only=True)
    plain = load_file(tmp_path / "c/model.safetensors")
    assert set(stored) == {n.replace("embeddings", "embedding") for n in plain} | {"lm_head.weight"}
    assert stored["lm_head.weight"].data_ptr() == stored["backbone.embedding.weight"].data_ptr()
    with Checkpoint.open(tmp_path / "a") as got:  # the stream writes what save_checkpoint writes
        save_checkpoint(tmp_path / "d", got.config, got.state_dict(), "state-spaces")
    assert (tmp_path / "d/pytorch_model.bin").read_bytes() == (tmp_path / "a/pytorch_model.bin").read_bytes()


def test_curves_and_bad_arguments(tmp_path):
    table = tmp_path / "perplexity.csv"
    table.write_text("method,length,bits\nnone,16384,2.5\nbaked | a,16384,1.9\n")
    bake("mamba-tiny", scaling("a", 2.0), tmp_path / "a", curves=table, check_tokens=8)
    assert "| baked \\| a | 16384 | 1.9 |" in (tmp_path / "a/README.md").read_text()
    assert (tmp_path / "a/curves.csv").read_bytes() == table.read_bytes()
    for text in ("", "a,b\n", "a,b\n1\n", "a\n1,2\n"):
        table.write_text(text)
        with pytest.raises(RefusedInputError, match=r"perplexity\.csv"):
            bake("mamba-tiny", scaling("a", 2.0), tmp_path / "b", curves=table)
    for given, words in (
        ({"layout": "gguf"}, "gguf"),
        ({"check_tokens": -1}, "0 or more"),
        ({"train_length": 1}, "at least 2"),
        ({"tokenizer": table}, "is no tokenizer"),
    ):
        with pytest.raises(RefusedInputError, match=words):
            bake("mamba-tiny", scaling("a", 2.0), tmp_path / "b", **given)
    model = tiny.tiny_model("mamba")
    model.train_length = None
    assert bake(model, Scales(), tmp_path / "c").check.text == "random ids"
    assert not (tmp_path / "c/mambascope.json").exists()


def test_a_head_that_is_not_the_embedding_is_not_lost(tmp_path):
    model = tiny.tiny_model("mamba")
    tensors = save_as(tmp_path / "s", model, torch.float32, "state-spaces")
    torch.save(tensors | {"lm_head.weight": tensors["backbone.embedding.weight"] + 1}, tmp_path / "s/pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: expected the embedding"):
        bake(tmp_path / "s", Scales(), tmp_path / "b")


BAKE_LARGE = """
import sys
from pathlib import Path
from mambascope.analysis.baking import bake
from mambascope.spectra import scaling
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
scales = scaling("a", 2.0).then(scaling("dt", 2.0))
bake(sys.argv[1], scales, sys.argv[2] + "-warm", check_tokens=0)
Path("/proc/self/clear_refs").write_text("5")
before = peak_kb()
bake(sys.argv[3], scales, sys.argv[2], check_tokens=0)
print(peak_kb() - before)
"""


def test_memory_is_that_of_a_tensor_not_of_the_file(tmp_path):
    save_as(tmp_path / "small", tiny.tiny_model("mamba"), torch.float32)
    config = tiny.tiny_config("mamba", d_model=512, d_inner=1024, d_state=16, dt_rank=32, n_layer=12, vocab_size=512)
    from mambascope.spectra.layouts import expected_tensors

    save_checkpoint(
        tmp_path / "large", config, {n: torch.zeros(s) for n, s in expected_tensors(config).items()}, "transformers"
    )
    assert (tmp_path / "large/model.safetensors").stat().st_size > 70e6
    words = [sys.executable, "-c", BAKE_LARGE, tmp_path / "small", tmp_path / "out", tmp_path / "large"]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16_000  # the largest tensor has 4,096 kB
