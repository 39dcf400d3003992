"""Copies of a frame that have its labels: quarter turns and mirror images, pixels and geometry together."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame, Geometry

Number = TypeVar("Number", bound=np.generic)

TURNS = (0, 4, 2, 6, 1, 5, 3, 7)
"""The symmetries of the square in the order in which they are taken: no change, mirror image, half turn, ..."""

MOST_COPIES = 4096
"""Frames and copies that heads are fitted to. Copies help where frames are few; an SVM's time grows with the square
of their number."""


def copies_of(frames: int) -> tuple[int, ...]:
    """Return which symmetries to take of so many frames, the frame as it is being the first."""
    return TURNS[: max(1, min(len(TURNS), MOST_COPIES // max(frames, 1)))]


def turned(frame: Frame, symmetry: int) -> Frame:
    """Return a frame under one of the eight symmetries of the square, its beam centre and mask along with it.

    Parameters
    ----------
    frame
        Left as it is; the pixels returned are a view of its own.
    symmetry
        0 to 7: quarter turns from +x to +y, from 4 on after a mirror image left to right, as in
        `dvfb_stream.training.augmentation.transform`.
    """
    geometry = frame.geometry
    if symmetry == 0:
        return frame
    rows, columns = geometry.shape
    x, y = geometry.center_x, geometry.center_y
    if symmetry >= 4:
        x = columns - 1 - x
    for _ in range(symmetry % 4):
        # A quarter turn takes +x to +y: the new column counts from the far end of the old rows.
        x, y, rows, columns = rows - 1 - y, x, columns, rows
    return Frame(
        _turned(np.asarray(frame.pixels), symmetry),
        Geometry(
            shape=(rows, columns),
            center_x=x,
            center_y=y,
            mask=None if geometry.mask is None else _turned(geometry.mask, symmetry),
        ),
        frame.origin,
    )


def _turned(values: NDArray[Number], symmetry: int) -> NDArray[Number]:
    if symmetry >= 4:
        values = values[:, ::-1]
    return np.rot90(values, symmetry % 4, axes=(1, 0))
