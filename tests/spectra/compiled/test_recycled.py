"""Test ``mambascope.spectra.compiled.recycled``: memory is lent again once nobody holds it, and never before."""

import gc
import signal
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambascope.spectra.compiled import recycled as module
from mambascope.spectra.compiled.recycled import MOST_GIVEN_BACK, SMALLEST_BYTES, SPARE_BYTES, recycled

NUMBERS = SMALLEST_BYTES // 4


@pytest.fixture(autouse=True)
def nothing_spare():
    gc.collect()
    module.release()
    yield
    module.release()


def spare():
    module._sort()
    return sum(memory.nbytes for stack in module._spare.values() for memory in stack)


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
    assert not spare()
    assert recycled((0, NUMBERS)).shape == (0, NUMBERS)


def test_spare_memory_has_a_limit():
    each = int(SPARE_BYTES / 4 / 5)
    for number in range(9):
        sizes = [recycled((each + 16 * size,)) for size in range(number)]
        while sizes:
            del sizes[0]
            assert spare() <= SPARE_BYTES
    kept = {memory.size for stack in module._spare.values() for memory in stack}
    assert kept == {each + 16 * size for size in range(4, 8)}  # what was given back last


def test_as_much_may_lie_spare_as_is_in_use():
    """A stream gives all states of a block back at once, and takes as many for the next."""
    each = int(SPARE_BYTES / 4 / 4)
    used, given_back = ([recycled((each,)) for _ in range(12)] for _ in range(2))
    addresses = {tensor.data_ptr() for tensor in given_back}
    del given_back
    assert spare() == 12 * 4 * each
    again = [recycled((each,)) for _ in range(12)]
    assert {tensor.data_ptr() for tensor in again} == addresses
    del used, again
    assert spare() <= SPARE_BYTES


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


def test_spare_memory_can_be_released():
    tensor = recycled((NUMBERS,)).fill_(3)
    del tensor
    kept = recycled((2, NUMBERS)).fill_(4)
    assert spare() == SMALLEST_BYTES
    module.release()
    assert spare() == 0
    assert bool((kept == 4).all())
    del kept
    assert spare() == 2 * SMALLEST_BYTES


def test_what_is_given_back_at_once_is_kept_up_to_a_number():
    tensors = [recycled((NUMBERS,)) for _ in range(MOST_GIVEN_BACK + 50)]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    del tensors
    assert spare() == MOST_GIVEN_BACK * SMALLEST_BYTES


def test_sizes_that_are_asked_for_once_leave_nothing():
    for number in range(2000):
        recycled((NUMBERS + 64 * number,))
    assert spare() <= SPARE_BYTES
    assert sum(4 * size for size in module._spare) == spare()
    assert len(module._made) < 2000


def test_a_result_is_no_view_and_can_be_changed_in_place_under_autograd():
    with torch.no_grad():
        tensor = recycled((4, NUMBERS)).zero_()
    weight = torch.ones(1, requires_grad=True)
    tensor += weight
    tensor.sum().backward()
    assert float(weight.grad) == 4 * NUMBERS


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_interrupt_is_never_lost():
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    rng, lost, rounds = np.random.default_rng(0), 0, 400
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in rng.uniform(2e-5, 5e-4, rounds):
            deadline = time.perf_counter() + 1
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                while time.perf_counter() < deadline:
                    recycled((NUMBERS,))
                lost += 1
            except Interrupted:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert lost == 0
    assert spare() <= SPARE_BYTES


def test_a_loan_that_an_interrupt_cut_short_is_passed_over():
    loan = object.__new__(module._Loan)
    module._given_back.append(module._Reference(loan))
    tensor = recycled((NUMBERS,))
    del tensor
    assert spare() == SMALLEST_BYTES
