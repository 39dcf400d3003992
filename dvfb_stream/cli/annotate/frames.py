"""From files to rows: frames are read one at a time, batched across files, and each gets its row in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.files import Detector, open_frames
from dvfb_stream.frames import Frame
from dvfb_stream.worker import SupportsAnnotate

MOST_REASONS = 5
"""Different reasons told of one file; thousands of frames may each fail for one of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one frame of a file."""

    number: int
    """Of the row, from 0, over all files."""
    position: int
    """Of the file among those given, from 0; a file may be given twice."""
    file: str
    """As it was given, ``::/path`` included."""
    index: int
    """Of the frame in the file, from 0."""
    count: int
    """Frames in the file."""
    annotation: Annotation
    frame: Frame | None = field(repr=False)
    """None where it could not be read."""


class Events(Protocol):
    """What is told while the rows are made."""

    def opened(self, frames: int) -> None:
        """Call when a file was opened and has so many frames; 0 where it cannot be read."""
        ...

    def failed(self, message: str) -> None:
        """Call with one line for a file that cannot be read, or for frames of a file that failed alike."""
        ...


def annotate_files(
    annotator: SupportsAnnotate, files: Sequence[str], detector: Detector, *, batch_size: int, events: Events
) -> Iterator[Row]:
    """Yield a row for each frame of `files`, in order; a file that cannot be opened has none.

    At most `batch_size` frames are in memory.
    """
    failures = _Failures(events)
    pending: list[_Read] = []
    number = 0
    for read in _read_all(files, detector, events):
        pending.append(read)
        if len(pending) == batch_size:
            for row in _rows(annotator, pending, number):
                failures.see(row)
                yield row
            number += len(pending)
            pending.clear()
    for row in _rows(annotator, pending, number):
        failures.see(row)
        yield row
    failures.tell()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    position: int
    file: str
    index: int
    count: int
    frame: Frame | None = None
    reason: str = ""


def _read_all(files: Sequence[str], detector: Detector, events: Events) -> Iterator[_Read]:
    for position, file in enumerate(files):
        try:
            with open_frames(file) as frames:
                events.opened(frames.count)
                for index in range(frames.count):
                    place = {"position": position, "file": file, "index": index, "count": frames.count}
                    try:
                        pixels = frames.read(index)
                        shape = (pixels.shape[0], pixels.shape[1])
                        frame = Frame(pixels, detector.geometry(shape))
                    except (FrameError, GeometryError) as error:
                        yield _Read(**place, reason=str(error))  # type: ignore[arg-type]
                    else:
                        yield _Read(**place, frame=frame)  # type: ignore[arg-type]
        except FrameError as error:
            events.opened(0)
            events.failed(str(error))


def _rows(annotator: SupportsAnnotate, batch: Sequence[_Read], number: int) -> Iterator[Row]:
    if not batch:
        return
    annotated = iter(annotator.annotate([read.frame for read in batch if read.frame is not None]))
    for offset, read in enumerate(batch):
        if read.frame is None:
            annotation = Annotation.failed(read.reason, model=annotator.identity)
        else:
            annotation = next(annotated)
        yield Row(
            number=number + offset,
            position=read.position,
            file=read.file,
            index=read.index,
            count=read.count,
            annotation=annotation,
            frame=read.frame,
        )


class _Failures:
    """Gathers the failed frames of one file by their reason, and tells them in a line each when the next begins."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._position = -1
        self._file = ""
        self._count = 0
        self._indices: dict[str, list[int]] = {}

    def see(self, row: Row) -> None:
        """Take a row into account."""
        if row.position != self._position:
            self.tell()
            self._position, self._file, self._count = row.position, row.file, row.count
        if not row.annotation.ok:
            self._indices.setdefault(row.annotation.reason, []).append(row.index)

    def tell(self) -> None:
        """Tell what failed in the file seen last."""
        for reason, indices in list(self._indices.items())[:MOST_REASONS]:
            if self._count == 1:
                where = self._file
            elif len(indices) == 1:
                where = f"{self._file} frame {indices[0]}"
            else:
                where = f"{self._file}: {len(indices)} of {self._count} frames, the first is {indices[0]}"
            self._events.failed(reason if reason.startswith(where) else f"{where}: {reason}")
        if len(self._indices) > MOST_REASONS:
            more = len(self._indices) - MOST_REASONS
            self._events.failed(f"{self._file}: and {more} further reasons, which the rows give")
        self._indices.clear()
