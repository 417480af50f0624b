"""A million tokens change nothing: decays, losses and states in float32 against float64, from first block to last.

Both models read the same text side by side, block by block, each with its own carried state; nothing is restarted, so
whatever float32 loses on the way is in the last block. A model that has left its training length is sensitive: one
block alone makes larger errors there. So at some blocks float32 also starts from float64's state: the error of one
block, without any history. Drift is what the history adds to that.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.bits import block_bits
from mambascope.spectra.loading import load
from mambascope.spectra.scales import scaling
from mambascope.spectra.state import LayerState, StreamState
from mambascope.spectra.zoo import text_files

BAR = 2e-6
"""Largest difference, of the largest magnitude, that states and losses of 4,096 tokens may have."""
WHAT = ("decays", "bits", "states")


@dataclass
class Steps:
    """Observer that keeps the log-decays of a block, a layer each."""

    of: dict[int, torch.Tensor] = field(default_factory=dict)

    def boundaries(self):
        return ()

    def update(self, observation):
        dt, A = observation.dynamics.dt.double(), observation.dynamics.A.double()
        # Mamba-1: of every channel the fastest and the slowest mode
        chosen = A[None] if A.dim() == 1 else torch.stack([A.min(-1).values, A.max(-1).values])
        self.of[observation.layer] = torch.stack([dt * row for row in chosen])


@dataclass
class Reader:
    """A model that reads on where it was."""

    model: torch.nn.Module
    scales: object
    state: StreamState | None = None

    def read(self, text, first, block):
        steps = Steps()
        ids, targets = (np.array(text[:, k : k + block], np.int64) for k in (first, first + 1))
        (part,) = self.model.stream(
            ids, state=self.state, intervention=self.scales, observers=[steps], block_length=block
        )
        self.state = part.state
        bits = block_bits(part.hidden, part.head, torch.from_numpy(targets)).double()
        return {
            "decays": list(steps.of.values()),
            "bits": [bits],
            "states": [s.ssm.double() for s in part.state.layers],
        }


def off(narrow, wide):
    """Largest difference, of the largest magnitude, over the layers."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(narrow, wide, strict=True))


def narrowed(state):
    if state is None:
        return None
    return StreamState(state.position, tuple(LayerState(s.conv.float(), s.ssm.float()) for s in state.layers))


@torch.no_grad()
def differences(name, tokens, block, factor=None):
    """Return by block how far float32 is from float64, with its history and, at blocks 1, 2, 4 ..., without it."""
    scales = scaling("a", factor) if factor else None
    narrow, wide = (Reader(load(name, device="cpu", dtype=dtype), scales) for dtype in ("float32", "float64"))
    text = np.concatenate([np.frombuffer(path.read_bytes(), np.uint8) for path in text_files("test")])
    text, rows = np.resize(text, tokens + 1)[None], []
    for k, first in enumerate(range(0, tokens, block), start=1):
        fresh = Reader(narrow.model, scales, narrowed(wide.state))
        found, truth = narrow.read(text, first, block), wide.read(text, first, block)
        row = {what: off(found[what], truth[what]) for what in WHAT}
        row["mean bits"] = float((found["bits"][0] - truth["bits"][0]).mean().abs())
        if k & (k - 1) == 0 or first + block >= tokens:
            alone = fresh.read(text, first, block)
            row |= {f"{what} alone": off(alone[what], truth[what]) for what in WHAT}
        rows.append(row)
    return rows


def shown(rows):
    for what in WHAT:
        most = max(row[what] for row in rows)
        last, alone = rows[-1][what], rows[-1][f"{what} alone"]
        print(f"{what}: first {rows[0][what]:.1e}, last {last:.1e} (that block alone {alone:.1e}), most {most:.1e}")
    print(f"mean bits of the last block: {rows[-1]['mean bits']:.1e}")
    return rows[-1]


@pytest.mark.parametrize("name", ["mamba2-tiny", "mamba-tiny"])
def test_float32_keeps_to_float64_over_a_few_blocks(name):
    last = shown(differences(name, 4 * 512, block=512))
    assert max(last[what] for what in WHAT) < BAR


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["mamba2-tiny", "mamba-tiny"])
@pytest.mark.parametrize("factor", [None, 10.0])
def test_a_million_tokens_add_no_drift(name, factor):
    last = shown(differences(name, 2**20, block=4096, factor=factor))
    for what in WHAT:
        assert last[what] < max(BAR, 3 * last[f"{what} alone"]), what
    assert last["mean bits"] < 1e-5
