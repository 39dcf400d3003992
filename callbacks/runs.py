"""The one tracker of raw runs: which run a document belongs to, and which frames it brings."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.callbacks.descriptor import Detectors
from dvfb_stream.callbacks.document_fields import (
    Document,
    DocumentError,
    NotKnownYetError,
    RepeatedError,
    moment,
    size_of,
    text,
)
from dvfb_stream.callbacks.frame_sequence import FrameSequence
from dvfb_stream.callbacks.pending_documents import Pending, PendingDocuments
from dvfb_stream.callbacks.raw_run import RawEvents, RawRun
from dvfb_stream.callbacks.resources import MOST_RESOURCES, Datums
from dvfb_stream.callbacks.run_progress import RunProgress
from dvfb_stream.texts import MOST_OF_A_NAME, printable

logger = logging.getLogger(__name__)

MOST_BYTES = 1 << 28
"""Of what is kept for open runs: more than ten thousand of usual size."""

MOST_ENDED = 100_000
"""Uids remembered of runs that have ended and of their descriptors: what names them comes too late."""

MOST_LOGGED = 100
"""Rejected documents that are logged one by one, and overlooked data keys: a daemon that joins in the middle of a run
meets thousands of documents that it cannot place."""

Rejected = Callable[[str, Document, Exception], object]

_WITH_FRAMES = ("event", "event_page", "stream_datum")


class EndedError(DocumentError):
    """A document of a run that has ended here."""


class EarlyError(DocumentError):
    """Frames that came before the start of their run."""


@dataclass(slots=True, eq=False)
class Taken:
    """What one document has brought, those that waited for it included."""

    run_uid: str = ""
    """Of the run that it belongs to, which is open, or whose start is waited for; or of the run that it stops. Empty
    where there is none."""
    run: RawRun | None = None
    """The run that it belongs to; None as long as that has no start."""
    frames: list[FrameSequence] = field(default_factory=list)
    stopped_at: float | None = None
    """Time of the stop that it was; None: it was none."""
    abandoned: list[RawRun] = field(default_factory=list)
    """Runs that are forgotten, as more are open than is allowed."""


class RunTracker:
    """Follows interleaved raw runs, each from its start until all its rows are stored.

    The order is that of Bluesky, of a partition of Kafka, and of replays: a run's start, what describes its frames,
    the frames, its stop. A document that names another which has not come waits for it in `PendingDocuments`. Two
    things do not wait, so that nothing of a run that was joined in its middle gets into a delivery of the whole run:
    frames for the start of their run, and a stop, with which goes what waits for its start. A start of a run that is
    open, or whose last rows are not stored, brings nothing new, nor do documents that come again after it.

    What is malformed, comes after the stop of its run, or waits in vain is rejected: logged and counted, and counted
    in its run where it may have had frames.

    Not locked: one document at a time. `finish`, and what is counted, are for other threads, too.

    Parameters
    ----------
    detectors
        See `Descriptor`.
    root_map
        Other places for the folders that documents name.
    max_open_runs, max_bytes
        Runs open at a time, and bytes kept for them; of more, those that were silent for longest are abandoned.
    on_rejected
        Called with each document that is rejected for good, and why; not with frames that came before the start of
        their run, which come again. Must not raise.
    """

    def __init__(
        self,
        detectors: Detectors | None,
        *,
        root_map: Mapping[str, str] | None = None,
        max_open_runs: int = MOST_ENDED,
        max_bytes: int = MOST_BYTES,
        on_rejected: Rejected | None = None,
    ) -> None:
        self._on_rejected = on_rejected
        self._detectors = detectors
        self._root_map = dict(root_map or {})
        self._max_open_runs = max_open_runs
        self._max_bytes = max_bytes
        self._datums = Datums(root_map)
        self._events = RawEvents()
        self._pending = PendingDocuments()
        self._stream_resources: BoundedCache[str, Document] = BoundedCache(
            MOST_RESOURCES, max_bytes=MOST_BYTES, evict=Evict.OLDEST_PUT
        )
        """By uid: some do not say of which run they are, and a device that is staged once serves several runs."""
        self._lock = threading.Lock()  # guards the next three, as runs are finished by another thread
        self._runs: OrderedDict[str, RawRun] = OrderedDict()
        """By uid, the one that was silent for longest coming first."""
        self._n_bytes = 0
        """That all of them take."""
        self._run_of_descriptor: dict[str, RawRun] = {}
        self._ended: BoundedCache[str, None] = BoundedCache(MOST_ENDED, evict=Evict.OLDEST_PUT)
        self._overlooked: set[str] = set()
        self.documents = 0
        """Documents that came."""
        self.rejected = 0
        """Documents among them that were rejected."""
        self.repeated = 0
        """Documents that brought nothing new: they had come before."""
        self.abandoned = 0
        """Runs that were abandoned."""

    @property
    def waiting(self) -> int:
        """Documents that wait for others."""
        return len(self._pending)

    @property
    def open_runs(self) -> list[str]:
        """Uids of the runs that are open, the one that was silent for longest coming first."""
        with self._lock:
            return list(self._runs)

    def take(self, name: str, doc: Document) -> Taken:
        """Take one document, and those that waited for it. Never raises."""
        self.documents += 1
        taken, due = Taken(), deque([(name, doc)])
        while due:
            name, doc = due.popleft()
            try:
                due.extend(self._take(name, doc, taken))
            except RepeatedError:
                self.repeated += 1
            except NotKnownYetError as missing:
                self._hold(name, doc, missing, taken)
            except Exception as error:  # noqa: BLE001 - logged there; nothing may reach a RunEngine from here
                self.reject(name, doc, error)
        return taken

    def remember(self, doc: Document) -> None:
        """Learn of a stream resource of a run that has ended: a detector may be staged for later ones as well."""
        self._stream_resources.put(text(doc, "uid"), doc, n_bytes=size_of(doc))

    def reject(self, name: str, doc: Document, error: Exception) -> None:
        """Count a document that is not taken, and log why."""
        self.rejected += 1
        if self.rejected <= MOST_LOGGED:
            unforeseen = None if isinstance(error, DocumentError) else error
            uid = doc.get("uid") if isinstance(doc, Mapping) else None
            said = printable(f"{name!r}, uid {uid!r}", MOST_OF_A_NAME), printable(str(error))
            logger.warning("a document (%s) is left out: %s", *said, exc_info=unforeseen)
        if self.rejected == MOST_LOGGED:
            logger.warning("further documents that are left out are only counted")
        if self._on_rejected is not None and not isinstance(error, EarlyError):
            self._on_rejected(name, doc, error)
        # Frames that came before their run's start come again after it.
        may_lack = isinstance(name, str) and name in _WITH_FRAMES and not isinstance(error, EarlyError)
        if may_lack and isinstance(doc, Mapping):
            descriptor = doc.get("descriptor")
            run = self._run_of_descriptor.get(descriptor) if isinstance(descriptor, str) else None
            if run is not None and not run.stopped:
                run.rejected += 1

    def finish(self, progress: RunProgress) -> RawRun | None:
        """Forget the run whose rows are all written, and return it; None where it was abandoned."""
        with self._lock:
            run = self._runs.get(progress.raw_uid)
            if run is None or run.progress is not progress:
                return None
            self._forget(run)
            return run

    def wait_no_longer(self) -> None:
        """Let rows go on that wait for their events."""
        self._events.of_streams.go_on()

    def close(self) -> None:
        """Reject what waits."""
        self._reject_all(self._pending.empty())

    # -- one document --------------------------------------------------------------------------------------

    def _take(self, name: str, doc: Document, taken: Taken) -> Iterable[tuple[str, Document]]:
        """Take one document; return those that waited for it."""
        if not isinstance(doc, Mapping):
            raise DocumentError(f"a document must be a mapping, not {type(doc).__name__}")
        match name:
            case "start":
                return self._begin(doc, taken)
            case "descriptor":
                return self._describe(doc, taken)
            case "stream_resource":
                return self._add_stream_resource(doc, taken)
            case "resource":
                self._datums.add_resource(doc)
                waited = self._pending.release("resource", text(doc, "uid"))
                return [(held.name, held.doc) for held in waited]
            case "datum":
                self._datums.add_datum(doc)
            case "datum_page":
                self._datums.add_datum_page(doc)
            case "event" | "event_page" | "stream_datum":
                run = self._run_that_has(text(doc, "descriptor"), taken)
                taken.frames += self._frames(name, doc, run)
            case "stop":
                self._stop(doc, taken)
            case "bulk_events" | "bulk_datum":
                raise DocumentError(
                    f"documents of the old kind {name!r} are not read; no version of Bluesky emits them"
                )
            case _:
                raise DocumentError(f"there is no kind of document called {name!r}")
        return ()

    def _begin(self, doc: Document, taken: Taken) -> Iterable[tuple[str, Document]]:
        uid = text(doc, "uid")
        known = self._runs.get(uid)
        if known is not None:
            known.begin_again(self.documents)
            raise RepeatedError("its run is open")
        run = RawRun(
            doc,
            self._detectors,
            root_map=self._root_map,
            datums=self._datums,
            events=self._events,
            delivery=self.documents,
        )
        self._ended.pop(uid)
        with self._lock:
            self._runs[uid] = run
            self._n_bytes += run.n_bytes
        taken.run, taken.run_uid = run, uid
        taken.abandoned += self._beyond_bounds()
        return self._released("start", uid, run)

    def _describe(self, doc: Document, taken: Taken) -> Iterable[tuple[str, Document]]:
        uid = text(doc, "uid")
        try:
            run = self._run(text(doc, "run_start"), taken)
        except EndedError:
            self._end_descriptor(uid)
            raise
        with self._growing(run):
            run.add_descriptor(doc)
        self._ended.pop(uid)
        with self._lock:
            self._run_of_descriptor[uid] = run
        taken.abandoned += self._beyond_bounds()
        self._mention(run.overlooked_images(doc))
        return self._released("descriptor", uid, run)

    def _add_stream_resource(self, doc: Document, taken: Taken) -> Iterable[tuple[str, Document]]:
        """Learn where frames lie; before event-model 1.20 the document need not say of which run it is."""
        uid = text(doc, "uid")
        if doc.get("run_start") is None:
            if uid in self._stream_resources:
                raise RepeatedError("the stream resource came before")
            self._stream_resources.put(uid, doc, n_bytes=size_of(doc))
            return [(held.name, held.doc) for held in self._pending.release("stream_resource", uid)]
        run = self._run(text(doc, "run_start"), taken)
        with self._growing(run):
            run.add_stream_resource(doc)
        self._stream_resources.put(uid, doc, n_bytes=size_of(doc))
        taken.abandoned += self._beyond_bounds()
        return self._released("stream_resource", uid, run)

    def _frames(self, name: str, doc: Document, run: RawRun) -> list[FrameSequence]:
        """Return the frames of a document; raises as `RawRun.frames`."""
        try:
            return run.frames(name, doc)
        except NotKnownYetError as missing:
            found = self._stream_resources.get(missing.uid) if missing.kind == "stream_resource" else None
            if found is None:
                raise
            of_which = found.get("run_start")
            with self._growing(run):
                run.add_stream_resource(found, of_another_run=of_which is not None and of_which != run.uid)
            return run.frames(name, doc)

    def _stop(self, doc: Document, taken: Taken) -> None:
        uid = text(doc, "run_start")
        try:
            run = self._run(uid, taken)
        except NotKnownYetError as missing:
            taken.run_uid = uid
            self._ended.put(uid, None)
            waited = self._pending.of_run(uid)
            self._reject_all(waited)
            for held in waited:
                if held.name == "descriptor":
                    self._end_descriptor(str(held.doc.get("uid")))
            raise DocumentError(str(missing)) from missing
        self._reject_all(self._pending.of_run(uid))
        run.end()
        taken.frames += [*run.lost_frames(), *run.frames_after_the_last(doc)]
        # Not the time of day, which a replay would not repeat.
        taken.stopped_at = moment(doc, default=run.time)

    def _hold(self, name: str, doc: Document, missing: NotKnownYetError, taken: Taken) -> None:
        taken.run_uid = missing.run
        try:
            self._reject_all(self._pending.hold(self.documents, name, doc, missing))
        except Exception as error:  # noqa: BLE001 - logged there
            self.reject(name, doc, error)

    # -- the runs ------------------------------------------------------------------------------------------

    def _run(self, uid: str, taken: Taken) -> RawRun:
        """Return the run with a uid; EndedError when it has had its stop, NotKnownYetError before its start."""
        run = self._runs.get(uid)
        if run is None and uid not in self._ended:
            raise NotKnownYetError("start", uid, run=uid)
        if run is None or run.stopped:
            raise EndedError(f"the raw run {uid!r} has ended here")
        with self._lock:
            self._runs.move_to_end(uid)
        taken.run, taken.run_uid = run, uid
        return run

    @contextmanager
    def _growing(self, run: RawRun) -> Iterator[None]:
        """Count what a run takes more than before."""
        before = run.n_bytes
        yield
        with self._lock:
            self._n_bytes += run.n_bytes - before

    def _run_that_has(self, descriptor: str, taken: Taken) -> RawRun:
        """Return the run of a descriptor; raises as `_run`."""
        run = self._run_of_descriptor.get(descriptor)
        if run is not None:
            return self._run(run.uid, taken)
        if descriptor in self._ended:
            raise EndedError(f"the raw run of the descriptor {descriptor!r} has ended here")
        raise NotKnownYetError("descriptor", descriptor, run=self._pending.run_of_descriptor(descriptor))

    def _released(self, kind: str, uid: str, run: RawRun) -> Iterable[tuple[str, Document]]:
        """Return what waited for a document of a run, but for frames that came before the run's last start."""
        for held in self._pending.release(kind, uid):
            if held.name in _WITH_FRAMES and held.number <= run.last_start:
                self.reject(held.name, held.doc, EarlyError(f"it came before the start of run {run.uid!r}"))
            else:
                yield held.name, held.doc

    def _reject_all(self, waited: Iterable[Pending]) -> None:
        for held in waited:
            self.reject(held.name, held.doc, held.missing)

    def _end_descriptor(self, uid: str) -> None:
        """Let no document wait for a descriptor of a run that has ended."""
        self._ended.put(uid, None)
        self._reject_all(self._pending.release("descriptor", uid))

    def _beyond_bounds(self) -> list[RawRun]:
        """Forget the runs that were silent for longest where they are too many, or too large; return them."""
        abandoned = []
        with self._lock:
            while len(self._runs) > self._max_open_runs or (
                len(self._runs) > 1 and self._n_bytes > self._max_bytes
            ):
                abandoned.append(next(iter(self._runs.values())))
                self._forget(abandoned[-1])
        for run in abandoned:
            run.end()
            self.abandoned += 1
            logger.error(
                "more than %d runs, or %d bytes of them, are open; abandoning %s, which was silent for longest: its "
                "rows so far are kept, what comes of it later is left out, and its analysis runs get no stop",
                self._max_open_runs,
                self._max_bytes,
                run.uid,
            )
        return abandoned

    def _forget(self, run: RawRun) -> None:
        del self._runs[run.uid]
        self._n_bytes -= run.n_bytes
        self._ended.put(run.uid, None)
        for descriptor in run.descriptors:
            if self._run_of_descriptor.get(descriptor) is run:
                del self._run_of_descriptor[descriptor]
            self._ended.put(descriptor, None)

    def _mention(self, data_keys: list[str]) -> None:
        """Log, once each, data keys with images that are none of the described detectors."""
        new = [key for key in data_keys if key not in self._overlooked][: MOST_LOGGED - len(self._overlooked)]
        self._overlooked.update(new)
        if new:
            logger.warning(
                "images under %s are not annotated: only %s are described as detectors; give these data keys a "
                "geometry, or correct the names",
                ", ".join(map(repr, new)),
                ", ".join(map(repr, self._detectors or ())) or "no data keys",
            )
