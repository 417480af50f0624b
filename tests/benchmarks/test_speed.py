"""Speed and memory of our passes against named peers; only correctness is asserted, the bars are told in the report."""

import sys

import pytest

from tests.benchmarks.peers import peers_of
from tests.benchmarks.shape import random_model
from tests.benchmarks.speeds import CLOSE, agreement, first_call_ever, measure

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]


def linear_flop_per_token(model):
    tensors = [p for name, p in model.named_parameters() if name.endswith("proj.weight")]
    return 2 * sum(p.numel() for p in [*tensors, model.lm_head.weight])


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_speed_and_memory_against_peers(bench, arch, tmp_path):
    agree = agreement(arch, bench.peers)
    bench.tell(f"{arch}: logits against ours: {agree}")
    entries = measure(arch, agree, bench.peers, bench.tell, bench.lengths, bench.rounds)
    forward = next(e for e in entries if e["contestant"] == "ours" and e["task"] == "forward")
    calls = {"cached_s": forward["first_call_s"], "ever_s": first_call_ever(arch, bench.peers, tmp_path)}
    flop = linear_flop_per_token(random_model(arch))
    part = {"agreement": agree, "entries": entries, "first_call": calls, "linear_flop_per_token": flop}
    bench.record(arch, part)
    present = {peer: value for peer, value in agree.items() if not isinstance(value, str)}
    assert "transformers" in present, agree["transformers"]
    assert all(value <= CLOSE for value in present.values()), present
    assert set(agree) == set(peers_of(arch))
    for entry in entries:
        assert entry["seconds"] or entry["absent"], entry
        assert not (entry["absent"] and entry["contestant"] == "ours"), entry
