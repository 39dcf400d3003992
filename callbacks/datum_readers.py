"""Where the frames of a datum lie, by the spec of its resource: for those files that are read here, not by a handler.

Handlers give arrays of whole datums, open files in ways of their own, and some err: that of areaDetector's CBF files
asks for files of the next point, that of Eiger's takes the first data file for the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dvfb_stream.callbacks.document_fields import Document, whole
from dvfb_stream.callbacks.old_documents import AREA_DETECTOR_DATASET
from dvfb_stream.callbacks.paths import file_name
from dvfb_stream.errors import FrameError
from dvfb_stream.files.references import Expected, FrameReference, Hdf5Frame, ImageFrame

DETECTOR_GROUP = "entry/instrument/detector"
"""Where its NeXus layout keeps them, in the dataset `data`."""

MASTER_GROUP = "entry"
"""Where an Eiger's master file has the links to its data files; firmware from 1.3 on has them in a group in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a Resource document says."""

    spec: str
    path: str
    """Root and path together, the root replaced where it is mapped to another."""
    kwargs: Document


@dataclass(frozen=True, slots=True)
class DatumFrame:
    """One frame of a datum."""

    resource: Resource
    datum: Document
    """Its kwargs."""
    position: int
    """Among the frames of the datum, from 0."""
    count: int
    """Frames of the datum, as documents have it."""
    expected: Expected

    @property
    def number(self) -> int:
        """Of the frame in its resource, counted through points and the frames of each; FrameError where not said."""
        kwargs = self.resource.kwargs
        each = whole(kwargs.get("frame_per_point", 1))
        point = whole(self.datum.get("point_number", 0))
        if each is None or point is None or each < 1 or point < 0:
            raise FrameError(
                f"{self.resource.path}: frame_per_point and point_number must be integers, the former from 1 and the "
                f"latter from 0, not {kwargs.get('frame_per_point')!r} and {self.datum.get('point_number')!r}"
            )
        return point * each + self.position

    def whole_number(self, name: str) -> int:
        """Return one of the datum's kwargs that must be an integer from 0; FrameError otherwise."""
        number = whole(self.datum.get(name))
        if number is None or number < 0:
            raise FrameError(
                f"{self.resource.path}: the {name} of a datum must be an integer from 0, not {self.datum.get(name)!r}"
            )
        return number


def frames_of_datum(resource: Resource, described: int) -> int:
    """Return the frames of each datum of a resource, of which the descriptor says `described`."""
    each = whole(resource.kwargs.get(COUNTED_BY.get(resource.spec, "")))
    return described if each is None or each < 1 else each


def _hdf5(frame: DatumFrame) -> Hdf5Frame:
    dataset = str(frame.resource.kwargs.get("key", AREA_DETECTOR_DATASET))
    return Hdf5Frame(frame.resource.path, dataset, frame.number, frame.expected, frame.count)


def _timepix(frame: DatumFrame) -> Hdf5Frame:
    return Hdf5Frame(frame.resource.path, f"{DETECTOR_GROUP}/data", frame.number, frame.expected, frame.count)


def _whole_scan(frame: DatumFrame) -> Hdf5Frame:
    """Of a fly scan, of which one datum is all frames, or an attribute of them."""
    target = str(frame.datum.get("target", "data"))
    dataset = f"{DETECTOR_GROUP}/{target if target == 'data' else f'NDAttributes/{target}'}"
    return Hdf5Frame(frame.resource.path, dataset, frame.position, frame.expected)


def _hdf5_single(frame: DatumFrame) -> Hdf5Frame:
    dataset = str(frame.resource.kwargs.get("key", AREA_DETECTOR_DATASET))
    return Hdf5Frame(_file_of(frame, frame.number), dataset, 0, frame.expected)


def _tiff(frame: DatumFrame) -> ImageFrame:
    return ImageFrame(_file_of(frame, frame.number), 0, frame.expected)


def _cbf(frame: DatumFrame) -> ImageFrame:
    first = whole(frame.resource.kwargs.get("initial_number", 1))
    if first is None:
        raise FrameError(f"{frame.resource.path}: initial_number must be an integer")
    return ImageFrame(_file_of(frame, first + frame.number), 0, frame.expected)


def _file_of(frame: DatumFrame, number: int) -> str:
    template, filename = (str(frame.resource.kwargs.get(name, "")) for name in ("template", "filename"))
    folder = frame.resource.path.rstrip("/") + "/"
    name = file_name(template, number, filename=filename, folder=folder)
    return name if name.startswith("/") else folder + name


def _npy_sequence(frame: DatumFrame) -> ImageFrame:
    number = frame.whole_number("index")
    return ImageFrame(f"{frame.resource.path}_{number}.npy", frame.position, frame.expected)


def _eiger(frame: DatumFrame) -> Hdf5Frame:
    """Of a sequence of an Eiger: a master file, with as many data files as it takes."""
    master = f"{frame.resource.path}_{frame.whole_number('seq_id')}_master.h5"
    if frame.datum.get("frame_num") is None:
        return Hdf5Frame(master, MASTER_GROUP, frame.position, frame.expected, frame.count)
    number = frame.whole_number("frame_num") + frame.position
    return Hdf5Frame(master, MASTER_GROUP, number, frame.expected)


READERS: Mapping[str, Callable[[DatumFrame], FrameReference]] = {
    "AD_HDF5": _hdf5,
    "AD_HDF5_SWMR": _hdf5,
    "AD_HDF5_SINGLE": _hdf5_single,
    "AD_TIFF": _tiff,
    "AD_CBF": _cbf,
    "AD_EIGER": _eiger,
    "AD_EIGER2": _eiger,
    "AD_EIGER_SLICE": _eiger,
    "TPX_HDF5": _timepix,
    "MERLIN_FLY": _whole_scan,
    "MERLIN_FLY_STREAM_V1": _whole_scan,
    "DEXELA_FLY_V1": _whole_scan,
    "NPY_SEQ": _npy_sequence,
}
"""Specs that are read here rather than by a handler: a file must not be opened in two ways by one process."""

COUNTED_BY: Mapping[str, str] = {
    **dict.fromkeys(
        ("AD_HDF5", "AD_HDF5_SWMR", "AD_HDF5_SINGLE", "AD_TIFF", "AD_CBF", "AD_SPE", "TPX_HDF5"),
        "frame_per_point",
    ),
    "IMM": "frames_per_point",
}
"""By spec, which of a resource's kwargs says how many frames each datum has. An Eiger's says how many a file has."""
