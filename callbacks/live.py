"""The callback that a beamline subscribes to its RunEngine."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks.descriptor import GeometryProvider
from dvfb_stream.callbacks.document_fields import Document
from dvfb_stream.callbacks.latest_annotations import LatestAnnotations
from dvfb_stream.callbacks.pipeline import AnnotationPipeline, PipelineStats, check_given, frame_memory
from dvfb_stream.callbacks.row_writer import Sink
from dvfb_stream.callbacks.storing_sinks import probe
from dvfb_stream.errors import SettingsError, check_at_least
from dvfb_stream.files.handler_classes import Handler
from dvfb_stream.files.references import FrameReader
from dvfb_stream.frame_annotator import SupportsAnnotate
from dvfb_stream.frame_arrays import named_arrays
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation import AnnotatorProcess
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy
from dvfb_stream.worker.shutdown import SECONDS_AT_EXIT, seconds_for_rows

SECONDS_WITHOUT_A_ROW = 60.0
"""`__exit__` stops waiting if no row arrives for so long: a late file takes 30 s, a Tiled retry 45 s."""

HEAD_START = 0.005
"""Seconds from a document to the beginning of work on its frames. A RunEngine works for two to four milliseconds
until the next exposure begins, and would wait for the interpreter; then it waits for the detector anyway."""


class AnnotateIn(StrEnum):
    """Where files are read, and a model annotates."""

    PROCESS = "process"
    """In two processes of their own, of lower priority: plans keep the interpreter to themselves, and whatever
    becomes of those processes, they go on."""
    THREAD = "thread"
    """In threads of this process: a scan shares its interpreter with them, and waits for a file system that hangs."""


class LiveAnnotator:
    """Annotates the frames of every run of a RunEngine, without the plan noticing.

    ``RE.subscribe(LiveAnnotator(sinks=[...], detectors={"pilatus_image": geometry}))``

    A call hands the document over and returns. No exception leaves it. When frames come faster than they are
    annotated, the queue absorbs `max_frames` of them; of further ones, under the default policy, each gets a
    row that says it was dropped, and the summary counts them. Rows go to the sinks while the plan runs.

    `wait` waits for the rows of what was seen so far, `close` ends the threads, and so does a ``with`` block, see
    `__exit__`. When the interpreter ends, all callbacks that live then have 10 s together for their last rows.

    A sink may call `wait` and `close`. They return at once, as the sink's thread would wait for itself: rows under
    way still come, and the threads end with the next call. In a process that was forked off, calls do nothing: the
    threads and the frames are the parent's.

    Parameters
    ----------
    model
        Name or folder of a model bundle, loaded now rather than at the first frame; or an annotator.
    sinks
        Called as `sink(name, doc)` with the analysis documents: a `TiledSink`, an `AnnotationTable`,
        databroker's ``insert``, or any Bluesky callback.
    detectors
        Geometry of each data key that holds frames, or what finds it in each run; see `AnnotationPipeline`.
    files, root_map, patience
        How pixels are read that documents say to lie in files; see `AnnotationPipeline`.
    handlers
        Classes that read old-style resources, by spec, before those that packages register: as
        ``package.module:Class``, or themselves where the process that reads files can import them.
    policy
        ``"drop-newest"``; ``"sample"``, which spreads over the scan what it lets in; or ``"block"`` for scripts
        that would rather let the plan wait than miss a frame.
    device
        Where the model runs: ``"auto"``, ``"cpu"``, ``"cuda"``.
    annotate_in
        ``"process"``, beside this one, or ``"thread"``, within it; see `AnnotateIn`. `files` that are given, and an
        annotator that is given as `model`, are called by threads.
    batch_size, max_wait, max_frames, max_bytes
        See `dvfb_stream.worker.Worker`.
    on_run_stored, on_sink_failure, metrics
        See `AnnotationPipeline`; ``dvfb_stream.metrics.serve(live.metrics, 9100)`` exports what is counted.
    arrays
        What is kept of each frame besides its row: ``"coefficients"``, ``"features"``.

    Raises
    ------
    BundleError
        When the model cannot be loaded.
    SettingsError
        When the policy does not exist, a bound is not positive, a sink cannot be called or may not write to its
        catalog, `detectors` is no mapping, a detector's geometry is none, a handler cannot be imported, or there is
        no such array.
    """

    def __init__(
        self,
        model: str | Path | SupportsAnnotate = "default",
        *,
        sinks: Sequence[Sink] = (),
        detectors: Mapping[str, Geometry | GeometryProvider] | None = None,
        files: FrameReader | None = None,
        root_map: Mapping[str, str] | None = None,
        patience: float = 30.0,
        handlers: Mapping[str, Handler | str] | None = None,
        policy: str | FullQueuePolicy = FullQueuePolicy.DROP_NEWEST,
        device: str = "auto",
        annotate_in: str | AnnotateIn = AnnotateIn.PROCESS,
        batch_size: int = 16,
        max_wait: float = 0.2,
        max_frames: int = 256,
        max_bytes: int = 1 << 30,
        on_run_stored: Callable[[str], None] | None = None,
        on_sink_failure: Callable[[Exception], None] | None = None,
        metrics: Metrics | None = None,
        arrays: Sequence[str] = (),
    ) -> None:
        policy = FullQueuePolicy.named(policy)
        # Before the model is loaded, which takes seconds.
        check_at_least(1, batch_size=batch_size, max_frames=max_frames, max_bytes=max_bytes)
        check_given(sinks, detectors)
        arrays = named_arrays(arrays)
        probe(sinks)
        if files is not None and handlers:
            raise SettingsError("give handlers to the files that you give: FrameFiles(handlers={...})")
        metrics = Metrics() if metrics is None else metrics
        with ExitStack() as opened:
            memory = frame_memory(max_bytes)
            opened.callback(memory.close)
            annotator = _annotator(model, device, annotate_in, memory, metrics)
            if isinstance(annotator, AnnotatorProcess) and annotator is not model:
                opened.callback(annotator.close)
            if files is None and annotate_in == AnnotateIn.PROCESS:
                files = FilesProcess(memory, handlers=handlers, metrics=metrics)
                opened.callback(files.close)
                files.start()
            self._pipeline = AnnotationPipeline(
                annotator,
                sinks=sinks,
                detectors=detectors,
                files=files,
                root_map=root_map,
                patience=patience,
                handlers=handlers,
                policy=policy,
                batch_size=batch_size,
                max_wait=max_wait,
                max_frames=max_frames,
                max_bytes=max_bytes,
                on_run_stored=on_run_stored,
                on_sink_failure=on_sink_failure,
                memory=memory,
                head_start=HEAD_START,
                metrics=metrics,
                arrays=arrays,
            )
            self._opened = opened.pop_all()
        self._model = annotator.identity
        self._pid = os.getpid()
        atexit.register(self._close_at_exit)

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<LiveAnnotator {self._model}: {stats.frames} frames seen, {stats.writer.rows} rows written>"

    def __call__(self, name: str, doc: Document) -> None:
        """Take one document of the RunEngine."""
        if self._is_ours():
            self._pipeline.take(name, doc)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the rows of all frames seen so far; return whether they are stored within `timeout` seconds.

        A `TiledSink` has stored a row when it was read back from the catalog; while that is away, rows are on the
        disk, and this waits. With None, waits as long as it takes. False as well where rows were lost, now or
        earlier.
        """
        return self._is_ours() and self._pipeline.wait(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Finish what is there within `timeout` seconds, end threads and processes; later documents are left out.

        With None, waits as long as it takes: for ever, where a sink hangs.
        """
        if not self._is_ours():
            return
        if self._pipeline.close(timeout):
            atexit.unregister(self._close_at_exit)
            self._opened.close()

    @property
    def metrics(self) -> Metrics:
        """What is counted and timed."""
        return self._pipeline.metrics

    @property
    def annotations(self) -> LatestAnnotations:
        """What was annotated last, and what will be said of the frame that was taken last."""
        return self._pipeline.annotations

    def latest(self, data_key: str) -> Annotation | None:
        """Return the annotation of the frame of a data key that was annotated last; None before the first."""
        return self._pipeline.annotations.latest(data_key)

    def stats(self) -> PipelineStats:
        """Return what came in and what became of it."""
        return self._pipeline.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. Stops waiting if no row arrives for 60 s: a late file takes 30 s, a Tiled retry 45 s.

        As long as rows arrive it waits on, for 100,000 frames in files as well. After an exception what is there has
        10 s.
        """
        if not self._is_ours():
            return
        rows = -1
        while error is None and (now := self._rows()) > rows:
            rows = now
            if self.wait(SECONDS_WITHOUT_A_ROW):
                break
        self.close(SECONDS_AT_EXIT)

    def _rows(self) -> int:
        """Return a number that grows with each row that is written, and each that is stored."""
        writer = self.stats().writer
        return writer.rows + writer.stored_rows

    def _close_at_exit(self) -> None:
        self.close(seconds_for_rows())

    def _is_ours(self) -> bool:
        """Whether this is the process whose threads these are, and not one that was forked off."""
        return os.getpid() == self._pid


def _annotator(
    model: str | Path | SupportsAnnotate,
    device: str,
    annotate_in: str | AnnotateIn,
    memory: FrameMemory,
    metrics: Metrics,
) -> SupportsAnnotate:
    if annotate_in not in list(AnnotateIn):
        known = " or ".join(repr(where.value) for where in AnnotateIn)
        raise SettingsError(f"annotate_in must be {known}, not {annotate_in!r}")
    if not isinstance(model, str | Path):
        return model
    if annotate_in == AnnotateIn.PROCESS:
        return AnnotatorProcess.load(model, device=device, memory=memory, metrics=metrics)
    # Imported here, so that who has another annotator needs no torch.
    from dvfb_stream.annotator import Annotator

    return Annotator.load(model, device=device)
