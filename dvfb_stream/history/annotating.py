"""Annotates raw runs of a catalog, one after the other; what is annotated stays, unless somebody asks otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tiled.queries import Key

from dvfb_stream.callbacks.descriptor import Detectors, GeometryProvider
from dvfb_stream.callbacks.pipeline import AnnotationPipeline
from dvfb_stream.catalog.place import place_of, plain
from dvfb_stream.catalog.sink import TiledSink
from dvfb_stream.catalog.spool import Pace
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.errors import DvfbError, GeometryError
from dvfb_stream.files.allowed_roots import AllowedRoots
from dvfb_stream.files.moving_centre import MovingGeometry
from dvfb_stream.frame_annotator import SupportsAnnotate, as_frame_annotator
from dvfb_stream.frame_arrays import named_arrays
from dvfb_stream.frames import Geometry, Origin
from dvfb_stream.history.due import Again, Due, Way, due
from dvfb_stream.history.replacing_sink import ReplacingSink
from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.stored_documents import ImageKey, Streams, documents_of, image_keys, streams_of
from dvfb_stream.isolation.file_settings import FileSettings
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics

_ROWS_A_CALL = 512
"""A row costs the server a seventh of what it costs in calls of 64 (benchmarks/results/store.json)."""
_SECONDS_FOR_A_BATCH = 5.0
"""Nobody waits for rows of history; the end of each run hurries them anyway."""


@dataclass(slots=True)
class _Told:
    """What the threads of a pipeline tell of the raw run in hand."""

    stored: bool = False
    error: Exception | None = None


class HistoryAnnotator:
    """Annotates stored raw runs into the analysis runs beside them.

    A raw run whose images all have a finished analysis run of this model is passed over; killed on the way, calling
    it again goes on where it was. Analysis runs have the uids, and rows the values, that annotating live gives. Where
    all rows are asked for again with another geometry, an analysis is made beside the first; see `due`.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.
    annotator
        What annotates.
    detectors
        As `AnnotationPipeline` takes them.
    root_map
        Other places for the folders that documents name.
    files
        Which files are opened, and what reading one may cost. None: none, but below folders that `root_map` leads to;
        images in others are read from Tiled.
    again
        Rows that may be replaced by better ones; then raw runs that have none are passed over. None: rows that are
        there stay.
    on_row
        Called with the status of each row that is made.
    on_storing
        Called when all rows of a raw run are made, and it is only waited for the catalog to have them.
    batch_size
        Frames annotated at a time.
    spool
        As `TiledSink` takes it. False: rows that are not stored yet are lost with the process; their run is annotated
        again.
    arrays
        What is kept of each frame besides its row: ``"coefficients"``, ``"features"``. Rows that are there stay
        without.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no place beside its raw runs, or no such array.
    """

    def __init__(
        self,
        client: Any,
        annotator: SupportsAnnotate,
        *,
        detectors: Detectors | None = None,
        root_map: Mapping[str, str] | None = None,
        files: FileSettings | None = None,
        again: Again | None = None,
        on_row: Callable[[str], None] | None = None,
        on_storing: Callable[[], None] | None = None,
        batch_size: int = 16,
        spool: str | Path | Literal[False] | None = None,
        arrays: Sequence[str] = (),
    ) -> None:
        self._place = place_of(client)
        self._raw = plain(client)
        self._annotator = annotator
        self._model = as_frame_annotator(annotator).provenance()["model"]
        self._detectors = detectors
        self._root_map = dict(root_map or {})
        self._files = FileSettings() if files is None else files
        self._allowed = AllowedRoots([*self._files.allowed_roots, *self._root_map.values()])
        self._again = again
        self._on_row = on_row
        self._on_storing = on_storing
        self._batch_size = batch_size
        self._spool = spool
        self._arrays = named_arrays(arrays)
        self._store = AnnotationStore(client)
        self._dues: dict[tuple[str, str], Due] = {}  # of the raw run in hand, by stream and data key
        self._found: Any | None = None
        self.report = HistoryReport()
        """What became of them so far."""

    def annotate(self, uids: Iterable[str]) -> Iterator[str]:
        """Annotate raw runs in this order; give the uid of each when it is done, and then ask for the next.

        A run that fails costs no other: it is named in the report.
        """
        sink: TiledSink | ReplacingSink
        if self._again is None:
            pace = Pace(max_age=_SECONDS_FOR_A_BATCH)
            sink = TiledSink(self._raw, spool=self._spool, batch_size=_ROWS_A_CALL, pace=pace)
        else:
            sink = ReplacingSink(self._store, self._again, self._find)
        told = _Told()
        metrics, memory = Metrics(), FrameMemory()
        files = self._files.reading_process(memory, metrics, root_map=self._root_map)
        pipeline = AnnotationPipeline(
            self._annotator,
            sinks=[self._counting, sink],
            detectors=self._detectors,
            files=files,
            memory=memory,
            metrics=metrics,
            root_map=self._root_map,
            patience=0.0,  # no file of history is late
            batch_size=self._batch_size,
            arrays=self._arrays,
            geometry_in_uid=self._geometry_in_uid,
            on_run_stored=lambda _: setattr(told, "stored", True),
            on_sink_failure=lambda error: setattr(told, "error", error),
        )
        try:
            for uid in uids:
                self.report.runs += 1
                told.stored, told.error = False, None
                before = _stage_seconds(pipeline)
                try:
                    self._annotate(uid, pipeline, told, sink)
                except Exception as error:  # noqa: BLE001 - Tiled's, httpx's, ours: of this run, told with its uid
                    said = str(error).strip().partition("\n")[0] or type(error).__name__
                    self.report.failures.append(f"run {uid}: {said}")
                for stage, seconds in _stage_seconds(pipeline).items():
                    self.report.spent(stage, seconds - before.get(stage, 0.0))
                if isinstance(sink, ReplacingSink):
                    self.report.replaced += sink.replaced
                    self.report.beside += sink.beside
                    sink.replaced = sink.beside = 0
                yield uid
        finally:
            pipeline.close()
            memory.close()
            if isinstance(sink, TiledSink):
                sink.close()
            self._store.close()

    def _annotate(
        self, uid: str, pipeline: AnnotationPipeline, told: _Told, sink: TiledSink | ReplacingSink
    ) -> None:
        begun = time.monotonic()
        run = self._raw[uid]
        if not run.metadata.get("stop"):
            self.report.unfinished += 1
            return
        streams = streams_of(run)
        self._dues = {(key.stream, key.data_key): one for key, one in self._all_due(uid, run, streams)}
        ways = {one.way for one in self._dues.values()}
        for one in self._dues.values():
            if one.way is Way.MAKE_NEWEST:
                self._store.make_newest(one.uid)
                self.report.made_newest += 1
        begun = self._spent("looking", begun)
        if not ways & {Way.COMPLETE, Way.REPLACE}:
            self.report.skipped += 1
            self.report.other_geometry += any(one.other_geometry for one in self._dues.values())
            self.report.without_arrays += any(one.without_arrays for one in self._dues.values())
            return
        if isinstance(sink, ReplacingSink):
            sink.expect(self._dues.values())
        before = pipeline.stats().rejected_documents
        for name, doc in documents_of(
            run,
            data_keys=self._detectors,
            root_map=self._root_map,
            permits=self._allowed.permits,
            streams=streams,
        ):
            pipeline(name, doc)
        pipeline.drain()
        begun = self._spent("annotating", begun)
        if self._on_storing is not None:
            self._on_storing()
        pipeline.wait()
        self._spent("storing", begun)
        if told.error is not None:
            raise told.error
        if (rejected := pipeline.stats().rejected_documents - before) or not told.stored:
            raise DvfbError(
                f"its rows are not all stored; {rejected} of its documents were left out, see the log"
            )
        self.report.annotated += 1

    def _spent(self, on: str, since: float) -> float:
        """Note the seconds that something took, and return the time."""
        now = time.monotonic()
        self.report.spent(on, now - since)
        return now

    def _all_due(self, uid: str, run: Any, streams: Streams) -> Iterator[tuple[ImageKey, Due]]:
        """Give what is to be done with each data key of a raw run."""
        stored = self._stored(uid)
        for key in image_keys(streams, self._detectors):
            yield (
                key,
                due(
                    key,
                    uid,
                    self._model,
                    given=self._given(run, key),
                    stored=stored,
                    again=self._again,
                    arrays=self._arrays,
                ),
            )

    def _given(self, run: Any, key: ImageKey) -> Geometry | None:
        """Return the geometry of the frames of a data key; None where it is not known, or moves."""
        given: Geometry | GeometryProvider | MovingGeometry | None = (self._detectors or {}).get(key.data_key)
        if given is not None and not isinstance(given, Geometry | MovingGeometry):
            with suppress(GeometryError):
                given = given.geometry_in(run.metadata["start"], key.descriptor, key.data_key)
        return given if isinstance(given, Geometry) else None

    def _geometry_in_uid(self, first: Origin) -> str:
        """Return what `AnalysisRun` is to take for the data key of a frame."""
        one = self._dues.get((first.stream, first.data_key))
        return "" if one is None else one.geometry_in_uid

    def _stored(self, raw_uid: str) -> dict[str, Any]:
        """Return the clients of the stored analysis runs of a raw run, by uid."""
        container = self._container()
        if container is None:
            return {}
        return dict(container.search(Key("start.analysis.parent") == raw_uid).items())

    def _find(self, uid: str) -> Any | None:
        container = self._container()
        return None if container is None else container.get(uid)

    def _container(self) -> Any | None:
        """Return the plain client of where analysis runs are; None while nobody has made it."""
        if self._found is None and (found := self._place.find()) is not None:
            self._found = plain(found)
        return self._found

    def _counting(self, name: str, doc: dict[str, Any]) -> None:
        if name == "event":
            self.report.rows[doc["data"]["status"]] += 1
            if self._on_row is not None:
                self._on_row(doc["data"]["status"])


def _stage_seconds(pipeline: AnnotationPipeline) -> dict[str, float]:
    """Return the seconds that the stages of a pipeline took so far."""
    stages = pipeline.metrics.snapshot()["dvfb_stage_seconds"]["values"]
    return {value["labels"]["stage"]: value["sum"] for value in stages}
