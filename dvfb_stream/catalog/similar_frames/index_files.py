"""The files of an index: points that are only ever added to, and one list of what they are, replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.atomic_output import replaced
from dvfb_stream.catalog.similar_frames.nearest import OUTLINE, Outlines

_VERSION = 1
"""Of the layout, and of what a point is; an index of another one is made anew."""
_LIST = "index.json"
_LOCK = "index.lock"
_NAMES = ("axes", "points", "outlines", "frames")
_POINT, _FRAME = np.dtype("<f2"), np.dtype("<i8")
_NUMBER = np.dtype("<f4")
_LOOKS = 20
"""How often files are looked for that another process replaces at the same time."""


class DamagedError(Exception):
    """The files are not what the list says."""


@dataclass(frozen=True, slots=True)
class Part:
    """Points that were added at once: of frames of one analysis run."""

    analysis_uid: str
    raw_uid: str
    stream: str
    data_key: str
    first: int
    """Its first point."""
    points: int
    state: str | None
    """Of the run's rows: another one, and the points are out of date. None: there is no stop yet."""
    checksum: int = 0

    @property
    def where(self) -> slice:
        """Its points among all."""
        return slice(self.first, self.first + self.points)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the list says."""

    width: int
    """Numbers of a point."""
    generation: str = ""
    """Begins the names of the files with points; none before the first are added."""
    axes: int = 0
    """Checksum of the axes."""
    fitted_to: int = 0
    """Points that the axes were fitted to."""
    length: int = 0
    """Points that the files hold, those of no part included."""
    parts: tuple[Part, ...] = ()
    modified: dict[str, int] = field(default_factory=dict)
    """When each file was, in nanoseconds: files that somebody has written to since are compared with checksums."""

    @property
    def points(self) -> int:
        """Points that count."""
        return sum(part.points for part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The arrays of an index, open: they can be read on although another process adds to them, or replaces them."""

    contents: Contents
    to_outlines: Outlines
    points: NDArray[np.float16]
    """(N, F)."""
    outlines: NDArray[np.float32]
    """(N, `OUTLINE`)."""
    frames: NDArray[np.int64]
    """(N,) index of the frame in its data key."""
    listed: tuple[int, ...] = ()
    """Which list it was."""


