"""Test ``mambascope.spectra.traces``: all that a state is made of, whole or in pieces, within a budget."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from mambascope.spectra.traces import TraceRecorder, TraceTooLargeError, join

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

SELECTION = {0: None, 2: [1, 4]}


def record(arch, ids, selection=SELECTION, block_length=None, max_tokens=100, intervention=None):
    model = tiny.tiny_model(arch, torch.float64)
    recorder = TraceRecorder(selection, max_tokens=max_tokens)
    blocks = list(model.stream(ids, observers=[recorder], block_length=block_length, intervention=intervention))
    return recorder, blocks[-1].state


def by_hand(trace):
    """Run the recurrence token by token, each head by itself."""
    batch, length, H = trace.dt.shape
    states = np.zeros((batch, H, *trace.x.shape[3:], trace.B.shape[3]))
    for t in range(length):
        for k in range(H):
            decay = np.exp(trace.dt[:, t, k, None] * trace.A[k])  # (batch, 1) or (batch, d_state)
            B = trace.B[:, t, trace.groups[k]]
            u = trace.gain[:, t, k] * trace.x[:, t, k].T  # (headdim, batch) or (batch,)
            write = np.einsum("pb,bn->bpn", u, B) if u.ndim == 2 else u[:, None] * B
            states[:, k] = states[:, k] * decay.reshape(batch, *(1,) * (write.ndim - 2), -1) + write
    return states


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_a_trace_holds_all_that_the_state_is_made_of(arch):
    ids = torch.randint(0, 50, (2, 30))
    recorder, state = record(arch, ids)
    traces = recorder.result()
    assert list(traces) == [0, 2]
    for layer, trace in traces.items():
        truth = state.layers[layer].ssm.numpy()[:, trace.heads]
        np.testing.assert_allclose(by_hand(trace), truth, rtol=1e-11, atol=1e-13)
        assert (trace.start, trace.stop, trace.layer) == (0, 30, layer)
        assert trace.nbytes == sum(getattr(trace, name).nbytes for name in ("dt", "gain", "B", "x"))
    assert traces[2].dt.shape == (2, 30, 2)
    wrong = traces[0].groups if arch == "mamba" else 1 - traces[0].groups  # negative control: the other group's B
    if arch == "mamba2":
        changed = by_hand(type(traces[0])(**{n: getattr(traces[0], n) for n in FIELDS} | {"groups": wrong}))
        assert np.abs(changed - by_hand(traces[0])).max() > 1e-3


FIELDS = ("layer", "heads", "start", "A", "dt", "gain", "B", "x", "groups")


def same(one, other):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_blocks_pieces_and_merging_give_the_same_trace(arch):
    ids = torch.randint(0, 50, (2, 40))
    whole = record(arch, ids)[0].result()
    blocks = record(arch, ids, block_length=7)[0].result()
    model = tiny.tiny_model(arch, torch.float64)
    recorder, pieces = TraceRecorder(SELECTION, max_tokens=11), []
    for _ in model.stream(ids, observers=[recorder], block_length=11):
        pieces.append(recorder.take())
    assert recorder.result() == {}
    recorders = []
    for piece in (pieces[2], pieces[0], pieces[3], pieces[1]):  # any order
        recorders.append(TraceRecorder(SELECTION, max_tokens=11))
        recorders[-1]._parts = {layer: [trace] for layer, trace in piece.items()}
    for other in recorders[1:]:
        recorders[0].merge(other)
    for layer, trace in whole.items():
        same(trace, blocks[layer])
        same(trace, join([piece[layer] for piece in pieces]))
        same(trace, recorders[0].result()[layer])


def test_later_tokens_are_let_pass():
    recorder, _ = record("mamba2", torch.randint(0, 50, (1, 40)), max_tokens=25, block_length=10)
    assert [trace.stop for trace in recorder.result().values()] == [25, 25]


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_what_exceeds_the_budget_is_refused_before_anything_is_stored(arch):
    model, ids = tiny.tiny_model(arch, torch.float64), torch.randint(0, 50, (3, 12))
    fits = TraceRecorder(SELECTION, max_tokens=12)
    list(model.stream(ids, observers=[fits]))
    size = sum(trace.nbytes for trace in fits.result().values())
    again = TraceRecorder(SELECTION, max_tokens=12, max_bytes=size)
    list(model.stream(ids, observers=[again]))
    tight = TraceRecorder(SELECTION, max_tokens=12, max_bytes=size - 1)
    with pytest.raises(TraceTooLargeError, match="choose fewer heads") as caught:
        list(model.stream(ids, observers=[tight]))
    assert (caught.value.needed_bytes, caught.value.max_bytes) == (size, size - 1)
    assert tight.result() == {}


def test_refusals():
    ids = torch.randint(0, 50, (1, 12))
    for heads in ([6], [-1], []):
        with pytest.raises(RefusedInputError, match="not within the layer's 6"):
            record("mamba2", ids, {1: heads})
    with pytest.raises(ValueError, match="at least 1"):
        TraceRecorder({0: None}, max_tokens=0)
    trace = record("mamba2", ids)[0].result()[0]
    with pytest.raises(ValueError, match="do not follow"):
        join([trace, trace])
    with pytest.raises(ValueError, match="no trace"):
        join([])
    changing = scaling("a", 2.0, onset_tokens=5)
    with pytest.raises(ValueError, match="same rates"):
        record("mamba2", ids, intervention=changing)[0].result()
    assert repr(trace) == "Trace(layer=0, heads=6, rows=1, tokens=0..12)"
