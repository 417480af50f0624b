"""Test ``mambascope.spectra.compiled.recycled``: memory is lent again once nobody holds it, and never before."""

import gc
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambascope.spectra.compiled import recycled as module
from mambascope.spectra.compiled.recycled import HELD_BYTES, SMALLEST_BYTES, recycled

NUMBERS = SMALLEST_BYTES // 4


@pytest.fixture(autouse=True)
def nothing_known():
    module._known.clear()
    yield
    module._known.clear()


def held():
    return sum(memory.nbytes for memory in module._known)


def test_what_nobody_holds_is_lent_again():
    first = recycled((2, NUMBERS))
    address = first.data_ptr()
    del first
    assert recycled((NUMBERS, 2)).data_ptr() == address
    assert recycled((NUMBERS,)).data_ptr() != address  # another size is other memory


@pytest.mark.parametrize(
    "keep",
    [
        lambda v: v[0, 5:7],
        lambda v: v.T,
        lambda v: v.numpy(),
        lambda v: v.numpy()[1:, ::2],
        lambda v: v.detach(),
        lambda v: v.untyped_storage(),
        lambda v: memoryview(v.numpy()),
        lambda v: (v * torch.ones(1, requires_grad=True)).grad_fn,
    ],
    ids=["slice", "transpose", "array", "slice of an array", "detached", "storage", "memoryview", "saved for backward"],
)
def test_whatever_refers_to_a_tensor_keeps_its_memory(keep):
    tensor = recycled((2, NUMBERS))
    address, kept = tensor.data_ptr(), keep(tensor)
    del tensor
    gc.collect()
    assert recycled((2, NUMBERS)).data_ptr() != address
    del kept
    gc.collect()
    assert any(recycled((2, NUMBERS)).data_ptr() == address for _ in range(2))


def test_a_tensor_lies_as_torch_lays_its_own():
    for _ in range(3):
        tensor = recycled((3, NUMBERS + 1))
        assert (tensor.dtype, tensor.shape, tensor.is_contiguous()) == (torch.float32, (3, NUMBERS + 1), True)
        assert tensor.data_ptr() % 64 == 0
    with torch.device("meta"):
        assert recycled((3, NUMBERS)).device.type == recycled((3,)).device.type == "cpu"


def test_small_results_are_left_to_the_heap():
    assert recycled((NUMBERS - 1,)).shape == (NUMBERS - 1,)
    assert not module._known
    assert recycled((0, NUMBERS)).shape == (0, NUMBERS)


def test_no_more_is_held_than_it_may_be_and_what_was_lent_lives_on():
    each = int(HELD_BYTES / 4 / 5)
    tensors = [recycled((each,)).fill_(k) for k in range(12)]
    assert held() <= HELD_BYTES
    assert len(module._known) == 5
    assert all(bool((tensor == k).all()) for k, tensor in enumerate(tensors))
    del tensors
    before = held()
    assert before <= HELD_BYTES
    assert recycled((int(HELD_BYTES / 4) + 1,)).numel() == int(HELD_BYTES / 4) + 1
    assert held() == before  # one result as large as all of it drives nothing out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=60))
def test_no_two_tensors_that_live_share_memory(steps):
    alive = []
    for number, (size, drop) in enumerate(steps):
        tensor = recycled((NUMBERS + 16 * size,)).fill_(number)
        alive.append((number, tensor))
        if drop:
            alive.pop(len(alive) // 2)
        assert all(bool((each == k).all()) for k, each in alive)


def test_threads_get_memory_of_their_own():
    wrong, start = [], threading.Barrier(4)

    def work(name):
        start.wait()
        mine = []
        for k in range(400):
            mine.append((k, recycled((NUMBERS,)).fill_(1000 * name + k)))
            if k % 3 == 2:
                wrong.extend(k for k, each in mine if not bool((each == 1000 * name + k).all()))
                mine.clear()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(module._known) <= 4 * 4  # and what one has ended with serves the others


def test_a_collected_circle_gives_its_memory_back():
    circle = [recycled((NUMBERS,))]
    address = circle[0].data_ptr()
    circle.append(circle)
    del circle
    gc.collect()
    assert recycled((NUMBERS,)).data_ptr() == address


def test_arrays_made_from_a_tensor_see_its_numbers():
    tensor = recycled((NUMBERS,)).fill_(3)
    array = tensor.numpy()
    tensor[7] = 5
    assert array[7] == 5
    assert np.count_nonzero(array == 3) == NUMBERS - 1
