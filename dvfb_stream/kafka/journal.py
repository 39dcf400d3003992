"""How far a partition's open runs have come, on this machine's disk: whoever starts again goes on from there.

Kafka's committed offset stays before the oldest run that is not stored, for whoever has no access to the disk. A
journal says how much further its reader may go: which documents of open runs came before, without their pixels, and
how many rows of each data key are in the spool. It lies in the spool's folder, so that who finds it delivers the
spool, too.

A file is a list of records, appended as things happen, and written anew, without what is over, when it has grown. A
process that is killed loses no record. The system that is switched off may lose the last ones of the spool and not
those of the journal; then a journal counts up to where both were last written down.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvfb_stream.kafka.journal_records import packed, packed_document
from dvfb_stream.kafka.journal_state import (
    MOST_OF_NO_RUN,
    RESOURCES,
    JournalState,
    NotedDocument,
    Place,
    read_state,
)

logger = logging.getLogger(__name__)

FORMAT = 1
MOST_BYTES = 1 << 29
"""Of one file: a run of a million events and more. Beyond, nothing is written down, and a restart repeats that."""
MOST_LATE_BYTES = 16 << 20
"""Of records that wait for room on the disk. Beyond, the journal ends where it is."""
_GROWN_BYTES = 4 << 20
"""A file is written anew when it is so much larger than twice what it was when it was written last."""
_SUFFIX = ".journal"


class PartitionJournal:
    """Writes the journal of one partition, while the partition is this process's.

    On a full disk its records wait, some megabytes of them, and are written once there is room; whoever starts again
    before that repeats what they count. What can never be written ends it, with a warning in the log. Safe from all
    threads.

    Parameters
    ----------
    path
        Of the file; there is none yet.
    state
        With which it begins.
    sync
        Has the spool written down: before the journal is, as rows that it counts must be there.
    is_ours
        Whether the partition is this process's.
    """

    def __init__(
        self,
        path: Path,
        state: JournalState,
        *,
        sync: Callable[[], object],
        is_ours: Callable[[], bool],
    ) -> None:
        self.path = path
        self._sync = sync
        self._is_ours = is_ours
        self._lock = threading.Lock()
        self._since: int | None = None
        """Of the first document that waits for another."""
        self._run_of_resource: dict[str, str] = {}
        self._bytes = self._bytes_at_first = 0
        self._is_unwritten = False
        self._file: int | None = None
        self._is_over = self._is_told = False
        self._not_begun: JournalState | None = state
        """With which it begins, until there is a file."""
        self._late: deque[bytes] = deque()
        """Records that wait for room."""
        self._late_bytes = 0
        self.rows_so_far = dict(state.rows)
        self._catch_up()

    # -- what happens ----------------------------------------------------------------------------------------

    def document(
        self,
        offset: int,
        name: str,
        doc: Mapping[str, Any],
        *,
        run: str,
        in_documents: Sequence[tuple[str, str, int]],
        waiting: bool,
        published: float | None,
        publisher: bytes | None,
    ) -> None:
        """Note a document that went through the pipeline."""
        with self._lock:
            since = offset if self._since is None else self._since
            self._since = since if waiting else None
            run = run or self._run_of_datum(name, doc)
            if not (run or waiting or name in (*RESOURCES, "datum", "datum_page")):
                return  # it was left out
            try:
                content = packed_document(name, doc)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                self._give_up(error)
                return
            noted = NotedDocument(
                offset=offset, since=since, waiting=waiting, run=run, name=name, published=published,
                publisher=publisher, in_documents=in_documents, content=content,
            )  # fmt: skip
            self._append(noted.record())

    def rows(self, place: Place, count: int, summary: Sequence[float]) -> None:
        """Note that the spool has the first `count` rows of a data key."""
        with self._lock:
            if self._is_ours():
                self._append(["rows", *place, count, list(summary)])

    def over(self, run: str) -> None:
        """Note that a run is stored, or given up."""
        with self._lock:
            self._append(["over", run])

    def committed(self, offset: int) -> None:
        """Note up to where the partition is committed."""
        with self._lock:
            self._append(["committed", offset])

    def write_down(self) -> None:
        """Have the spool and the journal survive a power failure, and write the journal anew where it has grown."""
        with self._lock:
            if not self._catch_up() or self._file is None or not self._is_unwritten:
                return
            try:
                self._sync()
                self._append(["written down"])
                if self._late:
                    return
                os.fsync(self._file)
                self._is_unwritten = False
                if self._bytes > 2 * self._bytes_at_first + _GROWN_BYTES:
                    state = read_state(self.path.read_bytes(), boot=boot_of_the_system())
                    if (position := state.position) is not None:
                        # What is to be read again after a restart is noted already, and needed until it has rows.
                        self._write_anew(state.before(position, keep_runs_from=0), state, position)
            except (OSError, ValueError) as error:
                self._give_up(error)

    @property
    def is_written(self) -> bool:
        """Whether there is a file that says all that happened so far."""
        with self._lock:
            return self._file is not None and not self._late

    def close(self) -> None:
        """End it; the file stays for whoever goes on."""
        with self._lock:
            self._catch_up()
            self._end()

    # -- under the lock --------------------------------------------------------------------------------------

    def _run_of_datum(self, name: str, doc: Mapping[str, Any]) -> str:
        uid = doc.get("uid")
        if name in RESOURCES and isinstance(uid, str):
            run = doc.get("run_start")
            if isinstance(run, str) and len(self._run_of_resource) < MOST_OF_NO_RUN:
                self._run_of_resource[uid] = run
            return run if isinstance(run, str) else ""
        resource = doc.get("resource")
        return self._run_of_resource.get(resource, "") if isinstance(resource, str) else ""

    def _append(self, record: list[Any]) -> None:
        if self._is_over:
            return
        try:
            if self._bytes > MOST_BYTES:
                raise OSError(f"it has more than {MOST_BYTES} bytes")
            content = packed(record)
        except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
            self._give_up(error)
            return
        if not self._late and self._write(content):
            return
        self._late.append(content)
        self._late_bytes += len(content)
        if self._late_bytes > MOST_LATE_BYTES:
            self._give_up(OSError(f"more than {MOST_LATE_BYTES} bytes wait for room on the disk"))

    def _catch_up(self) -> bool:
        """Write what waits for room, the beginning first; return whether all of it is written."""
        if self._is_over:
            return False
        if self._not_begun is not None:
            begun = self._not_begun
            self._write_anew(begun)
            if self._file is None:
                return False
            self._not_begun = None
        while self._late and self._write(self._late[0]):
            self._late_bytes -= len(self._late.popleft())
        return not self._late

    def _write(self, content: bytes) -> bool:
        """Append a record whole, or nothing of it."""
        if self._file is None:
            return False
        try:
            if os.write(self._file, content) != len(content):
                raise OSError("the disk took a part of a record")
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._bytes)
            if not self._late:
                self._say_it_waits(error)
            return False
        self._bytes += len(content)
        self._is_unwritten = True
        return True

    def _write_anew(
        self, state: JournalState, whole: JournalState | None = None, position: int | None = None
    ) -> None:
        """Put a file with this state in the place of the one that is there; with what came from `position` on."""
        later: list[NotedDocument] = []
        if whole is not None and position is not None:
            later = [noted for noted in whole.documents if noted.offset >= position]
        content = b"".join(_content(state, later))
        beside = self.path.with_suffix(".new")
        try:
            new = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o600)
            try:
                with open(new, "wb", closefd=False) as file:
                    file.write(content)
                os.fsync(new)
                os.replace(beside, self.path)
            except BaseException:
                os.close(new)
                with suppress(OSError):  # whose room is wanted
                    os.unlink(beside)
                raise
            if self._file is not None:
                os.close(self._file)
            self._file = new
            self._bytes = self._bytes_at_first = len(content)
            self._is_unwritten = False
        except OSError as error:
            if self._file is not None:  # it is as good, and longer
                self._bytes_at_first = self._bytes
            elif not self._is_told:
                self._say_it_waits(error)

    def _say_it_waits(self, error: Exception) -> None:
        self._is_told = True
        logger.warning(
            "the journal %s cannot be written now (%s): a restart before it can be repeats what comes from here on",
            self.path,
            error,
        )

    def _give_up(self, error: Exception) -> None:
        logger.warning(
            "the journal %s cannot be written (%s): a restart repeats what comes from here on",
            self.path,
            error,
        )
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self._late.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _content(state: JournalState, later: Iterable[NotedDocument]) -> Iterable[bytes]:
    yield packed(["header", state.header | {"format": FORMAT, "boot": boot_of_the_system()}])
    for noted in [*state.documents, *later]:
        yield packed(noted.record())
    for place, so_far in state.rows.items():
        yield packed(["rows", *place, so_far.count, list(so_far.summary)])
    for run in state.over:
        yield packed(["over", run])
    if state.at is not None:
        yield packed(["at", state.at])
    if state.committed is not None:
        yield packed(["committed", state.committed])
    yield packed(["written down"])


def boot_of_the_system() -> str:
    """Return what names this start of the system; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class JournalFolder:
    """The journals of one consumer group and model, a file for each partition, or two while it changes hands.

    Parameters
    ----------
    folder
        Made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, topic: str, partition: int) -> tuple[int, JournalState]:
        """Return the number of the newest file of a partition, and what it says; 0 and nothing without one."""
        numbers = sorted(self._numbers(topic, partition), reverse=True)
        for number in numbers:
            try:
                content = self._path(topic, partition, number).read_bytes()
            except OSError:
                continue
            return number, read_state(content, boot=boot_of_the_system())
        return 0, JournalState()

    def begin(
        self,
        topic: str,
        partition: int,
        number: int,
        state: JournalState,
        *,
        sync: Callable[[], object],
        is_ours: Callable[[], bool],
    ) -> PartitionJournal:
        """Begin a file behind that with a number, and remove the older ones: whoever has them is no longer asked.

        On a full disk there is no new file, and the older ones stay: less is known from them, and nothing wrong.

        Raises
        ------
        OSError
            When the folder cannot be made.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(topic, partition, number + 1)
        journal = PartitionJournal(path, state, sync=sync, is_ours=is_ours)
        for older in self._numbers(topic, partition):
            if older <= number and journal.is_written:
                with suppress(OSError):
                    self._path(topic, partition, older).unlink()
        return journal

    def _numbers(self, topic: str, partition: int) -> list[int]:
        pattern = re.compile(rf"{re.escape(topic)}-{partition}\.(\d+){re.escape(_SUFFIX)}")
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        return [int(match[1]) for name in names if (match := pattern.fullmatch(name))]

    def _path(self, topic: str, partition: int, number: int) -> Path:
        return self._folder / f"{topic}-{partition}.{number:08d}{_SUFFIX}"
