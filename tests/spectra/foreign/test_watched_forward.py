"""Test ``mambascope.spectra.foreign.forward`` (``scan_watch``, ``measures``): watched is what transformers does.

Three witnesses: the states in transformers' own cache after a run to each length; a float64 recurrence over what other
hooks, on the mixers' submodules, see; and logits, which must not change by a bit.
"""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mambascope.spectra.errors import CheckpointError, NonFiniteStateError, RefusedInputError, TextError
from mambascope.spectra.foreign import forward
from mambascope.spectra.foreign.checkpoint import open_any
from mambascope.spectra.foreign.forward import ForeignModel, TransformersMissingError, way_of
from mambascope.spectra.foreign.measures import foreign_spectrum, foreign_state_norms
from mambascope.spectra.foreign.scan_watch import WatchError
from mambascope.spectra.norms import StateNormObserver

transformers = pytest.importorskip("transformers", reason="needs the transformers package")

_spec = importlib.util.spec_from_file_location("written_layouts", Path(__file__).with_name("written_layouts.py"))
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)

IDS = torch.randint(0, written.VOCAB, (2, 49), generator=torch.Generator().manual_seed(3))
LENGTHS = [1, 3, 32, 33, 49]
IN_BLOCKS = ["zamba2", "bamba", "nemotron_h", "granitemoehybrid"]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every family's model, loaded once from its synthetic checkpoint."""
    made = {}

    def model(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            written.write_foreign(folder, family)
            made[family] = ForeignModel.load(open_any(folder), device="cpu", name=family)
        return made[family]

    return model


def inner(model):
    return getattr(model.model, model.model.base_model_prefix)


def cache_after(model, ids):
    with torch.no_grad():
        done = inner(model)(input_ids=ids, use_cache=True)
    return done["cache_params" if "cache_params" in done else "past_key_values"]


def close(got, want, limit):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    return float(np.abs(got - want).max() / np.abs(want).max()) <= limit


@pytest.mark.parametrize("family", written.FAMILIES)
def test_norms_are_those_of_transformers_cache_at_each_length(models, family):
    model = models(family)
    found = foreign_state_norms(model, IDS, LENGTHS)
    assert found.lengths_tokens == tuple(LENGTHS)
    assert found.layers == written.LAYERS[family]
    assert [row["layer"] for row in found.rows()] == list(written.LAYERS[family]) * len(LENGTHS)
    for k, length in enumerate(LENGTHS):
        cache = cache_after(model, IDS[:, :length])
        for j, layer in enumerate(written.LAYERS[family]):
            state = cache.layers[layer].recurrent_states[0]
            assert float(state.abs().max()) > 0
            assert close(found.vector_l2[k, j].reshape(state.shape[:-1]), state.norm(dim=-1), 1e-5)
            assert close(found.conv_l2[k, j], cache.layers[layer].conv_states[0].norm(dim=-1), 1e-5)


def recorded(model, layer, ids):
    """Run the model with hooks of this test alone; return dt, A, B, x of one mixer in float64, worked out here."""
    (mixer,) = (m for m in model.mixers if m.layer_idx == layer)
    seen = {}

    def note(name, take_input=False):
        def hook(module, inputs, output):
            seen[name] = (inputs[0] if take_input else output).double()

        return hook

    hooks = [mixer.in_proj.register_forward_hook(note("in_proj"))]
    if hasattr(mixer, "x_proj"):
        hooks.append(mixer.x_proj.register_forward_hook(note("x", take_input=True)))
        hooks += [getattr(mixer, f"{n}_layernorm").register_forward_hook(note(n)) for n in ("dt", "b")]
    with torch.no_grad():
        inner(model)(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    A = -torch.exp(mixer.A_log.double())
    if hasattr(mixer, "x_proj"):
        dt = F.softplus(seen["dt"] @ mixer.dt_proj.weight.double().T + mixer.dt_proj.bias.double())
        return dt, A, seen["b"], seen["x"]
    inner_width, groups = written.INNER, mixer.n_groups
    conv_width = inner_width + 2 * groups * written.STATE
    _, xBC, dt = seen["in_proj"].split([inner_width, conv_width, written.HEADS], dim=-1)
    padded = F.pad(xBC.transpose(1, 2), (3, 0))
    weight, bias = mixer.conv1d.weight.double(), mixer.conv1d.bias.double()
    xBC = F.silu(F.conv1d(padded, weight, bias, groups=conv_width)).transpose(1, 2)
    x, B, _ = xBC.split([inner_width, groups * written.STATE, groups * written.STATE], dim=-1)
    dt = F.softplus(dt + mixer.dt_bias.double()).clamp(min=mixer.time_step_limit[0])
    heads = x.unflatten(-1, (written.HEADS, written.HEADDIM))
    return dt, A, B.unflatten(-1, (groups, written.STATE)), heads


def states(dt, A, B, x):
    """Step through h = exp(dt A) h + dt B x in float64; return the state after every token."""
    if A.dim() == 2:
        h = torch.zeros(x.shape[0], *A.shape, dtype=torch.float64)
    else:
        h = torch.zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=torch.float64)
        B = B.repeat_interleave(A.shape[0] // B.shape[2], dim=2)
    found = []
    for t in range(x.shape[1]):
        if A.dim() == 2:
            h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * x[:, t])[..., None] * B[:, t, None, :]
        else:
            decay = torch.exp(dt[:, t] * A)[..., None, None]
            h = decay * h + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        found.append(h)
    return found


@pytest.mark.parametrize("family", ["falcon_mamba", "jamba", "zamba2", "bamba"])
def test_norms_and_decays_are_those_of_a_float64_recurrence(models, family):
    model = models(family)
    norms, spectrum = foreign_state_norms(model, IDS, LENGTHS), foreign_spectrum(model, IDS)
    assert spectrum.moments.tokens == IDS.numel()
    for j, layer in enumerate(written.LAYERS[family]):
        dt, A, B, x = recorded(model, layer, IDS)
        direct = states(dt, A, B, x)
        for k, length in enumerate(LENGTHS):
            want = direct[length - 1].norm(dim=-1)
            assert close(norms.vector_l2[k, j].reshape(want.shape), want, 2e-5), (layer, length)
        decay = torch.exp((dt[..., None] if A.dim() == 2 else dt) * A).mean((0, 1))
        np.testing.assert_allclose(spectrum.eigenvalues("effective")[j], decay, atol=2e-6)
        tau = 1 / ((dt.mean((0, 1))[:, None] if A.dim() == 2 else dt.mean((0, 1))) * -A)
        np.testing.assert_allclose(spectrum.horizons_tokens()[j], tau, rtol=2e-5)
        assert close(spectrum.rates[j], -A, 1e-6)


def test_the_least_step_size_acts_in_these_tests(models):
    """Zamba2's synthetic model has heads that would fall below its limit of 0.02: the watch must know the limit."""
    spectrum = foreign_spectrum(models("zamba2"), IDS)
    assert min(float(dt.min()) for dt in spectrum.moments.mean_dt) == pytest.approx(0.02)


@pytest.mark.parametrize("family", IN_BLOCKS)
def test_where_blocks_end_changes_nothing(models, family):
    """Attention layers lie between: their positions and their cache must go on, too."""
    model = models(family)
    whole, parts = StateNormObserver(LENGTHS), StateNormObserver(LENGTHS)
    model.watch(IDS, [whole])
    calls = []
    hook = model.mixers[0].register_forward_pre_hook(lambda m, args, kw: calls.append(1), with_kwargs=True)
    model.watch(IDS, [parts], block_tokens=32)  # 16 of each row: 0-16, 16-32, 32-49, for 48-49 would be one token
    hook.remove()
    assert len(calls) == 3
    assert close(parts.result().vector_l2, whole.result().vector_l2, 1e-5)
    assert close(parts.result().conv_l2, whole.result().conv_l2, 1e-5)


@pytest.mark.parametrize("family", ["falcon_mamba", "jamba"])
def test_transformers_mamba_1_layers_do_not_go_on_from_a_cache(models, family):
    """This is why such a model gets its text whole."""
    model = models(family)
    first = cache_after(model, IDS[:, :32])
    given = {"cache_params" if family == "falcon_mamba" else "past_key_values": first}
    with torch.no_grad():
        inner(model)(input_ids=IDS[:, 32:], use_cache=True, **given)
    layer = written.LAYERS[family][0]
    went_on, whole = (c.layers[layer].recurrent_states[0] for c in (first, cache_after(model, IDS)))
    assert float((went_on - whole).abs().max() / whole.abs().max()) > 1e-2
    assert not model.in_blocks
    assert "whole text in one forward" in way_of(model.checkpoint)


@pytest.mark.parametrize("family", written.FAMILIES)
def test_watching_changes_no_bit_and_leaves_nothing_behind(models, family):
    model = models(family)
    module = sys.modules[type(model.mixers[0]).__module__]
    before, names = dict(vars(module)), ("causal_conv1d_fn", "mamba_selective_scan", "mamba2_chunk_scan")
    with torch.no_grad():
        plain = model.model(IDS, use_cache=False).logits
        with model._watch.on():
            model._watch.expect(0, [])
            watched = model.model(IDS, use_cache=False).logits
    assert watched.equal(plain)
    with pytest.raises(KeyboardInterrupt):
        model.watch(IDS, [Interrupting()])
    assert all(getattr(module, name, None) is before.get(name) for name in names)
    assert not any(m._forward_pre_hooks for m in model.mixers)


class Interrupting:
    def boundaries(self):
        return ()

    def update(self, observation):
        raise KeyboardInterrupt


def test_other_transformers_are_refused_and_not_guessed_at(models, monkeypatch):
    model = models("bamba")
    module = sys.modules[type(model.mixers[0]).__module__]
    monkeypatch.delattr(module, "mamba2_chunk_scan")
    with pytest.raises(WatchError, match=r'transformers 5\.23.*pip install "transformers>=5\.23"'):
        ForeignModel(model.model, model.checkpoint, "m")
    monkeypatch.undo()
    last = model.mixers[-1]  # runs on a kernel of its own
    monkeypatch.setattr(last, "forward", lambda hidden_states, **kw: hidden_states)
    with pytest.raises(WatchError, match="layer 3: its scan did not pass mamba2_chunk_scan"):
        model.watch(IDS, [])


def test_without_transformers_the_exact_line_to_install_it_is_told(tmp_path, monkeypatch):
    written.write_foreign(tmp_path, "bamba")
    checkpoint = open_any(tmp_path)
    monkeypatch.setattr(forward.importlib.util, "find_spec", lambda name: None)
    for needs in (way_of, ForeignModel.load):
        with pytest.raises(TransformersMissingError, match=r'pip install "transformers>=5\.23"'):
            needs(checkpoint)
    foreign_spectrum(checkpoint)
    with pytest.raises(TextError, match="a model that runs"):
        foreign_spectrum(checkpoint, IDS)


def test_nothing_of_a_folder_is_run(tmp_path, monkeypatch):
    trap = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "_attn_implementation": "stranger/kernels"}
    trap |= {"attn_implementation": "stranger/kernels", "trust_remote_code": True}
    written.write_foreign(tmp_path, "bamba", config=trap)
    (tmp_path / "evil.py").write_text("raise SystemExit('code of the folder was run')\n")
    model = ForeignModel.load(open_any(tmp_path), device="cpu")
    foreign_state_norms(model, IDS, [49])
    assert model.model.config._attn_implementation == "sdpa"
    assert "evil" not in " ".join(sys.modules)


