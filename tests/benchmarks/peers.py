"""The peers, each with our weights; who is not installed says so.

A peer's whole model is taken where it has one that is the published model (transformers, mambapy for Mamba-1). Of
mamba_ssm without a GPU and of torchmamba only the scans can be compared; they run in ``frame.Frame``. mambapy's Mamba-2
and mamba_ssm's own models need Triton and a GPU.
"""

import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.benchmarks.frame import Frame

BLOCK = 2048
"""Tokens that a peer is fed at once where it carries a state."""
CHUNK = 128
"""Tokens of a chunk in the peers' chunked forms: of 64, 128 and 256 the fastest for torchmamba at 8,192 tokens."""


class AbsentError(Exception):
    """A peer cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Peer:
    version: str
    logits: Callable[[Tensor], Iterator[Tensor]]
    """Logits of ids (1, length), block by block."""
    leaves: list[Tensor]
    """Factors or rates of every layer that a gradient can be asked for; empty if the peer is fed in blocks."""

    def loss_gradient(self, ids_and_next: Tensor) -> tuple[Tensor, ...]:
        (logits,) = self.logits(ids_and_next[:, :-1])
        return torch.autograd.grad(F.cross_entropy(logits[0], ids_and_next[0, 1:]), self.leaves)


def whole(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Iterator[Tensor]]:
    """Make an iterator over one block of a function from ids to logits."""
    return lambda ids: iter([call(ids)])


def transformers_model(model, in_blocks):
    """transformers' slow path, with the reference code that runs where no kernel is installed."""
    try:
        import transformers
    except ImportError as error:
        raise AbsentError(f"transformers is not installed ({error})") from error
    cfg = model.config
    shape = {
        "vocab_size": cfg.vocab_size, "hidden_size": cfg.d_model, "num_hidden_layers": cfg.n_layer,
        "state_size": cfg.d_state, "tie_word_embeddings": True, "layer_norm_epsilon": cfg.norm_eps,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if cfg.arch == "mamba":
            peer = transformers.MambaForCausalLM(transformers.MambaConfig(**shape, time_step_rank=cfg.dt_rank))
        else:
            heads = {"num_heads": cfg.nheads, "head_dim": cfg.headdim, "n_groups": cfg.ngroups}
            peer = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**shape, **heads))
    theirs = {k.replace("backbone.embedding.", "backbone.embeddings."): v for k, v in model.state_dict().items()}
    peer.load_state_dict(theirs)
    peer.requires_grad_(False).eval()
    leaves = [] if in_blocks else [p.requires_grad_() for name, p in peer.named_parameters() if name.endswith("A_log")]

    def blocks(ids):
        cache = None
        for part in ids.split(BLOCK, dim=1):
            out = peer(part, cache_params=cache, use_cache=True)
            cache = out.cache_params
            yield out.logits

    call = blocks if in_blocks else whole(lambda ids: peer(ids, use_cache=False).logits)
    return Peer(f"transformers {transformers.__version__}", call, leaves)


def mambapy_model(model, in_blocks):
    """mambapy's Mamba-1 with its parallel scan."""
    mamba = _module("mambapy.mamba", "mambapy")
    cfg = model.config
    shape = mamba.MambaConfig(d_model=cfg.d_model, n_layers=cfg.n_layer, d_state=cfg.d_state, dt_rank=cfg.dt_rank)
    peer, ours = mamba.Mamba(shape), model.state_dict()
    peer.load_state_dict({
        name.removeprefix("backbone."): value for name, value in ours.items() if name.startswith("backbone.layers.")
    })
    peer.requires_grad_(False).eval()

    def call(ids):
        hidden = peer(F.embedding(ids, ours["backbone.embedding.weight"]))
        hidden = F.rms_norm(hidden, (cfg.d_model,), ours["backbone.norm_f.weight"], cfg.norm_eps)
        return F.linear(hidden, ours["lm_head.weight"])

    leaves = [layer.mixer.A_log.requires_grad_() for layer in peer.layers]
    return Peer(_version("mambapy"), whole(call), leaves)


