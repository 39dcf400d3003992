"""Every metric there is, in one place: its name, kind, meaning, unit and labels.

Names follow Prometheus: a name ends in its unit, and an exporter adds ``_total`` to counters. Labels take few values,
fixed beforehand: a run or a data key is none, or the record would grow with every scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What a frame goes through, as the label ``stage`` of `STAGE_SECONDS`."""

    READ = "read"
    """Pixels out of a document or a file; observed once a frame."""
    VIEW = "view"
    """Detector frame to view; once a frame."""
    COEFFICIENTS = "coefficients"
    """Fourier-Bessel estimate, the building of an estimator not included; once a batch."""
    NETWORK = "network"
    """Network, calibration and novelty; once a batch."""
    ANNOTATE = "annotate"
    """One call of the annotator, what it had prepared beforehand not included; once a batch."""
    WRITE = "write"
    """One analysis document to all sinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One entry of the catalogue."""

    name: str
    """Ends in the unit, where there is one."""
    help: str
    """One sentence for whoever reads the dashboard."""
    unit: str = ""
    """``seconds``, ``bytes``, ``frames``, ``rows``, ``labels``; empty for events."""
    labels: tuple[str, ...] = ()
    """Names of the labels; their values are given in this order."""

    @property
    def kind(self) -> str:
        """``counter``, ``gauge`` or ``histogram``."""
        return type(self).__name__.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter(Metric):
    """A number that only grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge(Metric):
    """A number that goes up and down; those of several workers with one record add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram(Metric):
    """How often values came, by size, and their sum."""

    buckets: tuple[float, ...]
    """Upper bounds of the buckets, inclusive and ascending, in the metric's unit; one without bound follows."""


SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""From a view (some milliseconds) to an annotator that is stuck."""

RECEIVED = Counter(
    name="dvfb_received_frames", unit="frames", help="Frames submitted and either taken in or refused."
)
ANNOTATED = Counter(name="dvfb_annotated_frames", unit="frames", help="Frames that got probabilities.")
FAILED = Counter(
    name="dvfb_failed_frames",
    unit="frames",
    help="Frames that could not be annotated, or came after the worker was closed.",
)
DROPPED = Counter(
    name="dvfb_dropped_frames",
    unit="frames",
    labels=("reason",),
    help="Frames that were not let in, for want of room.",
)
DOUBTFUL = Counter(
    name="dvfb_doubtful_labels",
    unit="labels",
    labels=("label",),
    help="Frames on which a label was neither accepted nor rejected.",
)
UNDELIVERED = Counter(
    name="dvfb_undelivered_rows", unit="rows", help="Annotations that whoever asked for the frame refused."
)
QUEUE_FRAMES = Gauge(
    name="dvfb_queue_frames",
    unit="frames",
    help="Frames held and not yet annotated, those in work included.",
)
QUEUE_BYTES = Gauge(name="dvfb_queue_bytes", unit="bytes", help="Bytes of the pixels of those frames.")
UNREAD_FRAMES = Gauge(
    name="dvfb_unread_frames",
    unit="frames",
    help="Frames that documents announced and that are not read from their files yet.",
)
BATCH_FRAMES = Histogram(
    name="dvfb_batch_frames",
    unit="frames",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    help="Frames given to the annotator together, retries not included.",
)
BATCH_WAIT_SECONDS = Histogram(
    name="dvfb_batch_wait_seconds",
    unit="seconds",
    buckets=SECONDS,
    help="How long the oldest frame of a batch had been held when the batch was taken.",
)
STAGE_SECONDS = Histogram(
    name="dvfb_stage_seconds",
    unit="seconds",
    labels=("stage",),
    buckets=SECONDS,
    help="Duration of one stage for one batch, frame or document.",
)
FALLBACKS = Counter(
    name="dvfb_device_fallbacks", help="Times that a lost device made the annotator move to another."
)
HALVINGS = Counter(
    name="dvfb_batch_halvings", help="Times that a batch was halved because it did not fit into memory."
)
RESTARTS = Counter(
    name="dvfb_process_restarts",
    help="Times that a process that reads or annotates had ended and was started again.",
)
STORED_ROWS = Counter(
    name="dvfb_stored_rows", unit="rows", help="Rows that the catalog has proven to have, exactly once."
)
SPOOLED_ROWS = Gauge(
    name="dvfb_spooled_rows", unit="rows", help="Rows on the disk that the catalog does not have yet."
)
QUARANTINED_ROWS = Gauge(
    name="dvfb_quarantined_rows",
    unit="rows",
    help="Rows on the disk that the catalog will not take as they are; dvfb spool list says why.",
)
LOST_ROWS = Counter(
    name="dvfb_lost_rows",
    unit="rows",
    help="Rows given up: no room on the disk, sinks that are stuck, or a close that came before them.",
)
STORE_FAILURES = Counter(
    name="dvfb_store_failures", help="Calls that the catalog did not take, and that are tried again."
)
REFUSED_MESSAGES = Counter(
    name="dvfb_refused_messages", help="Kafka messages that could not be decoded, and were skipped."
)
REFUSED_RUNS = Counter(
    name="dvfb_refused_runs", help="Raw runs of which a store will not take an analysis run as it is."
)
DEAD_LETTERS = Counter(
    name="dvfb_dead_letters",
    labels=("kind",),
    help="Things that could not be processed, and are kept; dvfb daemon dead-letters list shows them.",
)
FAILED_DEAD_LETTERS = Counter(
    name="dvfb_failed_dead_letters",
    labels=("kind",),
    help="Things that could not be processed, and that neither the topic nor the folder took.",
)
MISSED_UPDATES = Counter(
    name="dvfb_missed_updates",
    help="Messages of Tiled's websocket that did not come; what they told of is read from the catalog.",
)
RECONNECTIONS = Counter(
    name="dvfb_reconnections", help="Connections to Tiled's websocket that were made again."
)

LAG = Gauge(
    name="dvfb_lag_messages",
    labels=("topic", "partition"),
    help="Messages of a partition that the cluster has and that are not read yet.",
)
READ_OFFSET = Gauge(
    name="dvfb_read_offset", labels=("topic", "partition"), help="Offset at which a partition is read on."
)
COMMITTED_OFFSET = Gauge(
    name="dvfb_committed_offset",
    labels=("topic", "partition"),
    help="Offset from which a daemon that is started again reads a partition, as last committed here.",
)
MESSAGES = Counter(name="dvfb_messages", help="Messages read from Kafka.")
REJECTED_DOCUMENTS = Counter(
    name="dvfb_rejected_documents", help="Documents of no known run, too late, or malformed."
)
REPEATED_DOCUMENTS = Counter(
    name="dvfb_repeated_documents", help="Documents that had come before, as after a restart."
)
OPEN_RUNS = Gauge(name="dvfb_open_runs", help="Raw runs begun and not stored.")
STORED_RUNS = Counter(name="dvfb_stored_runs", help="Raw runs that all sinks have stored.")
GIVEN_UP_RUNS = Counter(
    name="dvfb_given_up_runs", help="Raw runs let go: silent for max_open_run_age without being stored."
)
COMMITS = Counter(name="dvfb_commits", help="Commits that the cluster took.")
FAILED_COMMITS = Counter(
    name="dvfb_failed_commits", help="Commits that the cluster did not take, and that are made again."
)
REBALANCES = Counter(
    name="dvfb_rebalances",
    labels=("kind",),
    help="Times that partitions were assigned to this daemon, revoked from it, or lost.",
)
REOPENINGS = Counter(
    name="dvfb_consumer_reopenings",
    help="Times that the consumer received nothing of what the cluster has, or no partitions, and was opened again.",
)
SPOOLED_BYTES = Gauge(name="dvfb_spool_bytes", unit="bytes", help="Size of this process's file in the spool.")
UP = Gauge(
    name="dvfb_up",
    labels=("part",),
    help="1 where a part that the daemon needs (broker, store, model, lag) is well, 0 where not.",
)
LOOP_AGE = Gauge(
    name="dvfb_loop_age_seconds", unit="seconds", help="Time since the daemon's loop turned last."
)

CATALOGUE: tuple[Metric, ...] = (
    RECEIVED,
    ANNOTATED,
    FAILED,
    DROPPED,
    DOUBTFUL,
    UNDELIVERED,
    QUEUE_FRAMES,
    QUEUE_BYTES,
    UNREAD_FRAMES,
    BATCH_FRAMES,
    BATCH_WAIT_SECONDS,
    STAGE_SECONDS,
    FALLBACKS,
    HALVINGS,
    RESTARTS,
    STORED_ROWS,
    SPOOLED_ROWS,
    QUARANTINED_ROWS,
    LOST_ROWS,
    STORE_FAILURES,
    REFUSED_MESSAGES,
    REFUSED_RUNS,
    DEAD_LETTERS,
    FAILED_DEAD_LETTERS,
    MISSED_UPDATES,
    RECONNECTIONS,
    LAG,
    READ_OFFSET,
    COMMITTED_OFFSET,
    MESSAGES,
    REJECTED_DOCUMENTS,
    REPEATED_DOCUMENTS,
    OPEN_RUNS,
    STORED_RUNS,
    GIVEN_UP_RUNS,
    COMMITS,
    FAILED_COMMITS,
    REBALANCES,
    REOPENINGS,
    SPOOLED_BYTES,
    UP,
    LOOP_AGE,
)
"""All of the above."""