def test_weights_that_transformers_would_make_up_are_refused(tmp_path):
    written.write_foreign(tmp_path / "gone", "bamba", drop=("model.layers.1.self_attn.q_proj.weight",))
    with pytest.raises(CheckpointError, match=r"self_attn\.q_proj\.weight.*random values"):
        ForeignModel.load(open_any(tmp_path / "gone"), device="cpu")
    extra = {"model.layers.1.self_attn.q_proj.weight": torch.zeros(3, 3)}
    written.write_foreign(tmp_path / "shape", "bamba", extra=extra)
    with pytest.raises(CheckpointError, match="does not load it as BambaForCausalLM"):
        ForeignModel.load(open_any(tmp_path / "shape"), device="cpu")
    tensors = written.write_foreign(tmp_path / "bin", "bamba")
    (tmp_path / "bin/model.safetensors").unlink()
    torch.save(tensors, tmp_path / "bin/pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: expected safetensors"):
        ForeignModel.load(open_any(tmp_path / "bin"), device="cpu")


def test_a_broken_state_is_named_by_its_true_layer(tmp_path):
    extra = {"model.layers.2.mamba.conv1d.bias": torch.full((written.INNER + 4 * written.STATE,), 1e30)}
    written.write_foreign(tmp_path, "bamba", extra=extra)
    model = ForeignModel.load(open_any(tmp_path), device="cpu")
    with pytest.raises(NonFiniteStateError, match="layer 2") as told, np.errstate(all="ignore"):
        foreign_state_norms(model, IDS, [20, 49])
    assert told.value.layer == 2


