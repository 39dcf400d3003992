"""Reads single frames of raw runs through Tiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.place import plain
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Origin

_STREAMS = "streams"
"""Below which versions of bluesky-tiled-plugins of 2025 laid streams."""


def image_node(raw: Any, origin: Origin) -> Any:
    """Return the client of the array of a frame's data key.

    Parameters
    ----------
    raw
        Plain Tiled client of the container of raw runs.

    Raises
    ------
    FrameError
        When the raw run or its images are not there.
    Exception
        What Tiled's client raises.
    """
    run = raw.get(origin.run_uid)
    if run is None:
        raise FrameError(f"the raw run {origin.run_uid} is not in {raw.uri.partition('?')[0]}")
    for above in (run, plain(run).get(_STREAMS)):
        stream = None if above is None else plain(above).get(origin.stream)
        node = None if stream is None else plain(stream).get(origin.data_key)
        if node is not None:
            return node
    raise FrameError(f"run {origin.run_uid} has no {origin.data_key!r} in a stream {origin.stream!r}")


def read_image(node: Any, frame: int) -> NDArray[Any]:
    """Return the pixels (H, W) of a frame, which Tiled's server reads.

    Parameters
    ----------
    node
        As `image_node` returns it.
    frame
        Index of the frame in its data key, from 0. They are counted through all axes before those of the pixels: of
        (events, H, W) and of (events, frames of each, H, W).

    Raises
    ------
    FrameError
        When there is none.
    Exception
        What Tiled's client raises.
    """
    before = tuple(node.shape[:-2])
    if len(node.shape) < 2 or frame >= int(np.prod(before)):
        raise FrameError(f"there is no frame {frame} in images of shape {tuple(node.shape)}")
    place = tuple(int(index) for index in np.unravel_index(frame, before)) if before else ()
    return np.asarray(node[place] if place else node.read())
