"""Test ``mambascope.spectra.pipeline`` and the stream through it: threads change no bit and no order."""

import gc
import threading
import time
import weakref

import pytest
import torch

from mambascope.spectra.errors import NonFiniteStateError, TextError
from mambascope.spectra.norms import StateNormObserver
from mambascope.spectra.pipeline import passed_on, shares
from mambascope.spectra.scales import scaling
from mambascope.spectra.traces import TraceRecorder
from tests.spectra.tiny import tiny_model

BLOCK, LENGTH = 16, 200
ONSET = scaling("a", 2.0).then(scaling("dt", 0.7, onset_tokens=37))


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.fixture
def threads(monkeypatch):
    """Set torch's number of threads for a test, and see that every stream leaves it so."""

    def have(count):
        torch.set_num_threads(count)

    yield have
    torch.set_num_threads(1)


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mambascope-layers")]


def test_shares_are_whole_and_even():
    assert shares(4, 2) == [range(2), range(2, 4)]
    assert shares(5, 3) == [range(1), range(1, 3), range(3, 5)]
    assert shares(2, 16) == [range(1), range(1, 2)]


def test_jobs_come_in_order_whatever_stage_is_slow():
    def slow(job):
        time.sleep(0.002 * (job % 3))
        return job

    found = list(passed_on(range(20), [slow, lambda job: job + 100, slow]))
    assert found == list(range(100, 120))
    assert not running()


def test_a_stage_meets_the_jobs_in_order_in_one_thread_of_its_own():
    met = [[], []]

    def stage(k):
        def run(job):
            met[k].append((job, threading.get_ident()))
            return job

        return run

    list(passed_on(range(9), [stage(0), stage(1)]))
    assert [[job for job, _ in each] for each in met] == [list(range(9))] * 2
    idents = [{ident for _, ident in each} for each in met]
    assert [len(each) for each in idents] == [1, 1]
    assert len(idents[0] | idents[1] | {threading.get_ident()}) == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_stage_raises_comes_in_place_of_its_job(error):
    def fails(job):
        if job == 3:
            raise error("third")
        return job

    found = []
    with pytest.raises(error, match="third"):
        found.extend(passed_on(range(9), [lambda job: job, fails]))
    assert not running()


def test_only_a_few_jobs_are_read_ahead_and_a_caller_may_stop():
    read = []

    def jobs():
        for job in range(100):
            read.append(job)
            yield job

    run = passed_on(jobs(), [lambda job: job] * 3)
    assert next(run) == 0
    assert len(read) == 4
    run.close()
    assert not running()


def test_one_thread_an_operation_while_it_runs(threads):
    threads(3)
    counts = list(passed_on(range(3), [lambda job: torch.get_num_threads()]))
    assert counts == [1, 1, 1]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_mode_holds_in_every_thread(mode):
    with mode():
        here = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        there = list(passed_on([0], [lambda job: (torch.is_grad_enabled(), torch.is_inference_mode_enabled())]))
    assert there == [here]


def ids(rows=2, length=LENGTH):
    return torch.randint(0, 50, (rows, length), generator=torch.Generator().manual_seed(1))


def everything(model, how=None, **options):
    norms = StateNormObserver([5, 64, 150])
    with torch.no_grad():
        blocks = list(model.stream(ids(), intervention=how, observers=[norms], block_length=BLOCK, **options))
    found = norms.result()
    last = [part for layer in blocks[-1].state.layers for part in (layer.ssm, layer.conv)]
    spans = [(block.start, block.stop) for block in blocks]
    return [torch.cat([block.hidden for block in blocks], 1), *last], found.vector_l2, spans


def used(monkeypatch):
    """Return a list with an entry for every piece of text that went through threads."""
    pieces = []

    def watched(jobs, stages):
        pieces.append(len(stages))
        return passed_on(jobs, stages)

    monkeypatch.setattr("mambascope.spectra.model.passed_on", watched)
    return pieces


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("how", [None, ONSET], ids=["plain", "scaled"])
@pytest.mark.parametrize("count", [2, 5])
def test_threads_change_no_bit(threads, monkeypatch, arch, how, count):
    model, pieces = tiny_model(arch), used(monkeypatch)
    alone, norms, spans = everything(model, how)
    assert not pieces
    threads(count)
    together, same_norms, same_spans = everything(model, how)
    assert pieces == [min(count, model.config.n_layer)]
    assert spans == same_spans
    assert (norms == same_norms).all()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_observer_has_seen_what_the_caller_has_and_no_more(threads):
    model = tiny_model("mamba2")
    threads(2)
    recorder = TraceRecorder({0: None, 1: None}, max_tokens=LENGTH)
    with torch.no_grad():
        for block in model.stream(ids(), observers=[recorder], block_length=BLOCK):
            traces = recorder.take()
            assert {trace.start for trace in traces.values()} == {block.start}
            assert {trace.dt.shape[1] for trace in traces.values()} == {block.stop - block.start}


