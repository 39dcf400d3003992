"""Frames of the files a command is given: read one at a time, in order, and what became of those that failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.files import Detector, open_frames
from dvfb_stream.frames import Frame

MOST_REASONS = 5
"""Different reasons told of one file; thousands of frames may each fail for one of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlace:
    """Which frame of which file."""

    position: int
    """Of the file among those given, from 0; a file may be given twice."""
    file: str
    """As it was given, ``::/path`` included."""
    index: int
    """Of the frame in the file, from 0."""
    count: int
    """Frames in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRead(FramePlace):
    """A frame, or why there is none."""

    frame: Frame | None = field(default=None, repr=False)
    reason: str = ""
    remark: str = ""
    """What its row should say of what its file says."""


class Events(Protocol):
    """What is told while frames are read."""

    def opened(self, frames: int) -> None:
        """Call when a file was opened and so many of its frames will be read; 0 where it cannot be read."""
        ...

    def failed(self, message: str) -> None:
        """Call with one line for a file that cannot be read, or for frames of a file that failed alike."""
        ...

    def noted(self, message: str) -> None:
        """Call with one line of what should be known of frames, or of a file, that did not fail."""
        ...


def _all_frames(file: str, count: int) -> Sequence[int]:
    return range(count)


def read_all(
    files: Sequence[str],
    detector: Detector,
    events: Events,
    choose: Callable[[str, int], Sequence[int]] = _all_frames,
) -> Iterator[FrameRead]:
    """Yield the frames of `files` in order; a file that cannot be opened has none.

    Parameters
    ----------
    files
        As `open_frames` takes them.
    detector
        Geometry of all frames.
    events
        Who is told what was opened and what cannot be.
    choose
        Given a file and how many frames it has: the indices of those to read. May raise FrameError, which
        costs the file.
    """
    told = ""
    told_of_mask = False
    for position, file in enumerate(files):
        try:
            with open_frames(file, file_mask=detector.file_mask) as frames:
                chosen = choose(file, frames.count)
                events.opened(len(chosen))
                for index in chosen:
                    place = {"position": position, "file": file, "index": index, "count": frames.count}
                    try:
                        pixels = frames.read(index)
                        shape = (pixels.shape[0], pixels.shape[1])
                        geometry = detector.geometry(shape, frames.facts)
                        frame = Frame(pixels, geometry)
                    except (FrameError, GeometryError) as error:
                        yield FrameRead(**place, reason=str(error))  # type: ignore[arg-type]
                    else:
                        centre = f"({geometry.center_x:g}, {geometry.center_y:g}), {geometry.source}"
                        if detector.leaves_centre_to_files and centre != told:
                            events.noted(f"{file}: the beam centre is what the file says: {centre}")
                            told = centre
                        if frames.facts.remark and not told_of_mask:
                            cure = "" if frames.facts.no_mask else " --ignore-file-mask leaves it away."
                            events.noted(f"{file}: {frames.facts.remark}{cure}")
                            told_of_mask = True
                        yield FrameRead(**place, frame=frame, remark=frames.facts.remark)  # type: ignore[arg-type]
        except FrameError as error:
            events.opened(0)
            events.failed(str(error))


@dataclass(slots=True)
class _Alike:
    """Frames that failed for one reason, but for their number in it."""

    reason: str
    """The first one's."""
    first: int
    count: int = 0


class Failures:
    """Gathers the failed frames of one file by their reason, and tells them in a line each when the next begins."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._position = -1
        self._file = ""
        self._count = 0
        self._failed: dict[str, _Alike] = {}

    def see(self, place: FramePlace, reason: str | None) -> None:
        """Take a frame into account; None: it did not fail."""
        if place.position != self._position:
            self.tell()
            self._position, self._file, self._count = place.position, place.file, place.count
        if reason is not None:
            without_number = re.sub(rf"\bframe {place.index}\b", "frame", reason)
            self._failed.setdefault(without_number, _Alike(reason, place.index)).count += 1

    def tell(self) -> None:
        """Tell what failed in the file seen last."""
        for without_number, alike in list(self._failed.items())[:MOST_REASONS]:
            self._events.failed(self._said_of(alike, numbered=alike.reason != without_number))
        if len(self._failed) > MOST_REASONS:
            more = len(self._failed) - MOST_REASONS
            self._events.failed(f"{self._file}: and {more} further reasons, which the rows give")
        self._failed.clear()

    def _said_of(self, alike: _Alike, *, numbered: bool) -> str:
        where, others = self._file, ""
        if alike.count > 1 and numbered:
            more = alike.count - 1
            others = f"; {more} more of its {self._count} frames {'fail' if more > 1 else 'fails'} likewise"
        elif alike.count > 1:
            where = f"{self._file}: {alike.count} of {self._count} frames, the first is {alike.first}"
        elif self._count > 1 and not numbered:
            where = f"{self._file} frame {alike.first}"
        said = alike.reason if alike.reason.startswith(where) else f"{where}: {alike.reason}"
        return said + others
