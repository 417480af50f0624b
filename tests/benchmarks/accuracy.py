"""Our float32 states and losses against a float64 loop over time in a model that shares no code with ours."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from mambascope.analysis.evaluate.perplexity import block_bits
from mambascope.spectra.loading import load
from mambascope.spectra.scan import reference
from mambascope.spectra.zoo import text_files
from tests.benchmarks.frame import Frame

MODELS = ("mamba-tiny", "mamba2-tiny", "mamba2-tiny-usual", "mamba2-recall")
TOKENS = 4096
BLOCKS = (None, 61, 128, 512, 1000, 2048, TOKENS)
"""Block lengths; None is the stream's own."""


def ids_of():
    """The first tokens of the first bundled test text, and the one after them."""
    return torch.from_numpy(np.frombuffer(text_files("test")[0].read_bytes(), np.uint8)[: TOKENS + 1].astype(np.int64))[
        None
    ]


def loop(model, ids, dtype=torch.float64):
    """Return per-token bits and the layers' last states of a loop over time."""

    def scan(x, dt, A, B, C, _):
        if model.config.arch == "mamba":
            start = x.new_zeros(1, *A.shape)
            y, h = reference.diagonal_scan(x, dt, dt, A, B, C, start)
        else:
            start = x.new_zeros(1, *x.shape[2:], B.shape[-1])
            y, h = reference.scalar_identity_scan(x, dt, dt, A, B, C, start)
        return y.to(dtype), h

    with torch.no_grad():
        logits, states = Frame(model, scan, dtype)(ids[:, :-1])
    losses = F.cross_entropy(logits[0], ids[0, 1:], reduction="none") / math.log(2)
    return losses, [h for _, h in states]


def ours(model, ids, block_length):
    """Return the same of our stream in float32."""
    bits = []
    with torch.no_grad():
        for block in model.stream(ids[:, :-1], block_length=block_length):
            bits.append(block_bits(block.hidden, block.head, ids[:, block.start + 1 : block.stop + 1])[0])
    return torch.cat(bits), [layer.ssm for layer in block.state.layers]


def difference(found, true):
    """Largest difference over the largest magnitude, of the losses, and of the states: the worst layer's."""

    def relative(a, b):
        return float((a.double() - b.double()).abs().max() / b.double().abs().max())

    return {"losses": relative(found[0], true[0]), "states": max(map(relative, found[1], true[1]))}


def accuracy(name):
    """Return differences to the float64 loop, and among block lengths and thread counts, of one bundled model."""
    model, ids, threads = load(name, device="cpu"), ids_of(), torch.get_num_threads()
    true, base = loop(model, ids), ours(model, ids, None)
    to_loop, among = {}, {}
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for block in BLOCKS:
                found = ours(model, ids, block)
                key = f"blocks of {block or 'the default length'}, threads {count}"
                to_loop[key], among[key] = difference(found, true), difference(found, base)
    finally:
        torch.set_num_threads(threads)
    plain = difference(loop(model, ids, torch.float32), true)
    return {"to_loop": to_loop, "among": among, "all_float32_but_the_scan": plain}
