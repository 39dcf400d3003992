from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.callbacks.frame_sequence import images_in
from dvfb_stream.errors import FrameError


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


def test_what_a_masked_array_in_an_event_masks_is_no_count():
    stack = np.ma.MaskedArray(np.ones((2, 3, 4), np.uint16), mask=np.zeros((2, 3, 4), bool))
    stack[1, 2, 3] = np.ma.masked
    first, second = images_in(stack)
    assert (first == 1).all()
    assert second[2, 3] == 2**16 - 1
    assert np.count_nonzero(second == 1) == 11