def test_the_state_goes_on_from_and_to_other_calls(threads):
    model = tiny_model("mamba")
    whole, *_ = everything(model)
    threads(2)
    with torch.no_grad():
        first = list(model.stream(ids()[:, :100], block_length=BLOCK))
        rest = list(model.stream(iter([ids()[:, 100:]]), state=first[-1].state, block_length=BLOCK))
    hidden = torch.cat([block.hidden for block in first + rest], 1)
    assert rest[-1].stop == LENGTH
    assert torch.allclose(hidden, whole[0], atol=1e-5)


def test_what_must_not_be_shared_is_not(threads, monkeypatch):
    model, pieces = tiny_model("mamba2"), used(monkeypatch)
    threads(2)

    class Remembers:
        def boundaries(self):
            return ()

        def __call__(self, layer, position, dynamics):
            return dynamics

    everything(model, Remembers())
    list(model.stream(ids(), block_length=BLOCK))  # with gradients
    with torch.no_grad():
        list(model.stream(ids(length=2 * BLOCK), block_length=BLOCK))  # too short to be worth it
    assert not pieces


@pytest.mark.parametrize("broken", [0, 1])
def test_errors_are_those_of_one_thread(threads, broken):
    model = tiny_model("mamba2")
    with torch.no_grad():
        model.layers()[broken].mixer.dt_bias.fill_(float("nan"))
    messages = []
    for count in (1, 2):
        threads(count)
        with pytest.raises(NonFiniteStateError) as found, torch.no_grad():
            list(model.stream(ids(), block_length=BLOCK))
        messages.append(str(found.value))
    assert messages[0] == messages[1]
    assert f"layer {broken}" in messages[0]


def test_a_bad_token_far_on_is_refused_where_it_stands(threads):
    model, text = tiny_model("mamba2"), ids()
    text[0, 150] = model.config.vocab_size
    threads(2)
    seen = []
    with pytest.raises(TextError), torch.no_grad():
        seen.extend(block.start for block in model.stream(text, block_length=BLOCK))
    assert seen == list(range(0, 150 - BLOCK, BLOCK))  # all blocks before its own
    assert not running()


def test_what_cannot_be_read_is_told_behind_what_could():
    def jobs():
        yield from range(3)
        raise ValueError("the fourth")

    found = []
    with pytest.raises(ValueError, match="the fourth"):
        found.extend(passed_on(jobs(), [lambda job: job] * 2))
    assert found == [0, 1, 2]
    assert not running()


class Jobs:
    """Nine numbers; ``run`` may be what reads them, so that each holds the other until the collector comes."""

    def __iter__(self):
        return iter(range(9))


def test_a_forgotten_run_may_be_ended_by_a_thread_of_its_own():
    """The collector runs in any thread, here in one that the thread behind it waits for."""
    forgotten, collected = threading.Event(), threading.Event()

    def collects(job):
        if job == 2:
            forgotten.wait()
            gc.collect()
            collected.set()
        return job

    jobs = Jobs()
    jobs.run = passed_on(jobs, [collects, lambda job: job])
    assert next(jobs.run) == 0
    gone = weakref.ref(jobs)
    del jobs
    forgotten.set()
    assert collected.wait(20)
    assert gone() is None
    for thread in running():
        thread.join(20)
    assert not running()


@pytest.mark.parametrize("pre", [False, True])
def test_hooks_are_asked_in_order(threads, monkeypatch, pre):
    """On the model, whose call the threads do without, and on a layer's part, which they would ask side by side."""
    model, pieces, asked = tiny_model("mamba"), used(monkeypatch), []
    layers = model.layers()
    threads(2)
    for part, name in ((model, "model"), (layers[0].mixer, 0), (layers[-1].norm, -1)):
        hook = part.register_forward_pre_hook if pre else part.register_forward_hook
        handle = hook(lambda *_, name=name: asked.append(name))
        everything(model)
        handle.remove()
        assert asked == [name] * len(asked)
        assert len(asked) >= LENGTH // BLOCK
        asked.clear()
    assert not pieces


def test_autocast_holds_for_every_block(threads, monkeypatch):
    model, pieces = tiny_model("mamba2"), used(monkeypatch)
    threads(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        list(model.stream(ids(), block_length=BLOCK))
    assert not pieces


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_derivatives_are_those_of_one_thread(threads):
    model = tiny_model("mamba2")

    def total(factor):
        blocks = model.stream(ids(), intervention=scaling("a", factor), block_length=BLOCK)
        return sum(block.logits().square().mean() for block in blocks)

    found = []
    for count in (1, 2):
        threads(count)
        with torch.no_grad():
            found.append(torch.func.jvp(total, (torch.ones(()),), (torch.ones(()),))[1])
    assert found[0] == found[1] != 0


def test_a_piece_without_tokens_says_nothing_of_rows():
    model = tiny_model("mamba2")
    with torch.no_grad():
        (block,) = model.stream(iter([ids(1, 0), ids(2, 9)]))
        (alone,) = model.stream(ids(2, 9))
    assert torch.equal(block.hidden, alone.hidden)
    assert block.state.layers[0].ssm.shape[0] == 2