class IndexFiles:
    """The files in one folder. Many processes read them at a time; one writes, who holds `writing`.

    Points that are listed are never changed. Killed at any moment, a writer leaves the list that was there or the new
    one; behind the listed points may lie others, which the next writer writes over, and beside the listed files
    others, which it deletes.

    Parameters
    ----------
    folder
        Made where it is not there.
    width
        Numbers of a point.

    Raises
    ------
    OSError
        When it cannot be made.
    """

    def __init__(self, folder: Path, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._width = width

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until no other process writes, and keep others from it; a lock that ends with the process."""
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Contents:
        """Return what the list says; nothing where there is none, or one of another layout.

        Raises
        ------
        DamagedError
            When it is damaged.
        OSError
            When it cannot be read.
        """
        try:
            head, body = (self._folder / _LIST).read_bytes().split(b"\n", 1)
            stated = json.loads(head)
            if stated["version"] != _VERSION:
                return Contents(self._width)
            if stated["checksum"] != zlib.crc32(body):
                raise DamagedError(f"{_LIST} is not as it was written")
            contents = json.loads(body)
            parts = tuple(Part(*part) for part in contents.pop("parts"))
            found = Contents(**contents, parts=parts)
        except FileNotFoundError:
            return Contents(self._width)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{_LIST} cannot be read ({error})") from error
        if found.width != self._width:
            raise DamagedError(f"its points have {found.width} numbers, not {self._width}")
        return found

    def open(self, known: Points | None = None) -> Points:
        """Open what is listed.

        Parameters
        ----------
        known
            What was opened before, which is returned if nobody has written since.

        Raises
        ------
        DamagedError
            When a file is not what the list says.
        OSError
            When one cannot be read.
        """
        for look in range(_LOOKS):
            if known is not None and self._is_as_it_was(known):
                return known
            listed = self.listed()
            contents = self.read()
            try:
                return replace(self._opened(contents), listed=listed)
            except FileNotFoundError as error:
                if look == _LOOKS - 1:
                    raise DamagedError(f"{error.filename} is not there") from error
        raise AssertionError

    def forget(self, listed: tuple[int, ...]) -> None:
        """Delete a list, if it is there still: the index is made anew."""
        if self.listed() == listed:
            (self._folder / _LIST).unlink(missing_ok=True)

    def begin(self, to_outlines: Outlines, fitted_to: int) -> Contents:
        """Begin files without points; what is listed stays until `commit`.

        Raises
        ------
        OSError
            When they cannot be written.
        """
        generation = uuid.uuid4().hex[:12]
        numbers = np.concatenate([to_outlines.centre[None], to_outlines.axes.T]).astype(_NUMBER)
        self._file(generation, "axes").write_bytes(numbers.tobytes())
        for name in _NAMES[1:]:
            self._file(generation, name).touch()
        return Contents(self._width, generation, _checksum([numbers]), fitted_to)

    def outlines_of(self, contents: Contents) -> Outlines:
        """Return how points are cut in these files.

        Raises
        ------
        DamagedError
            When the file is not as it was written.
        """
        numbers = np.fromfile(self._file(contents.generation, "axes"), _NUMBER)
        kept = min(OUTLINE - 2, self._width)
        if numbers.size != (kept + 1) * self._width or _checksum([numbers]) != contents.axes:
            raise DamagedError("the axes are not as they were written")
        numbers = numbers.reshape(kept + 1, self._width)
        return Outlines(numbers[0], np.ascontiguousarray(numbers[1:].T))

    def add(
        self,
        contents: Contents,
        to_outlines: Outlines,
        part: Part,
        frames: NDArray[np.int64],
        points: NDArray[np.float16],
    ) -> Contents:
        """Write points behind those that are there; they count after `commit`.

        Raises
        ------
        OSError
            When they cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {
            "points": np.ascontiguousarray(points, _POINT),
            "outlines": np.ascontiguousarray(to_outlines.of(points), _NUMBER),
            "frames": np.ascontiguousarray(frames, _FRAME),
        }
        for name, array in arrays.items():
            with self._file(contents.generation, name).open("rb+") as file:
                # Over what a killed writer left.
                file.seek(contents.length * array.itemsize * math.prod(array.shape[1:]))
                file.write(array.data)
                file.truncate()
        part = replace(
            part, first=contents.length, points=len(points), checksum=_checksum(list(arrays.values()))
        )
        return replace(contents, length=contents.length + len(points), parts=(*contents.parts, part))

    def commit(self, contents: Contents) -> Contents:
        """Put a new list in the place of the one that is there, when all that it names is on the disk.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        for name in _NAMES if contents.generation else ():
            with self._file(contents.generation, name).open("rb+") as file:
                os.fsync(file.fileno())
        contents = replace(contents, modified=self._modified(contents))
        stated = {name: getattr(contents, name) for name in Contents.__slots__}
        stated["parts"] = [astuple(part) for part in contents.parts]
        body = json.dumps(stated, separators=(",", ":")).encode()
        head = json.dumps({"version": _VERSION, "checksum": zlib.crc32(body)}).encode()
        with replaced(self._folder / _LIST) as beside:
            beside.write_bytes(head + b"\n" + body)
        for other in self._folder.glob("*.*"):
            if other.suffix[1:] in _NAMES and not other.name.startswith(f"{contents.generation}."):
                other.unlink(missing_ok=True)
        return contents

    def _modified(self, contents: Contents) -> dict[str, int]:
        names = _NAMES if contents.generation else ()
        return {name: self._file(contents.generation, name).stat().st_mtime_ns for name in names}

    def listed(self) -> tuple[int, ...]:
        """Return which list is there."""
        try:
            found = (self._folder / _LIST).stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _is_as_it_was(self, known: Points) -> bool:
        try:
            return known.listed == self.listed() and known.contents.modified == self._modified(known.contents)
        except FileNotFoundError:
            return False

    def _opened(self, contents: Contents) -> Points:
        if not contents.generation:
            empty = np.empty
            return Points(
                contents,
                Outlines(np.zeros(self._width, _NUMBER), np.zeros((self._width, 0), _NUMBER)),
                empty((0, self._width), _POINT),
                empty((0, OUTLINE), _NUMBER),
                empty(0, _FRAME),
            )
        opened = Points(
            contents,
            self.outlines_of(contents),
            self._mapped(contents, "points", _POINT, self._width),
            self._mapped(contents, "outlines", _NUMBER, OUTLINE),
            self._mapped(contents, "frames", _FRAME, 1)[:, 0],
        )
        if self._modified(contents) != contents.modified:
            _compare(opened)
        return opened

    def _mapped(self, contents: Contents, name: str, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
        path = self._file(contents.generation, name)
        if path.stat().st_size < contents.length * width * dtype.itemsize:
            raise DamagedError(f"{path.name} was cut short")
        if not contents.length:
            return np.empty((0, width), dtype)
        return np.memmap(path, dtype, mode="r", shape=(contents.length, width)).view(np.ndarray)

    def _file(self, generation: str, name: str) -> Path:
        return self._folder / f"{generation}.{name}"


def _compare(opened: Points) -> None:
    for part in opened.contents.parts:
        arrays = [array[part.where] for array in (opened.points, opened.outlines, opened.frames)]
        if _checksum(arrays) != part.checksum:
            raise DamagedError(f"the points of run {part.analysis_uid} are not as they were written")


def _checksum(arrays: Sequence[NDArray[Any]]) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array).data, value)
    return value
