"""Turns the value of a data key into images that stay what they were when the detector handed them over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.documents import MAX_EXPOSURES_IN_A_DOCUMENT, DocumentError
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import NUMBER_KINDS
from dvfb_stream.isolation.frame_memory import FrameMemory


def images_in(value: object) -> list[NDArray[Any]]:
    """Return the images in `value`: (H, W) gives one, (n, H, W) gives n; views where `value` is an array.

    Raises
    ------
    FrameError
        When it is not an array of numbers (or nested lists of them) with two or three dimensions, or has no pixels.
    DocumentError
        When there are more than is believed.
    """
    if not isinstance(value, np.ndarray | list | tuple):
        raise FrameError(
            f"a frame must be an array of numbers, not {type(value).__name__} {str(value)[:60]!r}"
        )
    try:
        array = np.asarray(value)
    except Exception as error:  # what lies in the lists may be anything, and raise anything
        raise FrameError(
            f"a frame must be an array of numbers, but its rows do not fit together: {error}"
        ) from error
    if array.dtype.kind not in NUMBER_KINDS:
        raise FrameError(f"a frame must be an array of numbers, not of type {array.dtype}")
    if array.ndim not in (2, 3):
        raise FrameError(f"a frame must have the shape (H, W) or (n, H, W), not {array.shape}")
    if 0 in array.shape[-2:]:
        raise FrameError(f"a frame must have pixels; there are none in the shape {array.shape}")
    if array.ndim == 3 and len(array) > MAX_EXPOSURES_IN_A_DOCUMENT:
        raise DocumentError(f"a document with {len(array)} frames is not believed")
    return [array] if array.ndim == 2 else list(array)


def taken_over(image: NDArray[Any], memory: FrameMemory) -> NDArray[Any]:
    """Return `image` as a read-only array that nobody else can write to, where need be a copy in `memory`.

    An array inside an Event may be the detector's own buffer, overwritten by the next exposure while this one
    still waits in the queue; so it is copied. Only what lies in immutable bytes, as documents decoded from a
    message do, is taken as it is.
    """
    return image if _lies_in_bytes(image) else memory.copy(image)


def _lies_in_bytes(image: NDArray[Any]) -> bool:
    if not (image.dtype.isnative and image.flags.c_contiguous):
        return False
    owner: object = image
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return isinstance(owner, bytes)