def test_wrong_ids_lengths_and_words_are_refused(models):
    model = models("bamba")
    for ids in (IDS + written.VOCAB, IDS[:, :0]):
        with pytest.raises(TextError, match="another model's tokenizer"):
            model.watch(ids, [])
    for lengths in ([50], [0], []):
        with pytest.raises(TextError, match="this one has 49"):
            foreign_state_norms(model, IDS, lengths)
    for words in ({"dtype": "int8"}, {"device": "tpu"}):
        with pytest.raises(RefusedInputError):
            ForeignModel.load(model.checkpoint, **words)


def test_sixteen_bit_weights_still_have_wide_states(tmp_path):
    written.write_foreign(tmp_path, "granitemoehybrid", dtype=torch.bfloat16, config={"torch_dtype": "bfloat16"})
    model = ForeignModel.load(open_any(tmp_path), device="cpu", dtype="bfloat16")
    assert model.mixers[0].in_proj.weight.dtype == torch.bfloat16
    found = foreign_state_norms(model, IDS, [49])
    assert found.vector_l2.dtype == np.float32
    state = cache_after(model, IDS).layers[0].recurrent_states[0].float()
    assert close(found.vector_l2[0, 0].reshape(state.shape[:-1]), state.norm(dim=-1), 1e-2)


def test_the_infinity_of_transformers_config_is_a_number(tmp_path):
    written.write_foreign(tmp_path, "bamba", config={"time_step_limit": [0.1, {"__float__": "Infinity"}]})
    checkpoint = open_any(tmp_path)
    assert checkpoint.config.dt_limit == (0.1, np.inf)
    model = ForeignModel.load(checkpoint, device="cpu")
    assert model.mixers[0].time_step_limit == (0.1, np.inf)
    assert min(float(dt.min()) for dt in foreign_spectrum(model, IDS).moments.mean_dt) >= 0.1
    json.dumps(foreign_spectrum(model, IDS).rows())
