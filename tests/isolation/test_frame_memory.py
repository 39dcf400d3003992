from __future__ import annotations

import gc
import json
import mmap
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dvfb_stream.isolation.frame_memory import SMALL, FrameMemory, MappedFrames

SHAPE = (256, 512)
SIZE = 4 * SHAPE[0] * SHAPE[1]
assert SIZE >= SMALL


def image(value: int, dtype: str = "<i4") -> np.ndarray:
    return np.full(SHAPE, value, dtype)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def held_bytes(memory: FrameMemory) -> int:
    """Return what the system has lent to the file."""
    return 512 * os.fstat(memory.file).st_blocks


def seen_elsewhere(memory: FrameMemory, array: np.ndarray) -> np.ndarray:
    return MappedFrames(memory.file).array(json.loads(json.dumps(memory.place_of(array))))


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_is_equal_read_only_and_its_own():
    memory, source = FrameMemory(), np.arange(SIZE // 4, dtype=">i4").reshape(SHAPE)[::-1]
    copy = memory.copy(source)
    np.testing.assert_array_equal(copy, source)
    assert copy.dtype == np.dtype("=i4")
    assert copy.flags.c_contiguous
    assert not copy.flags.writeable
    assert not np.shares_memory(copy, source)


def test_the_detector_may_reuse_its_buffer():
    buffer = np.ones((2, 2), dtype=np.uint16)
    readout = buffer.view()
    readout.flags.writeable = False  # the owner can still write
    for image in (buffer, buffer[:], buffer.T, readout):
        taken = FrameMemory().take_over(image)
        assert not np.shares_memory(taken, buffer)
        assert taken.dtype == np.uint16
        assert not taken.flags.writeable


def test_immutable_bytes_are_not_copied():
    image = np.frombuffer(bytes(8), dtype="<u2").reshape(2, 2)
    assert FrameMemory().take_over(image) is image
    others = np.frombuffer(bytearray(8), dtype="<u2").reshape(2, 2)
    assert not np.shares_memory(FrameMemory().take_over(others), others)


def test_another_byte_order_becomes_the_machine_s():
    image = np.frombuffer(b"\x00\x01\x00\x02", dtype=">u2").reshape(1, 2)
    taken = FrameMemory().take_over(image)
    assert taken.dtype.isnative
    assert taken.tolist() == [[1, 2]]


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


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_some_is_ready_before_it_is_asked_for_until_it_is_closed():
    memory = FrameMemory(ahead=3)
    held = [memory.copy(image(1))]
    wait_for(lambda: memory.idle_bytes == 3 * SIZE)
    held += [memory.copy(image(n)) for n in range(5)]
    memory.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dvfb-memory"]
    held.append(memory.copy(image(9)))
    assert [int(array[0, 0]) for array in held] == [1, 0, 1, 2, 3, 4, 9]


def test_no_more_is_made_ready_than_is_kept():
    memory = FrameMemory(SIZE, ahead=3)
    held = memory.copy(image(1))
    wait_for(lambda: memory.idle_bytes == SIZE)
    del held
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


def test_memory_given_back_by_threads_of_several_sizes_is_neither_lost_nor_kept_beyond_the_bound():
    memory, wrong = FrameMemory(3 * SIZE, ahead=2), []

    def use(rows: int) -> None:
        for n in range(100):
            held = [memory.copy(np.full((rows, SHAPE[1]), rows + n)) for _ in range(2)]
            cycle: list = [held.pop()]
            cycle.append(cycle)  # the garbage collector drops it, wherever that runs
            if not (held[0] == rows + n).all() or not (cycle[0] == rows + n).all():
                wrong.append(rows)

    before, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-5)
    gc.set_threshold(20, 2, 2)
    try:
        threads = [threading.Thread(target=use, args=(rows,)) for rows in (256, 257, 320, 512)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
        gc.set_threshold(*threshold)
    memory.close()
    gc.collect()
    assert not wrong
    assert held_bytes(memory) == memory.idle_bytes <= 3 * SIZE


def test_what_is_more_than_is_kept_is_given_back_to_the_system():
    memory = FrameMemory(2 * SIZE)
    held = [memory.copy(image(n)) for n in range(6)]
    assert held_bytes(memory) == 6 * SIZE
    held.clear()
    assert held_bytes(memory) == 2 * SIZE
    held = [memory.copy(image(n)) for n in range(6)]
    assert [int(array[-1, -1]) for array in held] == [*range(6)]


def test_the_file_does_not_grow_while_frames_of_other_sizes_come_and_go():
    memory, rng = FrameMemory(SIZE), np.random.default_rng(0)
    mask = memory.shared((1,), "u1")
    sizes = []
    for rows in (*range(60, 250, 10), 2600):  # of 2600, there is room for five if it is in one piece again
        held = [memory.shared((rows, 5000), "u1") for _ in range(5)]
        for n, array in enumerate(held):
            array[:] = n
        del array
        for n in rng.permutation(5):
            assert (held[n] == n).all()
            held[n] = None
        sizes.append(os.fstat(memory.file).st_size)
    assert set(sizes) == {1 << 26}
    assert held_bytes(memory) <= SIZE + mmap.PAGESIZE
    del mask


def test_one_array_may_be_larger_than_what_is_mapped_at_once():
    memory = FrameMemory(0)
    large = memory.shared(((1 << 26) + 1,), "u1")
    large[-1] = 5
    small = memory.shared((3,), "u1")
    small[:] = 7
    assert seen_elsewhere(memory, large)[-1] == 5
    assert (seen_elsewhere(memory, small) == 7).all()
    del large
    assert held_bytes(memory) == mmap.PAGESIZE


def test_a_process_with_few_descriptors_holds_and_maps_many_frames():
    run("""
import os, resource
import numpy as np
from dvfb_stream.isolation.frame_memory import FrameMemory, MappedFrames
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
memory = FrameMemory(1 << 23)
mapped = MappedFrames(memory.file)
for burst in range(3):
    held = [memory.copy(np.full((300, 250 + burst), n, "i4")) for n in range(400)]
    seen = [mapped.array(memory.place_of(frame)) for frame in held]
    assert all((array == n).all() for n, array in enumerate(seen))
    assert len(os.listdir("/proc/self/fd")) < 20
""")


def test_a_forked_process_leaves_the_memory_alone():
    run(f"""
import os
import numpy as np
from dvfb_stream.isolation.frame_memory import FrameMemory
memory = FrameMemory(0, ahead=2)
image = np.full({SHAPE}, 7, "i4")
frame, small = memory.copy(image), memory.shared((3,), "u1")
small[:] = 7
pid = os.fork()
if pid == 0:
    status = 1
    try:
        held = [memory.copy(image + n) for n in range(10)] + [memory.empty(image.shape, "i4")]
        for array in held[:-1]:
            try:
                memory.place_of(array)
                os._exit(2)
            except KeyError:
                pass
        for refused in (lambda: memory.shared((3,), "u1"), lambda: memory.with_place(frame)):
            try:
                refused()
                os._exit(3)
            except RuntimeError as error:
                assert "forked" in str(error)
        assert memory.idle_bytes == 0
        assert (frame == 7).all()
        del frame, small
        memory.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert (frame == 7).all() and (small == 7).all()
assert memory.place_of(memory.copy(image))
""")


def test_arrays_that_hold_no_numbers_have_no_place_and_cost_none():
    memory = FrameMemory()
    memory.copy(image(1))
    for dtype in (object, "c16", "M8[s]", "S3", [("x", "i4")]):
        with pytest.raises(TypeError, match="nothing to another process"):
            memory.shared(SHAPE, dtype)
        with pytest.raises(TypeError, match="nothing to another process"):
            memory.with_place(np.empty(SHAPE, dtype))
        assert memory.copy(np.zeros((600, 600), dtype)).shape == (600, 600)
    with pytest.raises(ValueError, match="negative"):
        memory.shared((-1, -5), "i4")
    assert memory.idle_bytes == SIZE == held_bytes(memory)


@pytest.mark.parametrize(
    "part",
    [
        lambda a: a,
        lambda a: a[:3],
        lambda a: a.reshape(-1),
        lambda a: a.reshape(2, -1, 4),
        lambda a: a.view("u1"),
        lambda a: a[0, 0:1].reshape(()),
    ],
)
def test_a_contiguous_part_from_the_beginning_has_the_place_it_lies_in(part):
    memory = FrameMemory()
    whole = memory.shared(SHAPE, "<i4")
    whole[:] = np.arange(SIZE // 4).reshape(SHAPE)
    own = part(whole)
    assert memory.with_place(own) is own
    seen = seen_elsewhere(memory, own)
    assert (seen.shape, seen.dtype) == (own.shape, own.dtype)
    np.testing.assert_array_equal(seen, own)
    del whole
    assert memory.idle_bytes == 0


@pytest.mark.parametrize(
    "part",
    [
        lambda a: a[1:],
        lambda a: a[:, :3],
        lambda a: a[::2],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: np.broadcast_to(a[0], (4, *a[0].shape)),
        lambda a: a[:0],
        lambda a: np.ndarray((0,), "i4", a, a.nbytes),  # where the next array begins
        lambda a: np.array(3.5),
        lambda a: np.ones((3, 4), ">u2"),
        lambda a: np.ones(5, bool),
        lambda a: np.ones((0, 4), "f4"),
    ],
)
def test_any_other_array_is_copied_to_a_place(part):
    memory = FrameMemory()
    whole, following = memory.shared(SHAPE, "<i4"), memory.shared(SHAPE, "<i4")
    whole[:] = np.arange(SIZE // 4).reshape(SHAPE)
    following[:] = -1
    own = part(whole)
    placed = memory.with_place(own)
    assert placed is not own
    assert not np.shares_memory(placed, own)
    assert memory.place_of(placed) not in (memory.place_of(whole), memory.place_of(following))
    seen = seen_elsewhere(memory, placed)
    assert (seen.shape, seen.dtype) == (own.shape, own.dtype)
    np.testing.assert_array_equal(seen, own)
    assert (following == -1).all()


def test_an_array_is_seen_as_it_is_read_only_unless_it_is_to_be_filled():
    memory = FrameMemory()
    array = memory.shared((3,), "i4")
    array[:] = 1
    seen = seen_elsewhere(memory, array)
    array[:] = 2
    assert (seen == 2).all()
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 3
    MappedFrames(memory.file, mmap.ACCESS_WRITE).array(memory.place_of(array))[:] = 4
    assert (array == 4).all()


def test_few_extents_stay_mapped_and_arrays_in_others_stay_valid():
    with open(os.memfd_create("extents"), "w+b") as file:
        places = [
            {"extent": [n * mmap.PAGESIZE, mmap.PAGESIZE], "offset": 8, "shape": [2], "dtype": "<i4"}
            for n in range(100)
        ]
        for place in places:
            file.seek(place["extent"][0] + place["offset"])
            file.write(np.full(2, place["extent"][0], "<i4").tobytes())
        file.truncate(len(places) * mmap.PAGESIZE)
        before = len(os.listdir("/proc/self/fd"))
        mapped = MappedFrames(file.fileno())
        first = mapped.array(places[0])
        for _ in range(2):
            for place in places:
                assert (mapped.array(place) == place["extent"][0]).all()
        assert len(os.listdir("/proc/self/fd")) - before <= 17  # 16, and that of the array held here
        assert (first == 0).all()
