"""What changes a frame and keeps its labels, done to view and coefficients alike, or to pixels and geometry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.fbt import rotate
from dvfb_stream.frames import Frame
from dvfb_stream.tilt import Tilt

SYMMETRIES = 8


def transform(
    symmetry: int, images: Tensor, masks: Tensor, coefficients: Tensor, *, orders: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply one of the eight symmetries of the square to a batch.

    Parameters
    ----------
    symmetry
        0 to 7: quarter turns, from 4 on after a mirror image left to right.
    images, masks
        (B, side, side). The beam centre moves along with the pixels.
    coefficients
        (B, n_radial, n_orders) of the same views.
    orders
        m of each column.

    Notes
    -----
    A mirror left to right is φ → π - φ, which maps A_nm to (-1)^m conj(A_nm); a quarter turn is a phase.
    Exact but for the outermost ring of the disk (8), whose radius is not quite symmetric.
    """
    if symmetry >= 4:
        images, masks = images.flip(-1), masks.flip(-1)
        signs = torch.tensor([(-1.0) ** order for order in orders], device=coefficients.device)
        coefficients = coefficients.conj() * signs
    turns = symmetry % 4
    if turns:
        # rot90 over (columns, rows) turns +x towards +y, the direction in which azimuth grows.
        images, masks = (tensor.rot90(turns, (-1, -2)) for tensor in (images, masks))
        coefficients = rotate(coefficients, turns * math.pi / 2, orders=orders)
    return images, masks, coefficients.resolve_conj()


def moved(rings: Tensor, most: int) -> Tensor:
    """Move the ring statistics of a batch along the logarithmic radius: the same pattern at another scale.

    Each half of the batch is moved by a number of bins of its own; what leaves at one end is lost, and where
    something would have to come from beyond the other there is nothing.

    Parameters
    ----------
    rings
        (B, channels, bins).
    most
        Bins, in either direction.
    """
    halves = []
    for half in rings.chunk(2):
        by = int(torch.randint(-most, most + 1, ()))
        bins = half.shape[-1]
        padded = torch.nn.functional.pad(half, (max(by, 0), max(-by, 0)))
        halves.append(padded[..., max(-by, 0) : max(-by, 0) + bins])
    return torch.cat(halves)


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
    tilt = geometry.tilt
    right, down = (0.0, 0.0) if tilt is None else (tilt.right, tilt.down)
    x, y = geometry.center_x, geometry.center_y
    if symmetry >= 4:
        x, right = columns - 1 - x, -right
    for _ in range(symmetry % 4):
        # A quarter turn takes +x to +y: the new column counts from the far end of the old rows.
        x, y, rows, columns = rows - 1 - y, x, columns, rows
        right, down = -down, right
    if tilt is not None:
        # Counted in widths of a pixel, which were heights before a quarter turn.
        width = geometry.pixel_aspect if symmetry % 2 else 1.0
        tilt = Tilt(distance=tilt.distance / width, right=right, down=down)
    return Frame(
        _turned(np.asarray(frame.pixels), symmetry),
        replace(
            geometry,
            shape=(rows, columns),
            center_x=x,
            center_y=y,
            mask=None if geometry.mask is None else _turned(geometry.mask, symmetry),
            pixel_aspect=1 / geometry.pixel_aspect if symmetry % 2 else geometry.pixel_aspect,
            tilt=tilt,
        ),
        frame.origin,
    )


def _turned(values: NDArray[Number], symmetry: int) -> NDArray[Number]:
    if symmetry >= 4:
        values = values[:, ::-1]
    return np.rot90(values, symmetry % 4, axes=(1, 0))
