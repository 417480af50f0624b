"""Logits and states against transformers on the same random weights; where it is wrong, the difference is shown."""

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch

from mambascope.spectra.loading import load

transformers = pytest.importorskip("transformers", reason="needs the transformers package")

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def peer_of(arch):
    """A transformers model with random weights, rates and step sizes spread widely."""
    if arch == "mamba":
        config = transformers.MambaConfig(vocab_size=100, hidden_size=48, num_hidden_layers=3, state_size=16)
        peer = transformers.MambaForCausalLM(config)
    else:
        config = transformers.Mamba2Config(
            vocab_size=100,
            hidden_size=48,
            num_hidden_layers=3,
            state_size=32,
            head_dim=16,
            num_heads=6,
            n_groups=2,
            expand=2,
            tie_word_embeddings=True,
        )
        peer = transformers.Mamba2ForCausalLM(config)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in peer.named_parameters():
            values = torch.rand(p.shape, generator=rng)
            if "A_log" in name:
                p.copy_(values * 5 - 3)
            elif "dt" in name and "bias" in name:
                p.copy_(values * 4 - 4)
            elif "norm" in name or name.endswith(".D"):
                p.copy_(0.5 + values)
            else:
                p.copy_((values - 0.5) * 0.5)
    return peer.eval()


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("length", [1, 3, 200])
def test_logits_and_states_equal_those_of_transformers(arch, length):
    peer = peer_of(arch)
    model = load(peer)
    ids = torch.randint(0, 100, (2, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = peer(ids, use_cache=True)
    (ours,) = model.stream(ids)
    largest = theirs.logits.abs().max()
    assert float((ours.logits() - theirs.logits).abs().max() / largest) <= 2e-5
    for layer, state in enumerate(ours.state.layers):
        ssm = theirs.cache_params.layers[layer].recurrent_states[0]
        conv = theirs.cache_params.layers[layer].conv_states[0].transpose(1, 2)
        assert float((state.ssm - ssm).abs().max() / ssm.abs().max()) <= 2e-5
        assert float((state.conv - conv).abs().max() / conv.abs().max()) <= 2e-5


def continued(peer, ids, cut):
    with torch.no_grad():
        first = peer(ids[:, :cut], use_cache=True)
        return peer(ids[:, cut:], cache_params=first.cache_params, use_cache=True).logits


def test_transformers_goes_on_wrongly_with_several_tokens_for_mamba_1_and_we_do_not():
    """Its Mamba-1 forgets the SSM state when a cache meets more than one token; this is why we stream ourselves."""
    peer = peer_of("mamba")
    ids = torch.randint(0, 100, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = peer(ids).logits[:, 40:]
    ours = torch.cat([b.logits() for b in load(peer).stream(ids, block_length=40)], dim=1)[:, 40:]
    largest = whole.abs().max()
    assert float((ours - whole).abs().max() / largest) <= 2e-5
    assert float((continued(peer, ids, 40) - whole).abs().max() / largest) > 1e-2


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_bundled_models_load_in_transformers(arch):
    from mambascope.spectra.zoo import FOLDER

    name = {"mamba": "mamba-tiny", "mamba2": "mamba2-tiny"}[arch]
    peer = transformers.AutoModelForCausalLM.from_pretrained(FOLDER / name).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER / name)
    text = "It was the best of times; naïve «quotes», it was the worst of times."
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == list(text.encode())
    assert tokenizer.decode(ids[0]) == text
    with torch.no_grad():
        theirs = peer(ids).logits
    ours = next(load(name).stream(ids)).logits()
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 2e-5
