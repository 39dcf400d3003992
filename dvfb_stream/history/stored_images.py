"""Where the images of one data key lie: in files that are mounted here, or with Tiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.old_documents import HDF5
from dvfb_stream.callbacks.paths import path_of
from dvfb_stream.callbacks.resources import SEQUENCES
from dvfb_stream.errors import FrameError

_FILE_PARAMETERS = {"data_uri", "data_uris"}


@dataclass(frozen=True, slots=True)
class ImagesInTiled:
    """Images that Tiled's server reads: inline ones, and files that are not mounted here."""

    node: Any
    points: int
    """Events that have images."""
    rows_each: int
    """Of the array's first axis, for a point; 0: a point is one of its entries."""

    @property
    def point_bytes(self) -> int:
        """Bytes of the images of a point."""
        each = self.rows_each or 1
        return max(1, int(math.prod(self.node.shape[1:]) * each * self.node.dtype.itemsize))

    def read(self, first: int, stop: int) -> Sequence[NDArray[Any]]:
        """Return the images of some points: (H, W) or (n, H, W) of each."""
        if self.rows_each:
            found = np.asarray(self.node[first * self.rows_each : stop * self.rows_each])
            return list(found.reshape(stop - first, self.rows_each, *found.shape[1:]))
        found = np.asarray(self.node[first:stop])
        return [point.reshape(-1, *point.shape[-2:]) if point.ndim > 3 else point for point in found]


@dataclass(frozen=True, slots=True)
class FilesOfImages:
    """Images in files that are mounted here, each with the same number of points."""

    points: int
    uris: Sequence[str]
    mimetype: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def resources(self, uid: str, first: int = 0) -> Iterator[dict[str, Any]]:
        """Give a stream resource of each file, from the `first` on."""
        for number, uri in enumerate(self.uris[first:], start=first):
            yield {
                "uid": f"{uid}/{number}",
                "uri": uri,
                "mimetype": self.mimetype,
                "parameters": dict(self.parameters),
            }

    def datums(self, uid: str, block: range) -> Iterator[dict[str, Any]]:
        """Give stream datums of the points of a block; `uid` as `resources` takes it."""
        each = self.points // len(self.uris)
        stop = min(block.stop, self.points)
        first = block.start
        while first < stop:
            number, begin = divmod(first, each)
            count = min(each - begin, stop - first)
            yield {
                "uid": f"{uid}/{first}",
                "stream_resource": f"{uid}/{number}",
                "indices": {"start": begin, "stop": begin + count},
                "seq_nums": {"start": first + 1, "stop": first + count + 1},
            }
            first += count


Permits = Callable[[str], bool]
"""Whether the file at a path may be opened."""


def any_file(path: str) -> bool:
    """Permit every file."""
    return True


def images_of(
    node: Any,
    spec: Mapping[str, Any],
    root_map: Mapping[str, str],
    *,
    permits: Permits = any_file,
    before: ImagesInTiled | FilesOfImages | None = None,
) -> ImagesInTiled | FilesOfImages:
    """Return where the images of a data key lie.

    Parameters
    ----------
    node
        Tiled client of their array.
    spec
        What the descriptor says of the data key.
    root_map
        Other places for the folders that documents name.
    permits
        Whether the file at a path may be opened here; others are read by Tiled, where it can.
    before
        Where they were, when there were fewer: they stay there.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    shape, described = tuple(node.shape), tuple(spec.get("shape") or ())
    source = node.data_sources()[0]
    is_external = str(getattr(source.management, "value", source.management)) == "external"
    # As bluesky-tiled-plugins tells arrays whose points are stacked from those whose points follow one another.
    is_stacked = not is_external or len(shape) == len(described) + 1 or not described
    rows_each = 0 if is_stacked else max(1, described[0])
    points = shape[0] // max(1, rows_each)
    images = ImagesInTiled(node, points, rows_each)
    if not is_external or not points or isinstance(before, ImagesInTiled):
        return images
    assets = sorted(
        (asset for asset in source.assets if asset.parameter in _FILE_PARAMETERS), key=lambda a: a.num or 0
    )
    uris = [asset.data_uri for asset in assets]
    # Of several files of HDF5 nobody keeps how many points each has.
    is_even = uris and points % len(uris) == 0 and (len(uris) == 1 or source.mimetype in SEQUENCES)
    if not is_even or source.mimetype not in (HDF5, *SEQUENCES):
        return images
    files = FilesOfImages(points, uris, source.mimetype, _of_one_file(source.parameters))
    if before is not None or _are_mounted(uris, root_map, permits) or not _can_be_read(images):
        return files  # whose rows say what is missing
    return images


def _of_one_file(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts for a file by itself: its name needs no template."""
    return {key: parameters[key] for key in ("dataset", "slice") if parameters.get(key)}


def _are_mounted(uris: Sequence[str], root_map: Mapping[str, str], permits: Permits) -> bool:
    try:
        paths = [path_of(uri, root_map) for uri in (uris[0], uris[-1])]
        return all(permits(path) and Path(path).is_file() for path in paths)
    except FrameError:
        return False


def _can_be_read(images: ImagesInTiled) -> bool:
    try:
        images.read(0, 1)
    except Exception:  # noqa: BLE001 - httpx's family, Tiled's: the server does not reach the files, either
        return False
    return True
