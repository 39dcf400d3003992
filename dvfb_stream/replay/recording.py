"""Files with what came in: each document with the moment when it came, readable by nobody's unpickler.

A file holds one raw run. It begins with a line that says what it is and a line of JSON; then each document is its
moment (a double, seconds since 1970), the length of its message (four bytes), and the message, as it is on Kafka's
wire. Both numbers are big-endian. A file whose recorder was killed ends in the middle of a document, and is read up
to there.
"""

from __future__ import annotations

import json
import logging
import struct
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dvfb_stream import __version__
from dvfb_stream.errors import DvfbError, RefusedDocumentError, SettingsError
from dvfb_stream.kafka.wire_encoding import encode
from dvfb_stream.kafka.wire_format import MessageError, decode
from dvfb_stream.replay.document import Script, TimedDocument
from dvfb_stream.replay.personal import PERSONAL_FIELDS, without_personal_fields

logger = logging.getLogger(__name__)

SUFFIX = ".dvfb-run"
_MAGIC = b"dvfb recording 1\n"
_ENTRY = struct.Struct(">dI")
_LONGEST_HEADER = 1 << 16
_LONGEST_MESSAGE = 1 << 30
_MOST_OPEN = 64
"""Runs recorded at a time; of more, the file of the oldest is closed, and what still comes of it is left out."""


class RecordingError(DvfbError):
    """A file that is no recording, or is damaged."""


class Recorder:
    """Writes the documents of each raw run to a file of its own; a sink for any source of documents.

    Called as ``recorder(name, doc)``: with what a Kafka topic brings, or by a RunEngine that it is subscribed to.
    What belongs to no run whose start came is left out, and counted.

    Parameters
    ----------
    folder
        Made where there is none. A run's file is called after its scan number and uid.
    without
        Fields that are left out, see `PERSONAL_FIELDS`.
    clock
        Seconds since 1970.

    Raises
    ------
    SettingsError
        When nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        without: Collection[str] = PERSONAL_FIELDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"nothing can be recorded in {folder}: {error.strerror or error}; name another folder"
            ) from error
        self._folder = folder
        self._without = tuple(without)
        self._clock = clock
        self._files: dict[str, tuple[Path, IO[bytes]]] = {}
        self._run_of: dict[str, str] = {}
        """Runs of descriptors, resources and stream resources, by uid."""
        self.runs: list[Path] = []
        """Files of the runs that are complete."""
        self.documents = 0
        """Documents written."""
        self.left_out = 0
        """Documents that belong to no run that is recorded, or cannot be written."""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Write one document.

        Raises
        ------
        OSError
            When the disk does not take it.
        """
        run = self._run(name, doc)
        if name == "start" and run and run not in self._files:
            self._begin(run, doc)
        known = self._files.get(run)
        if known is None:
            self.left_out += 1
            return
        try:
            message = encode(name, without_personal_fields(name, doc, self._without))
        except RefusedDocumentError as error:
            self.left_out += 1
            logger.warning("%s; it is not recorded", error)
            return
        path, file = known
        file.write(_ENTRY.pack(self._clock(), len(message)) + message)
        self.documents += 1
        if name == "stop":
            self._end(run)
            self.runs.append(path)

    def close(self) -> None:
        """Close the files of the runs that are open."""
        for run in list(self._files):
            self._end(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, run: str, start: dict[str, Any]) -> None:
        if len(self._files) >= _MOST_OPEN:
            oldest = next(iter(self._files))
            logger.warning("more than %d runs are open: recording %s ends here", _MOST_OPEN, oldest)
            self._end(oldest)
        number = start.get("scan_id")
        scan = f"scan-{number}-" if isinstance(number, int) else ""
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in run)[:64]
        path = self._folder / f"{scan}{name}{SUFFIX}"
        file = path.open("wb")
        header = {
            "software": f"dvfb_stream {__version__}",
            "recorded": self._clock(),
            "without": self._without,
        }
        file.write(_MAGIC + json.dumps(header).encode() + b"\n")
        self._files[run] = path, file

    def _end(self, run: str) -> None:
        self._files.pop(run)[1].close()
        self._run_of = {uid: of for uid, of in self._run_of.items() if of != run}

    def _run(self, name: str, doc: dict[str, Any]) -> str:
        if name == "start":
            return _text(doc, "uid")
        run = _text(doc, "run_start")
        for key in ("descriptor", "resource", "stream_resource"):
            run = run or self._run_of.get(_text(doc, key), "")
        if not run and name in ("resource", "stream_resource") and len(self._files) == 1:
            # Old ones do not say of which run they are; of several, nobody knows.
            run = next(iter(self._files))
        if name in ("descriptor", "resource", "stream_resource") and run in self._files:
            self._run_of[_text(doc, "uid")] = run
        return run


def read_recording(path: Path) -> Script:
    """Return the documents of a recording.

    Raises
    ------
    RecordingError
        When it is none; and while they are read, where one of them is none.
    """
    return Script(_documents(path), sum(1 for _ in _messages(path, skip=True)))


def is_recording(path: Path) -> bool:
    """Return whether a file begins as recordings do."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _documents(path: Path) -> Iterator[TimedDocument]:
    for number, (at, message) in enumerate(_messages(path)):
        try:
            name, doc = decode(message, max_bytes=_LONGEST_MESSAGE)
        except MessageError as error:
            raise RecordingError(f"document {number} of {path} is none: {error}") from error
        yield TimedDocument(at, name, doc)


def _messages(path: Path, *, skip: bool = False) -> Iterator[tuple[float, bytes]]:
    """Give moments and messages; with `skip`, the messages are not read."""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise RecordingError(f"{path} is no recording: `dvfb record` makes them, as *{SUFFIX}")
            if not file.readline(_LONGEST_HEADER).endswith(b"\n"):
                raise RecordingError(f"{path} ends in its first lines")
            size = path.stat().st_size
            while len(head := file.read(_ENTRY.size)) == _ENTRY.size:
                at, length = _ENTRY.unpack(head)
                if length > _LONGEST_MESSAGE:
                    raise RecordingError(f"{path} is damaged: a document of {length} bytes")
                if file.tell() + length > size:
                    break
                if skip:
                    file.seek(length, 1)
                    yield at, b""
                else:
                    yield at, file.read(length)
            else:
                if not head:
                    return
            if not skip:
                logger.warning("%s ends in the middle of a document: its recorder was killed", path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from error


def _text(doc: dict[str, Any], key: str) -> str:
    value = doc.get(key)
    return value if isinstance(value, str) else ""
