"""One StreamResource: where its frames lie, by their number in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dvfb_stream.callbacks.documents import Document, whole
from dvfb_stream.callbacks.paths import path_of
from dvfb_stream.callbacks.templates import file_name
from dvfb_stream.errors import FrameError
from dvfb_stream.files.references import Expected, FrameReference, Hdf5Frame, ImageFrame

HDF5 = "application/x-hdf5"
SEQUENCES = {
    "multipart/related;type=image/tiff",
    "multipart/related;type=application/x-npy",
    "multipart/related;type=image/cbf",
    "multipart/related;type=image/edf",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResource:
    """What a StreamResource document says."""

    data_key: str
    uri: str
    mimetype: str
    parameters: Document
    root_map: Mapping[str, str]
    """Other places for the folders that the address may name."""

    def frame(self, number: int, frames_each: int, expected: Expected) -> FrameReference:
        """Return where frame `number` of this resource lies.

        Parameters
        ----------
        number
            From 0, counted through the points and the frames of each.
        frames_each
            Frames of a point.
        expected
            What the descriptor promises of them.

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
            each = self._frames_in_a_file(frames_each, expected)
            path = _joined(
                path,
                file_name(str(template), number // each, filename=str(self.parameters.get("filename", ""))),
            )
            number %= each
        if self.mimetype != HDF5:
            return ImageFrame(path, number, expected)
        dataset = self.parameters.get("dataset") or self.parameters.get("path")
        if not isinstance(dataset, str):
            raise FrameError(f"{path}: the StreamResource does not say which dataset holds the frames")
        return Hdf5Frame(path, dataset, number, expected)

    def _frames_in_a_file(self, frames_each: int, expected: Expected) -> int:
        """Return how many frames each file of a sequence holds, as bluesky-tiled-plugins has it."""
        chunk = self.parameters.get("chunk_shape") or ()
        chunk = [whole(length) for length in chunk] if isinstance(chunk, list | tuple) else []
        first = max(1, chunk[0] or 1) if chunk else 1
        files_each = whole(self.parameters.get("files_per_datum"))
        if files_each is not None and files_each > 0:
            return max(1, frames_each // files_each)
        if self.parameters.get("join_method") == "concat":
            return first if frames_each % first == 0 else frames_each
        if self.parameters.get("multiplier"):
            return 1
        if len(chunk) == 3 and tuple(chunk[1:]) == expected.shape and frames_each % first == 0:
            return first
        return frames_each


def _joined(folder: str, name: str) -> str:
    return folder + name.lstrip("/") if folder.endswith("/") else folder + name


def frames_each(shape: object, parameters: Document) -> int:
    """Return the frames of a point: n where a data key's shape is [n, rows, columns]."""
    multiplier = whole(parameters.get("multiplier"))
    if isinstance(shape, list | tuple) and len(shape) >= 3:
        leading = (whole(length) for length in shape[:-2])
        product = math.prod(length for length in leading if length is not None)
        if product > 1 or multiplier is None:
            return max(1, product)
    return multiplier if multiplier is not None and multiplier > 0 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFrames:
    """Consecutive frames of a stream resource."""

    resource: StreamResource
    numbers: range
    """In the resource, counted through the points and the frames of each."""
    frames_each: int
    expected: Expected
    point: int
    """Of the stream's points in this resource, the number of the first of these, from 0."""
    seq_num: int
    """Of the event of that point; 0 where the document does not say."""

    @property
    def source(self) -> str:
        """The resource's address: files of a sequence are written one after the other."""
        return self.resource.uri

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> FrameReference:
        return self.resource.frame(self.numbers[position], self.frames_each, self.expected)
