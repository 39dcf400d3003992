from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.callbacks.frame_sequence import images_in, taken_over
from dvfb_stream.errors import FrameError
from dvfb_stream.isolation.frame_memory import FrameMemory

MEMORY = FrameMemory()


def test_two_dimensions_are_one_image_and_three_are_many():
    stack = np.arange(24).reshape(2, 3, 4)
    assert len(images_in(stack[0])) == 1
    assert [image.tolist() for image in images_in(stack)] == stack.tolist()
    assert len(images_in(stack[:1])) == 1
    assert images_in(stack[:0]) == []
    assert images_in([[1, 2], [3, 4]])[0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "value",
    [3.0, None, "datum/1", [[1, 2], [3]], [1, 2], np.zeros(3), np.zeros((1, 1, 2, 2)), np.array([["a"]])],
)
def test_what_is_not_an_image_is_refused_in_words(value):
    with pytest.raises(FrameError, match="a frame must"):
        images_in(value)


def test_object_arrays_are_refused():
    with pytest.raises(FrameError, match="object"):
        images_in(np.array([[object()]], dtype=object))


def test_the_detector_may_reuse_its_buffer():
    buffer = np.ones((2, 2), dtype=np.uint16)
    readout = buffer.view()
    readout.flags.writeable = False  # the owner can still write
    for image in (buffer, buffer[:], buffer.T, readout):
        taken = taken_over(image, MEMORY)
        assert not np.shares_memory(taken, buffer)
        assert taken.dtype == np.uint16
        assert not taken.flags.writeable


def test_immutable_bytes_are_not_copied():
    image = np.frombuffer(bytes(8), dtype="<u2").reshape(2, 2)
    assert taken_over(image, MEMORY) is image
    others = np.frombuffer(bytearray(8), dtype="<u2").reshape(2, 2)
    assert not np.shares_memory(taken_over(others, MEMORY), others)


def test_foreign_byte_order_becomes_the_machine_s():
    image = np.frombuffer(b"\x00\x01\x00\x02", dtype=">u2").reshape(1, 2)
    taken = taken_over(image, MEMORY)
    assert taken.dtype.isnative
    assert taken.tolist() == [[1, 2]]
