"""What documents say of files: StreamResource, and Resource with Datum. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.callbacks.datum_readers import READERS, DatumFrame, Resource, frames_of_datum
from dvfb_stream.callbacks.document_fields import (
    Document,
    DocumentError,
    NotKnownYetError,
    mapping,
    size_of,
    text,
    whole,
)
from dvfb_stream.callbacks.frame_sequence import FileFrames
from dvfb_stream.callbacks.old_documents import HDF5, kwargs_of, paths_of
from dvfb_stream.callbacks.paths import file_name, located, path_of
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.described_shape import DescribedShape
from dvfb_stream.files.references import Expected, FrameReference, HandledFrame, Hdf5Frame, ImageFrame

SEQUENCES = {
    "multipart/related;type=image/tiff",
    "multipart/related;type=application/x-npy",
    "multipart/related;type=image/cbf",
    "multipart/related;type=image/edf",
}

MOST_RESOURCES, MOST_DATUMS = 10_000, 200_000
"""Kept, of all runs; of more, the oldest are forgotten. Twice as many datums as frames may wait to be read."""
MOST_BYTES = 1 << 27
"""Of resources, and of datums: what the above comes to, unless somebody writes essays into them."""


# -- StreamResource: ophyd-async's detectors ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """Points of a stream resource that no stream datum has announced, though some announced points after them."""

    resource: StreamResource | None
    """None: another stream announced the points after all, and nothing can fill the gap."""
    where: tuple[str, str]
    """Stream and data key whose frames they are taken to be: those of the stream datum after them."""
    start: int
    stop: int
    number: int
    """Of their first frame, in its stream and data key."""
    each: int
    """Frames of a point."""

    @property
    def count(self) -> int:
        """Frames of all points."""
        return (self.stop - self.start) * self.each

    def part(self, start: int, stop: int) -> Gap:
        """Return what is missing of some of its points."""
        return replace(self, start=start, stop=stop, number=self.number + (start - self.start) * self.each)


@dataclass(slots=True, kw_only=True, eq=False)
class StreamResource:
    """What a StreamResource document says, and how far stream datums have announced its points."""

    data_key: str
    uri: str
    mimetype: str
    parameters: Document
    root_map: Mapping[str, str]
    """Other places for the folders that the address may name."""
    of_another_run: bool = False
    """It was made for an earlier run, too: the first point of this run is not the first in the file."""
    first: int | None = None
    """Index of its first point, of this run; None: nothing of it was announced yet."""
    points: int = 0
    """One past the last point that was announced, counted from `first`."""

    @property
    def before(self) -> int:
        """Points in the file before those of this run."""
        return (self.first or 0) if self.of_another_run else 0

    def frames(self, first: int, count: int, each: int, expected: Expected) -> FileFrames:
        """Return where `count` frames lie, from frame `first` on; see `frame`."""
        # Their source is the address: files of a sequence are written one after the other.
        return FileFrames(self.uri, count, self._frame_after, (first, each, expected))

    def frame(self, number: int, each: int, expected: Expected) -> FrameReference:
        """Return where frame `number` lies.

        Parameters
        ----------
        number
            From 0, counted through the points and the frames of each.
        each
            Frames of a point.
        expected
            What the descriptor says of them.

        Raises
        ------
        FrameError
            When the document says something that cannot be read.
        """
        template = self.parameters.get("template")
        if self.parameters.get("slice"):
            raise FrameError(f"{self.uri}: frames that are a slice of a dataset are not read")
        if self.mimetype != HDF5 and self.mimetype not in SEQUENCES:
            known = ", ".join([HDF5, *sorted(SEQUENCES)])
            raise FrameError(f"{self.uri}: frames of the type {self.mimetype!r} are not read, only {known}")
        path = path_of(self.uri, self.root_map)
        if template:
            in_a_file = self._frames_in_a_file(each, expected)
            filename = str(self.parameters.get("filename", ""))
            name = file_name(str(template), number // in_a_file, filename=filename)
            path += name.lstrip("/") if path.endswith("/") else name
            number %= in_a_file
        if self.mimetype != HDF5:
            return ImageFrame(path, number, expected)
        dataset = self.parameters.get("dataset") or self.parameters.get("path")
        if not isinstance(dataset, str):
            raise FrameError(f"{path}: the StreamResource does not say which dataset holds the frames")
        return Hdf5Frame(path, dataset, number, expected, each)

    def _frame_after(self, first: int, each: int, expected: Expected, position: int) -> FrameReference:
        return self.frame(first + position, each, expected)

    def _frames_in_a_file(self, each: int, expected: Expected) -> int:
        """Return how many frames each file of a sequence holds, as bluesky-tiled-plugins has it."""
        chunk = self.parameters.get("chunk_shape") or ()
        chunk = [whole(length) for length in chunk] if isinstance(chunk, list | tuple) else []
        first = max(1, chunk[0] or 1) if chunk else 1
        files_each = whole(self.parameters.get("files_per_datum"))
        if files_each is not None and files_each > 0:
            return max(1, each // files_each)
        if self.parameters.get("join_method") == "concat":
            return first if each % first == 0 else each
        if self.parameters.get("multiplier"):
            return 1
        if len(chunk) == 3 and tuple(chunk[1:]) == expected.shape and each % first == 0:
            return first
        return each


def frames_each(shape: DescribedShape, parameters: Document) -> int:
    """Return the frames of a point: what the descriptor's shape says, or else a resource's parameters."""
    multiplier = whole(parameters.get("multiplier"))
    return shape.frames if shape.frames > 1 else max(1, multiplier or 1)


# -- Resource and Datum: ophyd's devices, and areaDetector's file plugins ------------------------------------


class Datums:
    """Resources and datums of all runs, as far as they have come: a device staged once may serve several runs.

    Added to by one thread, asked by any.

    Parameters
    ----------
    root_map
        Other places for what resources call their root: ``{"/ioc/data": "/mnt/data"}``.
    """

    def __init__(self, root_map: Mapping[str, str] | None = None) -> None:
        self._root_map = dict(root_map or {})
        self._resources: BoundedCache[str, Resource] = BoundedCache(
            MOST_RESOURCES, max_bytes=MOST_BYTES, evict=Evict.OLDEST_PUT
        )
        self._datums: BoundedCache[str, tuple[str, Document]] = BoundedCache(
            MOST_DATUMS, max_bytes=MOST_BYTES, evict=Evict.OLDEST_PUT
        )

    def add_resource(self, doc: Document) -> None:
        """Learn where the datums of a resource lie; DocumentError when malformed."""
        root, path, is_windows = paths_of(doc)
        resource = Resource(
            spec=text(doc, "spec"),
            path=located(root, path, self._root_map, is_windows=is_windows),
            kwargs=kwargs_of(doc),
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
        self._add(text(doc, "datum_id"), self._known(doc), kwargs_of(doc))

    def add_datum_page(self, doc: Document) -> None:
        """Learn that of several datums; raises as `add_datum`."""
        ids, resource, columns = doc.get("datum_id"), self._known(doc), mapping(doc, "datum_kwargs")
        if not isinstance(ids, list | tuple | np.ndarray) or any(
            len(column) != len(ids) for column in columns.values()
        ):
            raise DocumentError("the columns of a datum page must be lists of one length")
        for row, datum_id in enumerate(ids):
            self._add(str(datum_id), resource, {key: column[row] for key, column in columns.items()})

    def frames(self, datum_id: str, described: int, expected: Expected) -> FileFrames:
        """Return where the frames of a datum lie, whether its documents have come or not.

        Parameters
        ----------
        datum_id
            As an event has it in place of the data.
        described
            How many frames the descriptor says; what an areaDetector's resource says counts before that.
        expected
            What the descriptor says of each.
        """
        count, source = described, datum_id
        try:
            resource, _ = self._find(datum_id)
        except NotThereYetError:
            pass  # an event may come before its datum: looked for again when the frame is read
        else:
            source = resource.path
            count = frames_of_datum(resource, described)
        return FileFrames(source, count, self._frame, (datum_id, count, expected))

    def _frame(self, datum_id: str, count: int, expected: Expected, position: int) -> FrameReference:
        resource, datum = self._find(datum_id)
        known = READERS.get(resource.spec)
        if known is not None:
            return known(DatumFrame(resource, datum, position, count, expected))
        return HandledFrame(resource.spec, resource.path, resource.kwargs, datum, position, expected, count)

    def _find(self, datum_id: str) -> tuple[Resource, Document]:
        datum = self._datums.get(datum_id)
        resource = None if datum is None else self._resources.get(datum[0])
        if datum is None or resource is None:
            what = "Datum" if datum is None else "Resource"
            raise NotThereYetError(f"the {what} document of the datum {datum_id!r} did not come")
        return resource, datum[1]

    def _known(self, doc: Document) -> str:
        uid = text(doc, "resource")
        if uid not in self._resources:
            raise NotKnownYetError("resource", uid)
        return uid

    def _add(self, datum_id: str, resource: str, kwargs: Document) -> None:
        self._datums.put(datum_id, (resource, dict(kwargs)), n_bytes=len(datum_id) + size_of(kwargs))
