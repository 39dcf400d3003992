"""Resource and Datum documents: what ophyd's devices write, and areaDetector's file plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.callbacks.assets.references import (
    Expected,
    Files,
    Hdf5Frame,
    ImageFrame,
    NotThereYetError,
    PixelReference,
)
from dvfb_stream.callbacks.assets.templates import file_name
from dvfb_stream.errors import FrameError

Document = Mapping[str, Any]

AREA_DETECTOR_DATASET = "entry/data/data"
"""Where areaDetector's HDF5 plugin keeps its frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a Resource document says."""

    spec: str
    path: str
    """Root and path together, the root replaced where it is mapped to another."""
    kwargs: Document


@dataclass(slots=True, eq=False)
class Documents:
    """Resources and datums of one run, as far as they have come."""

    resources: dict[str, Resource] = field(default_factory=dict)
    datums: dict[str, tuple[str, Document]] = field(default_factory=dict)
    """By datum id: the resource's uid, and the datum's kwargs."""


@dataclass(frozen=True, slots=True, eq=False)
class DatumFrame:
    """A frame of a datum. Where it lies is found out when it is read: documents may come in any order."""

    documents: Documents
    datum_id: str
    position: int
    """Among the frames of the datum."""
    frames_each: int
    expected: Expected

    @property
    def file(self) -> str:
        """The resource's path, or, while that is not known, the datum's id."""
        found = self._found()
        return self.datum_id if found is None else found[0].path

    def _found(self) -> tuple[Resource, Document] | None:
        datum = self.documents.datums.get(self.datum_id)
        resource = None if datum is None else self.documents.resources.get(datum[0])
        return None if datum is None or resource is None else (resource, datum[1])

    def read(self, files: Files, run: str) -> NDArray[Any]:
        """See `PixelReference`."""
        found = self._found()
        if found is None:
            what = "Datum" if self.datum_id not in self.documents.datums else "Resource"
            raise NotThereYetError(f"the {what} document of the datum {self.datum_id!r} did not come")
        resource, kwargs = found
        known = READERS.get(resource.spec)
        if known is not None:
            return known(self, resource, kwargs).read(files, run)
        return files.handled(
            resource.spec, resource.path, resource.kwargs, kwargs, self.position, self.expected, run
        )


def _number(frame: DatumFrame, resource: Resource, kwargs: Document) -> int:
    """Return the number of a frame in its resource, counted through points and the frames of each."""
    each = resource.kwargs.get("frame_per_point", 1)
    point = kwargs.get("point_number", 0)
    if not (isinstance(each, int) and isinstance(point, int)):
        raise FrameError(
            f"{resource.path}: frame_per_point and point_number must be integers, not {each!r}, {point!r}"
        )
    return point * each + frame.position


def _area_detector_hdf5(frame: DatumFrame, resource: Resource, kwargs: Document) -> PixelReference:
    return Hdf5Frame(
        resource.path,
        str(resource.kwargs.get("key", AREA_DETECTOR_DATASET)),
        _number(frame, resource, kwargs),
        frame.expected,
    )


def _area_detector_tiff(frame: DatumFrame, resource: Resource, kwargs: Document) -> PixelReference:
    template, filename = (str(resource.kwargs.get(name, "")) for name in ("template", "filename"))
    folder = resource.path.rstrip("/") + "/"
    name = file_name(template, _number(frame, resource, kwargs), filename=filename, folder=folder)
    path = name if name.startswith("/") else folder + name
    return ImageFrame(path, 0, frame.expected)


def _npy_sequence(frame: DatumFrame, resource: Resource, kwargs: Document) -> PixelReference:
    index = kwargs.get("index")
    if not isinstance(index, int):
        raise FrameError(f"{resource.path}: the index of a datum must be an integer, not {index!r}")
    return ImageFrame(f"{resource.path}_{index}.npy", frame.position, frame.expected)


READERS: Mapping[str, Callable[[DatumFrame, Resource, Document], PixelReference]] = {
    "AD_HDF5": _area_detector_hdf5,
    "AD_HDF5_SWMR": _area_detector_hdf5,
    "AD_TIFF": _area_detector_tiff,
    "NPY_SEQ": _npy_sequence,
}
"""Specs that are read here rather than by a handler: a file must not be opened in two ways by one process."""


def located(root: str, path: str, root_map: Mapping[str, str]) -> str:
    """Return the path of a resource, its root replaced where it, or a folder above it, is mapped."""
    whole = PurePosixPath(root or "/") / path
    for old, new in root_map.items():
        if whole.is_relative_to(old):
            return str(PurePosixPath(new) / whole.relative_to(old))
    return str(whole)
