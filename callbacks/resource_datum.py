"""Resource and Datum documents: what ophyd's devices write, and areaDetector's file plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dvfb_stream.callbacks.documents import (
    Document,
    DocumentError,
    NotKnownYetError,
    mapping,
    size_of,
    text,
    whole,
)
from dvfb_stream.callbacks.paths import located
from dvfb_stream.callbacks.recent import Recent
from dvfb_stream.callbacks.templates import file_name
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.references import Expected, FrameReference, HandledFrame, Hdf5Frame, ImageFrame

MOST_RESOURCES, MOST_DATUMS = 10_000, 200_000
"""Kept, of all runs; of more, the oldest are forgotten. Twice as many datums as frames may wait to be read."""
MOST_BYTES = 1 << 27
"""Of resources, and of datums: what the above comes to, unless somebody writes essays into them."""

AREA_DETECTOR_DATASET = "entry/data/data"
"""Where areaDetector's HDF5 plugin keeps its frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a Resource document says."""

    spec: str
    path: str
    """Root and path together, the root replaced where it is mapped to another."""
    kwargs: Document


class ResourceDatum:
    """Resources and datums of all runs, as far as they have come: a device staged once may serve several runs.

    Added to by one thread, asked by any.

    Parameters
    ----------
    root_map
        Other places for what resources call their root: ``{"/ioc/data": "/mnt/data"}``.
    """

    def __init__(self, root_map: Mapping[str, str] | None = None) -> None:
        self._root_map = dict(root_map or {})
        self._resources: Recent[str, Resource] = Recent(MOST_RESOURCES, most_bytes=MOST_BYTES)
        self._datums: Recent[str, tuple[str, Document]] = Recent(MOST_DATUMS, most_bytes=MOST_BYTES)

    def add_resource(self, doc: Document) -> None:
        """Learn where the datums of a resource lie.

        Raises
        ------
        DocumentError
            When the document is malformed.
        """
        root = doc.get("root", "")
        if not isinstance(root, str):
            raise DocumentError(f"a resource's root must be text, not {root!r}")
        path = text(doc, "resource_path")
        is_windows = doc.get("path_semantics") == "windows"
        resource = Resource(
            spec=text(doc, "spec"),
            path=located(root, path, self._root_map, is_windows=is_windows),
            kwargs=dict(mapping(doc, "resource_kwargs")),
        )
        self._resources.put(text(doc, "uid"), resource, n_bytes=len(path) + size_of(resource.kwargs))

    def add_datum(self, doc: Document) -> None:
        """Learn which part of a resource a datum is.

        Raises
        ------
        NotKnownYetError
            When the resource has not come.
        DocumentError
            When the document is malformed.
        """
        self._add(text(doc, "datum_id"), self._known(doc), mapping(doc, "datum_kwargs"))

    def add_datum_page(self, doc: Document) -> None:
        """Learn that of several datums; raises as `add_datum`."""
        ids, resource, columns = doc.get("datum_id"), self._known(doc), mapping(doc, "datum_kwargs")
        if not isinstance(ids, list | tuple | np.ndarray) or any(
            len(column) != len(ids) for column in columns.values()
        ):
            raise DocumentError("the columns of a datum page must be lists of one length")
        for row, datum_id in enumerate(ids):
            self._add(str(datum_id), resource, {key: column[row] for key, column in columns.items()})

    def _known(self, doc: Document) -> str:
        uid = text(doc, "resource")
        if uid not in self._resources:
            raise NotKnownYetError("resource", uid)
        return uid

    def _add(self, datum_id: str, resource: str, kwargs: Document) -> None:
        self._datums.put(datum_id, (resource, dict(kwargs)), n_bytes=len(datum_id) + size_of(kwargs))

    def find(self, datum_id: str) -> tuple[Resource, Document]:
        """Return a datum's resource, and the datum's kwargs; NotThereYetError where they have not come."""
        datum = self._datums.get(datum_id)
        resource = None if datum is None else self._resources.get(datum[0])
        if datum is None or resource is None:
            what = "Datum" if datum is None else "Resource"
            raise NotThereYetError(f"the {what} document of the datum {datum_id!r} did not come")
        return resource, datum[1]

    def frames(self, datum_id: str, described: int, expected: Expected) -> DatumFrames:
        """Return the frames of a datum, whether its documents have come or not.

        Parameters
        ----------
        datum_id
            As an event has it in place of the data.
        described
            How many frames the descriptor promises; what an areaDetector's resource says counts before that.
        expected
            What the descriptor promises of each.
        """
        try:
            resource, _ = self.find(datum_id)
        except NotThereYetError:
            return DatumFrames(self, datum_id, described, datum_id, expected)
        each = whole(resource.kwargs.get("frame_per_point")) if resource.spec in AREA_DETECTOR else None
        count = described if each is None or each < 1 else each
        return DatumFrames(self, datum_id, count, resource.path, expected)


