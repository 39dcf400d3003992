"""From many views, which may not fit in memory as floats, to small batches that the descriptors take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.errors import FrameError
from dvfb_stream.models.branches import IMAGE_SIDE, halve

FRAMES_PER_BATCH = 4
"""The patches of a PCANet, 0.8 MB a map and frame, then stay in the cache: it learns twice as fast as by 16."""


def halved_batches(X: Any, masks: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield views averaged over 2 x 2 valid pixels, batch by batch.

    Parameters
    ----------
    X
        (N, 256, 256) views, 0..255 and 0 where invalid, of any numeric type; sliced, never copied as a whole, so
        that it may be mapped from a file.
    masks
        (N, 256, 256) boolean, True = valid; None: every pixel is.

    Yields
    ------
    images, masks
        (B, 128, 128) float32 and boolean.

    Raises
    ------
    FrameError
        When the shapes are not these.
    """
    side = 2 * IMAGE_SIDE
    shape = np.shape(X)
    if len(shape) != 3 or shape[1:] != (side, side):
        raise FrameError(f"a descriptor takes views of shape (N, {side}, {side}), not {shape}")
    if masks is not None and np.shape(masks) != shape:
        raise FrameError(f"masks must have the shape of the views, {shape}, not {np.shape(masks)}")
    for start in range(0, shape[0], FRAMES_PER_BATCH):
        part = slice(start, start + FRAMES_PER_BATCH)
        images = torch.from_numpy(np.array(X[part], dtype=np.float32))
        valid = (
            torch.ones_like(images, dtype=torch.bool)
            if masks is None
            else torch.from_numpy(np.array(masks[part], dtype=np.bool_))
        )
        yield halve(images, valid)
