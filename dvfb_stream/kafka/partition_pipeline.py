"""What one partition's documents go through while the partition is ours: queue, pipeline, sinks.

Each partition has its own, so that one which is taken away can be cut off at once and for good, whatever
is under way in it, while the others go on. Whoever owns it next begins with the open runs' start documents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks import AnnotationPipeline, GeometryProvider, PipelineStats, Sink
from dvfb_stream.callbacks.pipeline import Accepted, frame_memory
from dvfb_stream.callbacks.run_progress import AnalysisProgress, RowsSoFar, RunProgress
from dvfb_stream.callbacks.storing_sinks import RefusingSink, StoreCounts, StoringSink
from dvfb_stream.daemon.feed import DocumentFeed
from dvfb_stream.daemon.refused_runs import Post, bury_refused
from dvfb_stream.daemon.settings import LimitSettings
from dvfb_stream.dead_letters.deaths import message_item
from dvfb_stream.dead_letters.in_hand import InHand
from dvfb_stream.dead_letters.letter import Kind
from dvfb_stream.errors import RefusedDocumentError
from dvfb_stream.files.references import FrameReader
from dvfb_stream.frame_annotator import AnnotatorAround, SupportsAnnotate, as_frame_annotator
from dvfb_stream.frames import Frame, Geometry, Origin
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.kafka.in_step import InStep
from dvfb_stream.kafka.partition_offsets import PartitionOffsets
from dvfb_stream.kafka.read_documents import (
    ReadDocument,
    RestoredDocument,
    drop,
    letter_of_record,
    published,
    run_of,
)
from dvfb_stream.kafka.resuming import Resumption
from dvfb_stream.log_facts import log_facts
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy


class SharedAnnotator(AnnotatorAround):
    """An annotator that the pipelines of several partitions use, one at a time.

    `prepare` takes no turn: it may run in every pipeline while one annotates.
    """

    def __init__(self, annotator: SupportsAnnotate) -> None:
        super().__init__(as_frame_annotator(annotator))
        self._turn = threading.Lock()

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order."""
        with self._turn:
            return self._annotator.annotate(frames)

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order."""
        with self._turn:
            return self._annotator.annotate_prepared(prepared)

    def fall_back(self) -> str | None:
        """Compute on another device from now on, and return its name."""
        with self._turn:
            return self._annotator.fall_back()


_OF_THE_DOCUMENT = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a sink raises over what a document holds; the same document leads to it again."""


class WhileOurs:
    """A sink as long as the partition is ours; later nothing reaches it any more."""

    def __init__(self, sink: Sink, offsets: PartitionOffsets) -> None:
        self._sink = sink
        self._offsets = offsets

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Give a document to the sink.

        Raises
        ------
        RefusedDocumentError
            When the sink will not take this document, but others: whatever a value or a type in it leads to. What the
            disk or the network leads to is raised as it is, and ends the daemon.
        """
        try:
            self._offsets.write(lambda: self._sink(name, doc))
        except _OF_THE_DOCUMENT as error:
            raise RefusedDocumentError(f"{type(error).__name__}: {error}") from error


class StoringWhileOurs(WhileOurs):
    """Of a sink that says when documents are stored; everything but documents goes to the sink itself."""

    _sink: StoringSink

    @property
    def is_waited_for(self) -> bool:
        """See `StoringSink`, as for all below."""
        return self._sink.is_waited_for

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was taken is stored, for `timeout` seconds at most; return whether it is."""
        return self._sink.wait(timeout)

    def tell_when_stored(self, uid: str, told: Callable[[str], object]) -> None:
        """Call `told` once the run `uid` is stored with its stop."""
        self._sink.tell_when_stored(uid, told)

    def tell_when_refused(self, uid: str, told: Callable[[str, str], object]) -> None:
        """Call `told` with uid and reason once that run is set aside; never where the sink does not say so."""
        if isinstance(self._sink, RefusingSink):
            self._sink.tell_when_refused(uid, told)

    def stats(self) -> StoreCounts:
        """Return what became of the rows."""
        return self._sink.stats()

    def report_to(self, metrics: Metrics) -> None:
        """From now on count in a record of metrics as well."""
        self._sink.report_to(metrics)


class PartitionPipeline:
    """The way of one partition's documents to the sinks.

    Parameters
    ----------
    annotator
        Shared with the pipelines of other partitions.
    sinks
        This one's own.
    detectors
        Geometry by data key.
    offsets
        The partition's. Once they have ended, no sink is called any more.
    limits
        What bounds memory.
    root_map
        Other places for the folders that documents name.
    open_files
        Returns what reads files, into the memory that it is given; closed with the pipeline.
    metrics
        Shared with the other pipelines.
    arrays
        See `AnnotationPipeline`.
    in_hand
        Notes on what this process works on; None: there are none.
    post
        Takes dead letters, and what is to be called once they are safe or given up; must not block.
    topic, partition
        For the log.
    resumption
        How the partition is taken up; None: without a journal.
    """

    def __init__(
        self,
        annotator: SharedAnnotator,
        *,
        sinks: Sequence[Sink],
        detectors: Mapping[str, Geometry | GeometryProvider] | None,
        offsets: PartitionOffsets,
        limits: LimitSettings,
        root_map: Mapping[str, str] | None = None,
        open_files: Callable[[FrameMemory], FrameReader],
        metrics: Metrics | None = None,
        arrays: Sequence[str] = (),
        in_hand: InHand | None = None,
        post: Post = drop,
        topic: str = "",
        partition: int = 0,
        resumption: Resumption | None = None,
    ) -> None:
        self.offsets = offsets
        self._in_hand = InHand(Path()) if in_hand is None else in_hand
        resumption = Resumption() if resumption is None else resumption
        self._journal = resumption.journal
        self._post = post
        self._topic = topic
        self._partition = partition
        self._sink_failure: Exception | None = None
        memory = frame_memory(limits.max_frame_bytes)
        self._files = open_files(memory)
        self._pipeline = AnnotationPipeline(
            # What is annotated and not in the journal is annotated again after a kill: one batch, no more.
            annotator if self._journal is None else InStep(annotator, self._catch_up),
            sinks=[self._while_ours(sink) for sink in sinks],
            detectors=detectors,
            policy=FullQueuePolicy.BLOCK,
            batch_size=limits.batch_size,
            max_wait=limits.max_wait,
            max_frames=limits.max_frames,
            max_bytes=limits.max_frame_bytes,
            on_run_stored=self._stored,
            on_sink_failure=self._remember,
            on_rejected=self._rejected,
            on_run_refused=self._refused,
            root_map=root_map,
            files=self._files,
            memory=memory,
            patience=limits.patience,
            metrics=metrics,
            arrays=arrays,
            on_row=None if self._journal is None else self._note_row,
            rows_so_far=None if self._journal is None else self._rows_so_far,
        )
        self._feed = DocumentFeed(self._take, max_bytes=limits.max_document_bytes)
        for noted in resumption.documents:
            restored = RestoredDocument(noted, is_of_ended_run=noted.run not in resumption.runs)
            self._feed.put(noted.offset, noted.name, restored, size=0)
        if resumption.position:
            # Nothing may come after: what is over is committed all the same, once the open runs are known.
            self._feed.put(resumption.position - 1, "", {}, size=0)

    @property
    def is_full(self) -> bool:
        """Whether fetching from the partition should pause."""
        return self._feed.is_full

    @property
    def is_busy(self) -> bool:
        """Whether documents wait to be taken, or one is being taken."""
        return self._feed.is_busy

    @property
    def failure(self) -> Exception | None:
        """What a sink raised, or the pipeline: the rows after it are not stored, and never will be here."""
        return self._sink_failure or self._feed.failure

    def put(self, record: Any, name: str, doc: dict[str, Any]) -> None:
        """Send the document of a record of Kafka on its way."""
        self._feed.put(record.offset, name, ReadDocument(doc, record), size=len(record.value))

    def refuse(self, record: Any, kind: Kind, reason: str) -> None:
        """Pass over a record, once those before it have been taken: it is a dead letter."""
        self._bury(record, kind, reason)
        self._feed.put(record.offset, "", {}, size=0)

    def drain(self, timeout: float) -> bool:
        """Wait until the sinks have the rows of all documents put so far; return whether it came in time."""
        return self._feed.drain(timeout) and self._pipeline.wait(timeout)

    def _catch_up(self) -> bool:
        """Wait for the rows of what is annotated; return whether rows are still taken."""
        return self._pipeline.catch_up() and not self.offsets.ended

    def close(self, timeout: float) -> None:
        """Cut off the sinks and end the threads, waiting at most `timeout` seconds for what is under way."""
        # First of all: a closing pipeline gives the frames in its queue rows that say so, and a stored row
        # is never written again.
        self.offsets.end()
        self._feed.close()
        self._files.close()  # the read under way, too
        self._pipeline.close(timeout)
        if self._journal is not None:
            self._journal.close()

    def write_down(self, committed: int | None) -> None:
        """Have the journal survive a power failure, and say in it up to where the partition is committed."""
        if self._journal is not None:
            if committed is not None:
                self._journal.committed(committed)
            self._journal.write_down()

    def give_up(self, run: str) -> None:
        """Say that nothing waits for a run any more."""
        if self._journal is not None:
            self._journal.over(run)

    def stats(self) -> PipelineStats:
        """Return what the pipeline counted."""
        return self._pipeline.stats()

    def _take(self, offset: int, name: str, doc: dict[str, Any]) -> None:
        item = message_item(self._topic, self._partition, offset)
        with (
            log_facts(topic=self._topic, partition=self._partition, offset=offset),
            self._in_hand.holding([item], blamed=True),
        ):
            if isinstance(doc, RestoredDocument):
                self._restore(name, doc)
                return
            taken = self._pipeline.accept(name, doc) if name else Accepted()
        record = doc.record if isinstance(doc, ReadDocument) else None
        at, publisher = published(record), getattr(record, "key", None)
        if self._journal is not None and name:
            self._journal.document(
                offset,
                name,
                doc,
                run=taken.run_uid,
                in_documents=taken.in_documents,
                waiting=taken.waiting > 0,
                published=at,
                publisher=publisher,
            )
        self.offsets.taken(offset, name, taken.run_uid, published=at, publisher=publisher)

    def _restore(self, name: str, doc: RestoredDocument) -> None:
        noted = doc.noted
        suspicion = self._in_hand.suspicion(message_item(self._topic, self._partition, noted.offset))
        if suspicion is not None and suspicion.convicts:
            return  # a dead letter, as when it is read
        if doc.is_of_ended_run and name == "stream_resource":
            self._pipeline.remember(doc)
            return
        run = self._pipeline.accept(name, doc).run_uid
        self.offsets.taken(noted.offset, name, run, published=noted.published, publisher=noted.publisher)

    def _note_row(self, progress: AnalysisProgress) -> None:
        analysis = progress.analysis
        place = (progress.run.raw_uid, analysis.stream, analysis.data_key)
        assert self._journal is not None
        self._journal.rows(place, progress.written, analysis.summary_so_far())

    def _rows_so_far(self, first: Origin) -> RowsSoFar | None:
        assert self._journal is not None
        return self._journal.rows_so_far.pop((first.run_uid, first.stream, first.data_key), None)

    def _rejected(self, name: str, doc: object, error: Exception) -> None:
        # After the end documents are the next owner's, and rejected because nothing more is taken here.
        if isinstance(doc, ReadDocument) and not self.offsets.ended:
            self._bury(doc.record, Kind.UNTAKEN, f"a document {name!r} is left out: {error}", run=run_of(doc))

    def _stored(self, run: str) -> None:
        if self._journal is not None and not self.offsets.ended:
            self._journal.over(run)
        self.offsets.stored(run)
        for item in self._in_hand.suspects:
            if item[:2] == ("frame", run):
                self._in_hand.clear(item)

    def _refused(self, run: RunProgress) -> None:
        """Let the commit pass a run that a sink will not take, once there is a letter of each analysis run."""
        bury_refused(
            run,
            self._post,
            partial(self._stored, run.raw_uid),
            topic=self._topic,
            partition=self._partition,
            offset=self.offsets.first_of(run.raw_uid),
        )

    def _bury(self, record: Any, kind: Kind, reason: str, run: str = "") -> None:
        self.offsets.hold(record.offset)
        letter = letter_of_record(record, kind, reason, run=run)
        self._post(letter, partial(self.offsets.let_go, record.offset))

    def _while_ours(self, sink: Sink) -> Sink:
        kind = StoringWhileOurs if isinstance(sink, StoringSink) else WhileOurs
        return kind(sink, self.offsets)

    def _remember(self, error: Exception) -> None:
        if self._sink_failure is None:
            self._sink_failure = error
