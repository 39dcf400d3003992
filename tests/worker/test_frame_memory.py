from __future__ import annotations

import gc
import sys
import threading
import time

import numpy as np
import pytest

from dvfb_stream.worker.frame_memory import SMALL, FrameMemory

SHAPE = (256, 512)
SIZE = 4 * SHAPE[0] * SHAPE[1]
assert SIZE >= SMALL


def image(value: int, dtype: str = "<i4") -> np.ndarray:
    return np.full(SHAPE, value, dtype)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_a_copy_is_equal_read_only_and_its_own():
    memory, source = FrameMemory(), np.arange(SIZE // 4, dtype=">i4").reshape(SHAPE)[::-1]
    copy = memory.copy(source)
    np.testing.assert_array_equal(copy, source)
    assert copy.dtype == np.dtype("=i4")
    assert copy.flags.c_contiguous
    assert not copy.flags.writeable
    assert not np.shares_memory(copy, source)


def test_memory_is_used_again_when_nothing_refers_to_it():
    memory = FrameMemory()
    first = memory.copy(image(1))
    place = address(first)
    del first
    assert memory.idle_bytes == SIZE
    second, third = memory.copy(image(2)), memory.copy(image(3))
    assert address(second) == place != address(third)
    assert memory.idle_bytes == 0


@pytest.mark.parametrize(
    "take", [lambda a: a[3:5], lambda a: a.reshape(-1)[1:], lambda a: memoryview(a), lambda a: a.T]
)
def test_a_view_keeps_its_memory(take):
    memory = FrameMemory()
    part = take(memory.copy(image(7)))
    gc.collect()
    assert memory.idle_bytes == 0
    memory.copy(image(8))
    assert (np.asarray(part) == 7).all()
    del part
    assert memory.idle_bytes == 2 * SIZE


def test_a_tensor_keeps_its_memory():
    torch = pytest.importorskip("torch")
    memory = FrameMemory()
    pixels = memory.empty(SHAPE, "f4")
    pixels[:] = 7
    tensor = torch.from_numpy(pixels)[5:]
    del pixels
    memory.copy(image(8))
    assert bool((tensor == 7).all())
    del tensor
    assert memory.idle_bytes == 2 * SIZE


def test_no_more_is_kept_than_stated_and_a_new_detector_takes_the_place_of_the_old():
    memory = FrameMemory(3 * SIZE)
    held = [memory.copy(image(n)) for n in range(5)]
    held.clear()
    assert memory.idle_bytes == 3 * SIZE
    other = memory.copy(np.zeros((2 * SHAPE[0], SHAPE[1]), "<i4"))
    assert memory.idle_bytes == 3 * SIZE
    del other
    assert memory.idle_bytes == 2 * SIZE
    too_large = memory.copy(np.zeros((4 * SHAPE[0], SHAPE[1]), "<i4"))
    del too_large
    assert memory.idle_bytes <= 3 * SIZE


def test_some_is_ready_before_it_is_asked_for_until_it_is_closed():
    memory = FrameMemory(ahead=3)
    held = [memory.copy(image(1))]
    deadline = time.monotonic() + 10
    while memory.idle_bytes < 3 * SIZE and time.monotonic() < deadline:
        time.sleep(0.001)
    assert memory.idle_bytes == 3 * SIZE
    held += [memory.copy(image(n)) for n in range(5)]
    memory.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dvfb-memory"]
    held.append(memory.copy(image(9)))
    assert [int(array[0, 0]) for array in held] == [1, 0, 1, 2, 3, 4, 9]


def test_no_more_is_made_ready_than_is_kept():
    memory = FrameMemory(SIZE, ahead=3)
    memory.copy(image(1))
    time.sleep(0.05)
    memory.close()
    assert memory.idle_bytes <= SIZE


def test_small_images_are_numpys_own():
    memory = FrameMemory()
    small = memory.copy(np.ones((4, 6)))
    del small
    assert memory.idle_bytes == 0
    assert memory.copy(np.ones((0, 6))).shape == (0, 6)


def test_threads_never_get_the_same_memory():
    memory, wrong = FrameMemory(), []

    def use(value: int) -> None:
        for _ in range(200):
            held = [memory.copy(image(value)) for _ in range(3)]
            if not all((array == value).all() for array in held):
                wrong.append(value)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=use, args=(value,)) for value in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong
