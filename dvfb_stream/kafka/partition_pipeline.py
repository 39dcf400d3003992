"""What one partition's documents go through while the partition is ours: queue, pipeline, sinks.

Each partition has its own lane, so that one which is taken away can be cut off at once and for good, whatever
is under way in it, while the others go on. Whoever owns it next begins with the open runs' start documents.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import AnnotationPipeline, GeometryProvider, PipelineStats, Sink
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.kafka.feed import DocumentFeed
from dvfb_stream.kafka.partition_offsets import PartitionOffsets, Verdict
from dvfb_stream.kafka.settings import LimitSettings
from dvfb_stream.kafka.wire_format import json_ready
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy, SupportsAnnotate

logger = logging.getLogger(__name__)


class SharedAnnotator:
    """An annotator that several lanes use, one at a time; it offers what the annotator offers.

    `prepare` takes no turn: it may run on every lane while one annotates.
    """

    def __init__(self, annotator: SupportsAnnotate) -> None:
        self._annotator = annotator
        self._turn = threading.Lock()
        # Only what is there: a worker looks for each of them.
        for name in ("provenance", "prepare", "report_stages"):
            if hasattr(annotator, name):
                setattr(self, name, getattr(annotator, name))
        for name in ("annotate_prepared", "fall_back"):
            if hasattr(annotator, name):
                setattr(self, name, self._in_turn(getattr(annotator, name)))

    @property
    def identity(self) -> ModelIdentity:
        """Which model annotates."""
        return self._annotator.identity

    @property
    def prepares_ahead(self) -> bool:
        """Whether it pays to prepare frames on a thread of their own."""
        return bool(getattr(self._annotator, "prepares_ahead", False))

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order."""
        with self._turn:
            return self._annotator.annotate(frames)

    def _in_turn(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._turn:
                return method(*arguments)

        return call


class PartitionPipeline:
    """The way of one partition's documents to the sinks.

    Parameters
    ----------
    annotator
        Shared with the other lanes.
    sinks
        This lane's own.
    detectors
        Geometry by data key.
    runs
        The partition's open runs. Once they have ended, no sink is called any more.
    limits
        What bounds memory.
    root_map
        Other places for the folders that documents name.
    metrics
        Shared with the other lanes.
    """

    def __init__(
        self,
        annotator: SharedAnnotator,
        *,
        sinks: Sequence[Sink],
        detectors: Mapping[str, Geometry | GeometryProvider] | None,
        runs: PartitionOffsets,
        limits: LimitSettings,
        root_map: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.runs = runs
        self._sink_failure: Exception | None = None
        self._pipeline = AnnotationPipeline(
            annotator,
            sinks=[self._while_ours(sink) for sink in sinks],
            detectors=detectors,
            policy=FullQueuePolicy.BLOCK,
            batch_size=limits.batch_size,
            max_wait=limits.max_wait,
            max_frames=limits.max_frames,
            max_bytes=limits.max_frame_bytes,
            on_run_stored=runs.stored,
            on_sink_failure=self._remember,
            root_map=root_map,
            patience=limits.patience,
            metrics=metrics,
        )
        self._feed = DocumentFeed(self._pipeline, max_bytes=limits.max_document_bytes)

    @property
    def is_full(self) -> bool:
        """Whether fetching from the partition should pause."""
        return self._feed.is_full

    @property
    def failure(self) -> Exception | None:
        """What a sink raised, or the pipeline: the rows after it are not stored, and never will be here."""
        return self._sink_failure or self._feed.failure

    def put(self, offset: int, name: str, doc: dict[str, Any], *, size: int) -> Verdict:
        """Take note of a document read at `offset`, and send it on its way if it belongs to an open run."""
        verdict = self.runs.read(offset, name, doc)
        if verdict is Verdict.FEED:
            if name == "start":
                # Analysis runs copy some of it, and catalogs keep JSON: an array that somebody put under
                # `sample_name` must not look like a sink that has failed.
                doc = json_ready(doc)
            self._feed.put(name, doc, size=size)
        return verdict

    def drain(self, timeout: float) -> bool:
        """Wait until the sinks have the rows of all documents put so far; return whether it came in time."""
        return self._feed.drain(timeout) and self._pipeline.wait(timeout)

    def close(self, timeout: float) -> None:
        """Cut off the sinks and end the threads, waiting at most `timeout` seconds for what is under way."""
        # First of all: a closing pipeline gives the frames in its queue rows that say so, and a stored row
        # is never written again.
        self.runs.end()
        self._feed.close()
        self._pipeline.close(timeout)

    def stats(self) -> PipelineStats:
        """Return what the pipeline counted."""
        return self._pipeline.stats()

    def _while_ours(self, sink: Sink) -> Sink:
        return lambda name, doc: self.runs.write(lambda: sink(name, doc))

    def _remember(self, error: Exception) -> None:
        if self._sink_failure is None:
            self._sink_failure = error