def mamba_ssm_scan(model, in_blocks):
    """mamba_ssm's reference functions: selective_scan_ref, ssd_minimal_discrete."""
    _stand_in_for_kernels()
    if model.config.arch == "mamba":
        scan_ref = _module("mamba_ssm.ops.selective_scan_interface", "mamba-ssm").selective_scan_ref

        def scan(x, dt, A, B, C, h):
            y, h = scan_ref(x.mT, dt.mT, A, B.mT, C.mT, return_last_state=True)
            return y.mT, h

    else:
        ssd = _module("mamba_ssm.modules.ssd_minimal", "mamba-ssm").ssd_minimal_discrete

        def scan(x, dt, A, B, C, h):
            B, C = (v.repeat_interleave(x.shape[2] // v.shape[2], dim=2) for v in (B, C))
            return ssd(x * dt[..., None], dt * A, B, C, CHUNK, None if h is None else h[:, None])

    return _framed(model, scan, in_blocks, _version("mamba-ssm"))


def torchmamba_scan(model, in_blocks):
    """torchmamba's cores: selective_scan_loop, ssd_chunkwise."""
    torchmamba = _module("torchmamba", "torchmamba")
    if model.config.arch == "mamba":

        def scan(x, dt, A, B, C, h):
            return torchmamba.selective_scan_loop(x, dt, A, B, C, h0=h)

    else:

        def scan(x, dt, A, B, C, h):
            before = None if h is None else h.mT  # its states are (batch, nheads, d_state, headdim)
            y, last = torchmamba.ssd_chunkwise(x * dt[..., None], dt * A, B, C, CHUNK, before)
            return y, last.mT

    return _framed(model, scan, in_blocks, _version("torchmamba"))


def _framed(model, scan, in_blocks, version):
    cfg = model.config
    if not in_blocks:
        leaves = [torch.ones(cfg.dt_width, requires_grad=True) for _ in range(cfg.n_layer)]
        frame = Frame(model, scan, leaves=leaves)
        return Peer(version, whole(lambda ids: frame(ids)[0]), leaves)
    frame = Frame(model, scan)

    def blocks(ids):
        states = None
        for part in ids.split(BLOCK, dim=1):
            logits, states = frame(part, states)
            yield logits

    return Peer(version, blocks, [])


PEERS = {
    # name: (who makes it, fed in blocks, architectures)
    "transformers": (transformers_model, False, ("mamba", "mamba2")),
    "transformers in blocks": (transformers_model, True, ("mamba2",)),  # its Mamba-1 forgets the state at a block's end
    "mambapy": (mambapy_model, False, ("mamba",)),
    "mamba_ssm reference": (mamba_ssm_scan, False, ("mamba", "mamba2")),
    "mamba_ssm reference in blocks": (mamba_ssm_scan, True, ("mamba2",)),  # selective_scan_ref takes no state
    "torchmamba": (torchmamba_scan, False, ("mamba", "mamba2")),
    "torchmamba in blocks": (torchmamba_scan, True, ("mamba", "mamba2")),
}
"""Whatever is not here is no peer of ours: other packages need a GPU or are not the published layer."""


def peers_of(arch):
    """Return the names of the peers that have this architecture."""
    return [name for name, (_, _, archs) in PEERS.items() if arch in archs]


def _module(name, package):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise AbsentError(f"{package} cannot be imported ({error}); `make bench` installs it") from error


def _version(package):
    return f"{package} {importlib.metadata.version(package)}"


def _stand_in_for_kernels():
    """Let mamba_ssm's pure Python files be imported: they import kernels that they do not need on the way."""
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is None:
        raise AbsentError("mamba_ssm is not installed; `make bench` installs its Python files")
    package = types.ModuleType("mamba_ssm")  # without its __init__, which imports every model
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["mamba_ssm"] = package
    for name, attribute in (
        ("mamba_ssm.ops.triton.layer_norm", "_layer_norm_fwd"),
        ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
        ("selective_scan_cuda", "fwd"),
    ):
        module = types.ModuleType(name)
        setattr(module, attribute, None)
        sys.modules[name] = module