@dataclass(frozen=True, slots=True, eq=False)
class DatumFrames:
    """The frames of a datum."""

    resources: ResourceDatum
    datum_id: str
    count: int
    source: str
    """The resource's path, or, while that is not known, the datum's id."""
    expected: Expected

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> FrameReference:
        # Found out when the frame is read: an event may come before its datum.
        if not 0 <= position < self.count:
            raise IndexError(position)
        resource, datum = self.resources.find(self.datum_id)
        known = READERS.get(resource.spec)
        if known is not None:
            return known(resource, datum, position, self.expected)
        return HandledFrame(resource.spec, resource.path, resource.kwargs, datum, position, self.expected)


def _number(resource: Resource, datum: Document, position: int) -> int:
    """Return the number of a frame in its resource, counted through points and the frames of each."""
    each = whole(resource.kwargs.get("frame_per_point", 1))
    point = whole(datum.get("point_number", 0))
    if each is None or point is None or each < 1 or point < 0:
        raise FrameError(
            f"{resource.path}: frame_per_point and point_number must be integers, the former from 1 and the latter "
            f"from 0, not {resource.kwargs.get('frame_per_point')!r} and {datum.get('point_number')!r}"
        )
    return point * each + position


def _area_detector_hdf5(resource: Resource, datum: Document, position: int, expected: Expected) -> Hdf5Frame:
    dataset = str(resource.kwargs.get("key", AREA_DETECTOR_DATASET))
    return Hdf5Frame(resource.path, dataset, _number(resource, datum, position), expected)


def _area_detector_tiff(resource: Resource, datum: Document, position: int, expected: Expected) -> ImageFrame:
    template, filename = (str(resource.kwargs.get(name, "")) for name in ("template", "filename"))
    folder = resource.path.rstrip("/") + "/"
    name = file_name(template, _number(resource, datum, position), filename=filename, folder=folder)
    path = name if name.startswith("/") else folder + name
    return ImageFrame(path, 0, expected)


def _npy_sequence(resource: Resource, datum: Document, position: int, expected: Expected) -> ImageFrame:
    number = whole(datum.get("index"))
    if number is None or number < 0:
        raise FrameError(
            f"{resource.path}: the index of a datum must be an integer from 0, not {datum.get('index')!r}"
        )
    return ImageFrame(f"{resource.path}_{number}.npy", position, expected)


READERS: Mapping[str, Callable[[Resource, Document, int, Expected], FrameReference]] = {
    "AD_HDF5": _area_detector_hdf5,
    "AD_HDF5_SWMR": _area_detector_hdf5,
    "AD_TIFF": _area_detector_tiff,
    "NPY_SEQ": _npy_sequence,
}
"""Specs that are read here rather than by a handler: a file must not be opened in two ways by one process."""


AREA_DETECTOR = {spec for spec in READERS if spec.startswith("AD_")}
"""Specs whose resources say how many frames a point has."""
