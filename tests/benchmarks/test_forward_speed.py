"""Tokens per second of a bundled model's forward against transformers: same weights, same run, one thread."""

import time
import warnings

import numpy as np
import pytest
import torch

from mambascope.spectra.loading import load
from mambascope.spectra.zoo import FOLDER, text_files

pytestmark = pytest.mark.bench
LENGTH = 8192


def best_seconds(work, repeats=3):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("name", ["mamba-tiny", "mamba2-tiny"])
def test_forward_against_transformers(name, capsys):
    transformers = pytest.importorskip("transformers", reason="needs the transformers package")
    ids = torch.from_numpy(np.frombuffer(text_files("test")[0].read_bytes(), np.uint8)[:LENGTH].astype(np.int64))[None]
    model = load(name)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        peer = transformers.AutoModelForCausalLM.from_pretrained(FOLDER / name).eval()
        peer(ids[:, :64])
        list(model.stream(ids[:, :64]))
        ours = best_seconds(lambda: [block.logits() for block in model.stream(ids)])
        theirs = best_seconds(lambda: peer(ids, use_cache=False), repeats=1)
    with capsys.disabled():
        print(f"\n{name}: {LENGTH / ours:,.0f} tok/s, transformers {LENGTH / theirs:,.0f}, ratio {theirs / ours:.2f}")
    assert ours < theirs
