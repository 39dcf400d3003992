"""The loop of the daemon: hear of runs, make their documents, send them on, and remember what is stored."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tiled.client.container import Container
from tiled.stream_messages import ArrayData, ChildCreated, ChildMetadataUpdated, TableData

from dvfb_stream.callbacks import AnnotationPipeline, GeometryProvider, Sink
from dvfb_stream.callbacks.pipeline import frame_memory
from dvfb_stream.callbacks.run_progress import RunProgress
from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.api_key import without_key
from dvfb_stream.catalog.cache_folder import folder_name
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.place import plain
from dvfb_stream.catalog.store_errors import StoreFaultError, StoreRefusedError, StoreUnavailableError
from dvfb_stream.daemon.feed import DocumentFeed
from dvfb_stream.daemon.health import Health, Part
from dvfb_stream.daemon.progress import Stuck, done_so_far, drain_while_busy, has_work
from dvfb_stream.daemon.reading import reading_process
from dvfb_stream.daemon.refused_runs import bury_refused
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.sinks import StorageError
from dvfb_stream.dead_letters.folder import LetterFolder, letters_folder
from dvfb_stream.dead_letters.post import DeadLetterPost
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.frame_annotator import SupportsAnnotate
from dvfb_stream.frames import Geometry
from dvfb_stream.metrics import Metrics
from dvfb_stream.tiled_stream.arrived_pixels import ArrivedPixels
from dvfb_stream.tiled_stream.followed_run import FollowedRun, NoRunError
from dvfb_stream.tiled_stream.new_runs import NewRuns
from dvfb_stream.tiled_stream.position import Position
from dvfb_stream.tiled_stream.sockets import Change, Heard, StreamSockets
from dvfb_stream.tiled_stream.stats import TiledStats
from dvfb_stream.worker import FullQueuePolicy

logger = logging.getLogger(__name__)

_WAKE_SECONDS = 0.05
"""Longest sleep of the loop: how late it notices that there is room. A full feed lasts three times as long, with
16 frames of 4 MB at a hundred a second."""
_TICK_WHEN_TOLD = 30.0
"""Seconds between looks for runs of which nobody has heard, where the server tells of them."""
_LONGEST_PAUSE = 15.0
"""Seconds between attempts while the server is away; the first comes after half a second."""
_SAVE_SECONDS = 2.0
"""Between writes of the position; a crash has as much again looked at, and its rows are there already."""
_REPORT_SECONDS = 60.0
"""Time between two lines in the log that say how much was done."""
_MEASURE_SECONDS = 1.0
"""Time between two looks at what the pipeline does."""
_MOST_FOLLOWED = 64
"""Runs followed at a time; others wait, and are in the catalog meanwhile."""
_FAULTS_LOGGED = (1, 4, 16, 64)
"""Times in a row that a run has failed alone, at which the log says so. `max_open_run_age` ends it."""


class TiledDaemon:
    """Annotates the raw runs of a Tiled catalog while they are written, until it is told to stop.

    What the server tells over websockets says when to look, and brings rows and pixels; what it did not tell (a
    broken connection, a cache that forgot, a server without one) is read from the run's nodes. So each frame has one
    row, whatever was heard. A run is done once its rows are stored; until then a daemon that is started again makes
    its documents again, with equal uids, and the catalog leaves alone what it has.

    Parameters
    ----------
    settings
        The configuration.
    annotator
        Used by one thread.
    client
        Tiled client of the container of raw runs.
    position
        Which runs are done. Closed by whoever made it.
    detectors
        Geometry by data key; none: whatever looks like an image gets rows that say which geometry is missing.
    sinks
        For analysis documents.
    metrics
        What is counted and timed is added to it. None: to one of its own.
    health
        Is told of the catalog of raw runs, and each turn of the loop. None: one of its own.
    store_trouble
        Returns why the store takes nothing at the moment; empty where it does.

    Raises
    ------
    SettingsError
        When the configuration has no ``source.tiled``, or `client` is no container.
    """

    def __init__(
        self,
        settings: DaemonSettings,
        annotator: SupportsAnnotate,
        *,
        client: Any,
        position: Position,
        detectors: Mapping[str, Geometry | GeometryProvider],
        sinks: Sequence[Sink],
        metrics: Metrics | None = None,
        health: Health | None = None,
        store_trouble: Callable[[], str] = str,
    ) -> None:
        if settings.source is None:
            raise SettingsError("the configuration has no [source.tiled]")
        check_container(client)
        self._settings = settings
        self._source = settings.source.tiled
        self._raw: Container = plain(client).include_data_sources()
        self._position = position
        self._data_keys = detectors or None
        self.metrics = Metrics() if metrics is None else metrics
        """What is counted and timed."""
        self.health = health or Health(
            (Part.SOURCE,), patience=settings.limits.stall_timeout, metrics=self.metrics
        )
        """How the daemon is."""
        self._store_trouble = store_trouble
        self._stuck = Stuck()
        letters = settings.dead_letters
        self.dead_letters = DeadLetterPost(
            LetterFolder(
                letters.folder or letters_folder() / folder_name(self._source.uri),
                max_bytes=letters.max_bytes,
            ),
            metrics=self.metrics,
        )
        """Where goes what is refused for good."""
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()  # guards what other threads put here
        self._heard: deque[Heard] = deque()
        self._heard_bytes = 0
        self._stored: deque[str] = deque()
        self._sink_failure: Exception | None = None
        limits = settings.limits
        memory = frame_memory(limits.max_frame_bytes)
        self._files = reading_process(settings, memory, self.metrics)
        self._pipeline = AnnotationPipeline(
            annotator,
            sinks=sinks,
            detectors=self._data_keys,
            policy=FullQueuePolicy.BLOCK,
            batch_size=limits.batch_size,
            max_wait=limits.max_wait,
            max_frames=limits.max_frames,
            max_bytes=limits.max_frame_bytes,
            on_run_stored=self._hear_stored,
            on_sink_failure=self._remember,
            on_run_refused=self._bury,
            root_map=settings.root_map,
            files=self._files,
            memory=memory,
            arrays=settings.arrays,
            patience=limits.patience,
            metrics=self.metrics,
        )
        self._feed = DocumentFeed(
            lambda _, name, doc: self._pipeline(name, doc), max_bytes=limits.max_document_bytes
        )
        self._pixels = ArrivedPixels(limits.max_document_bytes)
        self._sockets = StreamSockets(
            self._raw.context,
            tuple(part for part in self._raw.path_parts if part),
            self._hear,
            max_bytes=limits.max_document_bytes,
            metrics=self.metrics,
        )
        self._new = NewRuns(self._raw, position)
        self._runs: dict[str, FollowedRun] = {}
        self._images_from_nodes = self._looks = self._failed_looks = 0
        self._stored_runs = self._abandoned = 0
        self._has_begun = self._is_told = False
        self._said_refusal = ""
        self._next_tick = self._next_save = self._next_report = self._next_measure = self._paused_until = 0.0
        self._pause = 0.0

    def stop(self) -> None:
        """Have `run` finish what it has in its hands, and return. For any thread, and for signal handlers."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Follow runs until `stop` is called.

        Raises
        ------
        StorageError
            When a sink failed, or the pipeline did: what was not stored is not done, and a daemon that is started
            again takes it up.
        SettingsError
            When the server does not let us read.
        """
        logger.info("following %s; the position is %s", self._raw.uri.partition("?")[0], self._position)
        self._sockets.watch(())
        try:
            while not self._stopping.is_set():
                self._step()
            self._drain()
        finally:
            self._feed.close()
            self._files.close()  # the read under way, too
            self._pipeline.close(timeout=0.0)
            # Runs that were stored while this waited are done; their connections are given up before all others.
            self._settle_stored()
            self._save()
            self._sockets.close()
            self.dead_letters.close()
            logger.info("%s", self.stats())

    def stats(self) -> TiledStats:
        """Return what was done so far."""
        sockets, pipeline = self._sockets.stats(), self._pipeline.stats()
        return TiledStats(
            streaming=self._is_told,
            updates=sockets.updates,
            missed_updates=sockets.missed_updates,
            reconnections=sockets.reconnections,
            images_from_nodes=self._images_from_nodes,
            looks=self._looks,
            failed_looks=self._failed_looks,
            frames=pipeline.frames,
            rejected_documents=pipeline.rejected_documents,
            open_runs=len(self._runs),
            waiting_runs=len(self._new),
            stored_runs=self._stored_runs,
            abandoned_runs=self._abandoned,
        )

    # -- on other threads ------------------------------------------------------------------------------------

    def _hear(self, heard: Heard) -> None:
        size = len(heard.what.payload) if isinstance(heard.what, ArrayData | TableData) else 0
        with self._lock:
            if size and self._heard_bytes + size > self._settings.limits.max_document_bytes:
                heard, size = Heard(heard.path, Change.MISSED), 0
            self._heard.append(heard)
            self._heard_bytes += size
        self._wake.set()

    def _hear_stored(self, uid: str) -> None:
        self._stored.append(uid)
        self._wake.set()

    def _bury(self, run: RunProgress) -> None:
        # Done all the same: what was refused is on the disk, and refused again however often the run is read.
        bury_refused(run, self.dead_letters.post, partial(self._hear_stored, run.raw_uid))

    def _remember(self, error: Exception) -> None:
        if self._sink_failure is None:
            self._sink_failure = error
        self._wake.set()

    # -- the loop --------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self.health.turn()
        self._wake.wait(_WAKE_SECONDS)
        self._wake.clear()
        self._take_heard()
        self._settle_stored()
        self._raise_failures()
        now = time.monotonic()
        if now >= self._paused_until:
            try:
                self._find(now)
                self._follow()
            except StoreUnavailableError as error:
                self._failed_looks += 1
                self.health.say(Part.SOURCE, ok=False, reason=without_key(error))
                self._pause = min(max(2 * self._pause, 0.5), _LONGEST_PAUSE)
                self._paused_until = time.monotonic() + self._pause
                logger.warning("%s; trying again in %.1f s", without_key(error), self._pause)
            except StoreRefusedError as error:
                raise SettingsError(
                    f"source.tiled: {error.reason}; give TILED_API_KEY a key that may read there"
                ) from None
            else:
                self._pause = 0.0
                self.health.say(Part.SOURCE, ok=True, reason="answers")
        self._abandon_silent(now)
        if now >= self._next_measure:
            self._measure(now)
            self._next_measure = now + _MEASURE_SECONDS
        if now >= self._next_save:
            self._save()
            self._next_save = now + _SAVE_SECONDS
        if now >= self._next_report:
            if self._next_report:
                logger.info("%s", self.stats())
            self._next_report = now + _REPORT_SECONDS

    def _take_heard(self) -> None:
        with self._lock:
            heard, self._heard, self._heard_bytes = self._heard, deque(), 0
        for one in heard:
            if not one.path:
                self._take_of_catalog(one)
            elif (run := self._runs.get(one.path[0])) is not None:
                self._tell(run, one)

    def _take_of_catalog(self, heard: Heard) -> None:
        match heard.what:
            case ChildCreated() if "start" in heard.what.metadata:
                self._new.tell(heard.what.key)
            case ChildMetadataUpdated() if (run := self._runs.get(heard.what.key)) is not None:
                self._tell(run, Heard((heard.what.key,), heard.what))
            case Change.JOINED:
                self._is_told = True
                logger.info("the server tells of new runs")
                self._said_refusal = ""
                self._next_tick = 0.0
            case Change.LOST:
                self._say_lost(was_there=self._is_told)
                self._is_told = False
        if heard.missed:
            self._next_tick = 0.0

    def _tell(self, run: FollowedRun, heard: Heard) -> None:
        try:
            run.hear(heard)
        except Exception as error:  # noqa: BLE001 - whatever an update may hold; what it told of is in the catalog
            logger.warning("an update of %s cannot be read: %s", "/".join(heard.path), error)
            run.look_soon()

    def _say_lost(self, *, was_there: bool) -> None:
        refusal = self._sockets.refusal
        if refusal and refusal != self._said_refusal:
            self._said_refusal = refusal
            logger.warning(
                "the server does not tell of new runs (%s): it needs a streaming cache, `streaming_cache: {uri: "
                "redis://...}` in its configuration; until then the catalog is looked at every %g s",
                refusal,
                self._source.poll_interval,
            )
        elif was_there:
            logger.warning(
                "the connection to the server is lost; trying again, and looking at the catalog meanwhile"
            )

    def _find(self, now: float) -> None:
        """Look for runs, and at those under way, of which nothing is heard."""
        if not self._has_begun:
            self._new.begin(self._source.since)
            self._has_begun = True
        if now < self._next_tick:
            return
        self._new.look()
        for run in self._runs.values():
            if not run.is_given:
                run.look_soon()
        interval = self._source.poll_interval
        # All connections: where one is missing, nobody tells of what comes there.
        is_told = self._sockets.all_joined()
        self._next_tick = now + (max(interval, _TICK_WHEN_TOLD) if is_told else interval)

    def _follow(self) -> None:
        while len(self._runs) < _MOST_FOLLOWED and (uid := self._new.take()) is not None:
            self._runs[uid] = FollowedRun(
                uid,
                self._raw,
                sockets=self._sockets,
                pixels=self._pixels,
                data_keys=self._data_keys,
                root_map=self._settings.root_map,
            )
        for run in list(self._runs.values()):
            if self._feed.is_full or self._stopping.is_set():
                return
            if not run.is_given and time.monotonic() >= run.not_before:
                self._advance(run)

    def _advance(self, run: FollowedRun) -> None:
        before = run.images_from_nodes
        try:
            if run.is_due:
                self._looks += 1
                run.look()
            if self._is_none_of_ours(run):
                self._let_go(run)
                return
            for name, doc in run.documents():
                self._feed.put(0, name, doc, size=_size(doc))
                if self._feed.is_full:
                    break
            run.faults = 0
        except NoRunError as error:
            self._abandon(run, str(error))
        except StoreFaultError as error:
            self._put_off(run, error)
            with told_apart("asking whether the server fails over this run alone"):
                self._raw.keys().tail(1)
        except StoreUnavailableError:
            run.look_soon()
            raise
        except StoreRefusedError as error:
            if error.everything:
                raise
            self._put_off(run, error)
        except DvfbError as error:
            self._abandon(run, str(error))
        except Exception as error:  # noqa: BLE001 - what nobody foresaw costs this run, not the others
            self._put_off(run, error)
        finally:
            self._images_from_nodes += run.images_from_nodes - before

    def _put_off(self, run: FollowedRun, error: Exception) -> None:
        """Try a run again later, that fails alone; the others go on."""
        self._failed_looks += 1
        run.faults += 1
        run.look_soon()
        pause = min(0.25 * 2**run.faults, _LONGEST_PAUSE)
        run.not_before = time.monotonic() + pause
        if run.faults in _FAULTS_LOGGED:
            logger.warning(
                "run %s failed %d times, and is tried again every %g s at most: %s: %s",
                run.uid,
                run.faults,
                _LONGEST_PAUSE,
                type(error).__name__,
                error,
            )

    def _is_none_of_ours(self, run: FollowedRun) -> bool:
        """Return whether a run was begun before all that are to be done, or is an analysis run."""
        since = self._position.since
        return since is not None and (run.is_analysis or run.begun < since)

    def _abandon(self, run: FollowedRun, why: str) -> None:
        self._abandoned += 1
        logger.error("giving up run %s: %s", run.uid, why)
        self._let_go(run)

    def _abandon_silent(self, now: float) -> None:
        limit = self._settings.limits.max_open_run_age
        if self._pause:  # while the server is away, nothing can be heard
            return
        for run in list(self._runs.values()):
            if now - run.last_news > limit:
                self._abandon(
                    run,
                    f"nothing of it came for {limit:g} s, and it is not stored; its analysis run has no stop",
                )

    def _settle_stored(self) -> None:
        while self._stored:
            uid = self._stored.popleft()
            self._stored_runs += 1
            if (run := self._runs.get(uid)) is not None:
                self._let_go(run)

    def _let_go(self, run: FollowedRun) -> None:
        """Follow a run no longer, which is done."""
        self._position.settle(run.uid, run.begun)
        self._runs.pop(run.uid, None)
        self._sockets.forget((run.uid,))
        self._pixels.forget(run.uid)

    def _save(self) -> None:
        oldest = min((run.begun for run in self._runs.values()), default=None)
        # Of those that wait nobody knows yet when they were begun.
        self._position.save(oldest_open=self._position.since if self._new else oldest)

    def _raise_failures(self) -> None:
        failure = self._sink_failure or self._feed.failure
        if failure is not None:
            raise StorageError(
                f"rows could not be stored: {type(failure).__name__}: {(str(failure).splitlines() or [''])[0]}; "
                "start the daemon again when this is cured, and it goes on where it was"
            ) from failure

    def _measure(self, now: float) -> None:
        """Bring the metrics up to date, and look whether something is stuck."""
        self.stats().tell(self.metrics)
        if self._store_trouble():  # what waits for room in the spool is not stuck
            return
        done = self._pipeline.stats()
        works = self._feed.is_busy or has_work(done)
        seconds = self._stuck.seconds("pipeline", done_so_far(done), now, works=works)
        if seconds >= self._settings.limits.stall_timeout:
            raise StorageError(
                f"nothing was done for {seconds:.0f} s (limits.stall_timeout), though there is work: "
                f"{done.reader.waiting} frames to read, {done.worker.queued_frames} to annotate; start the daemon "
                "again, it goes on from what is stored"
            )

    def _drain(self) -> None:
        logger.info("stopping: finishing what is in hand")

        def drained(timeout: float) -> bool:
            return self._feed.drain(timeout) and self._pipeline.wait(timeout)

        if not drain_while_busy(
            drained,
            lambda: done_so_far(self._pipeline.stats(), with_retries=False),
            timeout=self._settings.limits.drain_timeout,
            meanwhile=self.health.turn,
        ):
            logger.warning("not all was finished in time; the runs under way are taken up at the next start")
        self._raise_failures()


def _size(doc: Mapping[str, Any]) -> int:
    data = doc.get("data")
    return (
        sum(getattr(value, "nbytes", 100) for value in data.values()) if isinstance(data, Mapping) else 1_000
    )
