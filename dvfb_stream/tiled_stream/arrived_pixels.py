"""Images that came over the websocket, until their events are there; bounded, as the catalog keeps them too."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from tiled.stream_messages import ArrayData
from tiled.structures.array import BuiltinDtype

_RAW = "application/octet-stream"
"""How TiledWriter sends them."""


Where = tuple[str, str, str]
"""Raw run, stream, data key."""


class ArrivedPixels:
    """By raw run, stream and data key, and by their position in it.

    Parameters
    ----------
    max_bytes
        Of all; for what does not fit, Tiled is asked.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._images: dict[Where, dict[int, NDArray[np.generic]]] = {}

    def put(self, where: Where, update: ArrayData) -> int | None:
        """Keep an update's images where there is room; return how many there are by now; None: it does not say."""
        first = _offset(update)
        if first is None:
            return None
        points = int(update.shape[0])
        images = _images_in(update)
        if images is not None and self._bytes + images.nbytes <= self._max_bytes:
            kept = self._images.setdefault(where, {})
            for position, image in enumerate(images, start=first):
                if position not in kept:
                    kept[position] = image
                    self._bytes += image.nbytes
        return first + points

    def get(self, where: Where, position: int) -> NDArray[np.generic] | None:
        """Return the image at a position; None if it is not there."""
        return self._images.get(where, {}).get(position)

    def drop(self, where: Where, stop: int) -> None:
        """Keep those before a position no longer."""
        kept = self._images.get(where, {})
        for position in [one for one in kept if one < stop]:
            self._bytes -= kept.pop(position).nbytes

    def forget(self, run_uid: str) -> None:
        """Keep those of a run no longer."""
        for where in [one for one in self._images if one[0] == run_uid]:
            self._bytes -= sum(image.nbytes for image in self._images.pop(where).values())


def _offset(update: ArrayData) -> int | None:
    if update.block is not None:
        # Chunks are as large as the first write, which is the first block.
        return 0 if not any(update.block) else None
    return update.offset[0] if update.offset else 0


def _images_in(update: ArrayData) -> NDArray[np.generic] | None:
    if update.mimetype != _RAW or not isinstance(update.data_type, BuiltinDtype) or len(update.shape) < 3:
        return None
    if update.offset and any(update.offset[1:]):
        return None  # a part of an image
    dtype = update.data_type.to_numpy_dtype()
    if dtype.hasobject or len(update.payload) != math.prod(update.shape) * dtype.itemsize:
        return None
    return np.frombuffer(update.payload, dtype).reshape(update.shape)
