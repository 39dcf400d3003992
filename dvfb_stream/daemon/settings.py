"""What a daemon is told in its configuration file: checked before anything is started, no key unknown."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.settings_file import ArrayNames, ServerAddress, Settings, Text, read_settings_file
from dvfb_stream.isolation.file_settings import FileSettings

TILED_KEY_VARIABLE = "TILED_API_KEY"
"""Environment variable with the API key for Tiled; Tiled's own client reads the same one."""
MAX_MESSAGE_BYTES = 1 << 30
"""Most that `KafkaSettings.max_message_bytes` may be: Kafka's own messages have at most twice that."""
DEFAULT_MESSAGE_BYTES = (64 << 20) + (2 << 20)
"""Largest Kafka message that is unpacked unless another bound is given: a 16-megapixel frame of 32 bits, and two
megabytes of what else its event has."""
KAFKA_PASSWORD_VARIABLE = "DVFB_KAFKA_PASSWORD"
"""Environment variable with the SASL password for Kafka."""


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path


FilePath = Annotated[Path, AfterValidator(_from_folder)]
"""A path that starts from the configuration file's folder where it is relative."""


def _host_and_port(server: str) -> str:
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16) or "/" in host:
        raise ValueError(
            f"must be host:port, with a port from 1 to 65535, such as kafka1:9092, not {server!r}"
        )
    return server


class KafkaSettings(Settings):
    """A Kafka cluster that documents come from."""

    bootstrap_servers: Annotated[list[Annotated[Text, AfterValidator(_host_and_port)]], Field(min_length=1)]
    """``host:port`` of some brokers of the cluster."""
    topics: Annotated[list[Text], Field(min_length=1)]
    """Topics with Bluesky documents, usually ``<beamline>.bluesky.runengine.documents``."""
    group: Text = "dvfb"
    """Consumer group. Daemons of one group share the partitions; another model needs another group."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a new group begins: with the oldest documents that the cluster keeps, or with new ones."""
    commit_interval: PositiveFloat = 1.0
    """Seconds between commits. A crash repeats at most that much more than the open runs."""
    session_timeout: PositiveFloat = 45.0
    """Seconds without a heartbeat after which the broker gives the partitions to another daemon."""
    heartbeat_interval: PositiveFloat = 3.0
    """Seconds between heartbeats; at most a third of `session_timeout`."""
    max_poll_interval: PositiveFloat = 600.0
    """Seconds between two polls after which the client gives the partitions back, and that a rebalance waits for a
    member at most. A daemon whose loop is stuck ends before: after ``limits.stall_timeout``, and is missed after
    `session_timeout`."""
    bootstrap_timeout: PositiveFloat = 30.0
    """Seconds of one attempt to find a broker; at the start they go on for ``limits.start_timeout``."""
    max_message_bytes: Annotated[int, Field(gt=0, le=MAX_MESSAGE_BYTES)] = DEFAULT_MESSAGE_BYTES
    """Longer messages are refused. A few of them are in memory at a time: raise it for frames of more than 64 MiB."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers."""
    ssl_cafile: FilePath | None = None
    """Certificates of the authority that signed the brokers' ones; None: the system's."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How to log in; the password is in the environment variable ``DVFB_KAFKA_PASSWORD``."""
    sasl_username: str | None = None
    """Who logs in."""


class TiledSourceSettings(Settings):
    """A Tiled catalog that raw runs come from, while they are written there."""

    uri: ServerAddress
    """Address of the container of raw runs, without the API key: that is in ``TILED_API_KEY``."""
    since: datetime | None = None
    """At its first start, a daemon takes the runs begun since then. None: those that are under way, and new ones.
    Later it goes on where it was. Without a zone, in that of this machine."""
    poll_interval: Annotated[float, Field(ge=0.1)] = 2.0
    """Seconds between two looks for what is new, on a server that does not tell of it."""
    position: FilePath | None = None
    """File, for this daemon alone, with the runs that are done, from which it goes on. None: one for the address and
    the model, beside this user's spools."""


class SourceSettings(Settings):
    """Where raw runs come from, other than from Kafka."""

    tiled: TiledSourceSettings
    """A Tiled catalog."""


class TiledSettings(Settings):
    """The Tiled server that analysis runs are stored on."""

    uri: ServerAddress
    """Address of the server, or of a container on it, without the API key: that is in ``TILED_API_KEY``."""
    batch_size: PositiveInt = 64
    """Most rows written at a time. None waits for others for more than half a second."""
    spool: FilePath | None = None
    """Folder on a local disk, where rows are until the server has them, and how far runs have come: daemons of one
    group on one machine share it, and go on with each other's runs. None: one for the address, below that of this
    user's spools."""
    max_spool_bytes: Annotated[int, Field(ge=1 << 16)] = 1 << 30
    """Size of that folder. When it is full, reading from the source pauses until there is room."""


class SinkSettings(Settings):
    """Where analysis documents go; at least one."""

    tiled: TiledSettings | None = None
    """Stored and searchable; every row exactly once."""
    jsonl: FilePath | None = None
    """File that gets one ``[name, document]`` a line; a restart may repeat lines (equal uids)."""
    topic: Text | None = None
    """Topic on the cluster under ``kafka``, in the wire format of the raw documents; a restart may repeat them."""


class DeadLetterSettings(Settings):
    """Where goes what cannot be processed, with its origin, the reason and its bytes."""

    topic: Text | None = None
    """Topic on the cluster under ``kafka``; it must take messages as long as those that are read. None: there is
    none, and the folder takes all. It takes what the topic does not."""
    folder: FilePath | None = None
    """Folder for dead letters, and for notes on what was in hand when a daemon died: one that all daemons of a group
    see counts for all of them. None: one for the group, beside this user's spools."""
    max_bytes: Annotated[int, Field(ge=1 << 16)] = 1 << 28
    """Of the dead letters in that folder; of more, none is kept, which is counted and logged."""


class LimitSettings(Settings):
    """What bounds memory, and how long things may take."""

    batch_size: PositiveInt = 16
    """Frames annotated at a time."""
    max_wait: PositiveFloat = 0.2
    """Seconds that a frame waits for others to make a batch."""
    max_frames: PositiveInt = 256
    """Frames that wait for the annotator before reading pauses."""
    max_frame_bytes: PositiveInt = 1 << 30
    """Bytes of the frames that wait for the annotator before reading pauses."""
    max_document_bytes: PositiveInt = 64 << 20
    """Bytes of the messages that wait for the pipeline before reading pauses."""
    patience: NonNegativeFloat = 30.0
    """Seconds that the file of a frame may be late before the frame gets a row that says so."""
    max_open_run_age: PositiveFloat = 86400.0
    """Seconds after its last document, by the time of that, at which a run that is not stored is given up, so that it
    no longer holds back what is committed. Longer than any pause within a scan."""
    drain_timeout: PositiveFloat = 60.0
    """Seconds that a daemon told to stop gives the frames in its hands."""
    start_timeout: NonNegativeFloat = 600.0
    """Seconds that a daemon which starts waits for brokers and servers that do not answer."""
    stall_timeout: PositiveFloat = 120.0
    """Seconds without any progress, though there is something to do, after which what is stuck is opened again, or
    the daemon ends with the reason. Longer than the slowest read, batch and write."""


class HttpSettings(Settings):
    """Where a daemon says how it is: ``/livez``, ``/readyz``, ``/metrics``. There is no authentication."""

    address: Text = "127.0.0.1"
    """Interface to listen on: this machine alone; ``0.0.0.0``: all."""
    port: PositiveInt | None = Field(default=None, le=65535)
    """TCP port; None: it listens nowhere."""
    max_lag: PositiveInt = 10_000
    """Messages of a partition not read yet, above which the daemon is not ready."""


class WorkersSettings(Settings):
    """How many processes of this machine annotate: with more than one, each is a daemon of the group."""

    processes: Annotated[PositiveInt, Field(le=256)] = 1
    """The cluster divides the partitions among them: of more processes than partitions, the rest idles."""
    devices: list[Text] = Field(default_factory=list)
    """Where their models run, in turns: ``["cuda:0", "cuda:1"]``. Empty: all of them on `device`."""


class DaemonSettings(Settings):
    """The whole configuration file of ``dvfb daemon``."""

    model: Text = "default"
    """Name or folder of the model bundle."""
    device: Text = "auto"
    """Where the model runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""
    kafka: KafkaSettings | None = None
    """The Kafka cluster that documents come from; or"""
    source: SourceSettings | None = None
    """the Tiled catalog."""
    sinks: SinkSettings
    """Where analysis documents go."""
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    """Where goes what cannot be processed."""
    detectors: dict[str, DetectorDescription] = Field(default_factory=dict)
    """Geometry by data key. Empty: no frame can be annotated, and each one's row says so."""
    root_map: dict[str, str] = Field(default_factory=dict)
    """Other places for the folders that documents name: ``"/ioc/data" = "/mnt/data"``."""
    files: FileSettings = FileSettings()
    """Which files are opened."""
    handlers: dict[str, str] = Field(default_factory=dict)
    """Classes that read old-style resources, by spec: ``MY_SPEC = "package.module:Class"``."""
    arrays: ArrayNames = ()
    """What is kept of each frame besides its row: ``coefficients``, ``features``."""
    http: HttpSettings = HttpSettings()
    """Where it says how it is."""
    metrics_port: PositiveInt | None = Field(default=None, le=65535)
    """The same as ``port`` under ``[http]``, by its older name."""
    log_format: Literal["plain", "json"] = "plain"
    """Lines of the log: for people, or one JSON object each."""
    limits: LimitSettings = LimitSettings()
    """What bounds memory, and how long things may take; each of several processes has as much."""
    workers: WorkersSettings = WorkersSettings()
    """How many processes annotate."""

    @field_validator("sinks")
    @classmethod
    def _somewhere(cls, sinks: SinkSettings) -> SinkSettings:
        if sinks.tiled is None and sinks.jsonl is None and sinks.topic is None:
            raise ValueError("name at least one of tiled, jsonl, topic")
        return sinks

    @model_validator(mode="after")
    def _one_http_port(self) -> Self:
        if self.metrics_port is not None and self.http.port is not None:
            raise ValueError("it has both metrics_port and port under [http]: leave out metrics_port")
        return self

    @property
    def http_port(self) -> int | None:
        """The port under ``[http]``, or `metrics_port`; None: it listens nowhere."""
        return self.http.port if self.metrics_port is None else self.metrics_port

    @model_validator(mode="after")
    def _several_processes(self) -> Self:
        if self.workers.processes > 1 and self.source is not None:
            raise ValueError(
                f"workers.processes is {self.workers.processes}, and the source is a Tiled catalog, which nobody "
                "divides among processes; leave it out, or read from [kafka]"
            )
        if self.workers.processes > 1 and self.sinks.jsonl is not None:
            raise ValueError(
                f"workers.processes is {self.workers.processes}, and lines of several processes would mix in "
                "sinks.jsonl; leave one of them out"
            )
        if len(self.workers.devices) > self.workers.processes:
            raise ValueError(
                f"workers.devices names {len(self.workers.devices)} devices for {self.workers.processes} processes: "
                "some would do nothing; set workers.processes to as many at least"
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.kafka is not None and self.source is not None:
            raise ValueError(
                "it has both [kafka] and [source.tiled]; a daemon has one source: leave one of them out, and "
                "start another daemon for it"
            )
        if self.kafka is None and self.source is None:
            raise ValueError(
                "it does not say where raw runs come from; add [kafka] with bootstrap_servers and topics, or "
                "[source.tiled] with uri"
            )
        if self.dead_letters.topic is not None and self.kafka is None:
            raise ValueError(
                "dead_letters.topic is on the cluster under [kafka], and there is none; leave it out, as the folder "
                "takes all"
            )
        if (
            self.kafka is not None
            and self.dead_letters.topic is not None
            and self.dead_letters.topic in (*self.kafka.topics, self.sinks.topic)
        ):
            raise ValueError(
                f"dead_letters.topic {self.dead_letters.topic!r} is read or written by this daemon already; name a "
                "topic of its own"
            )
        if self.sinks.topic is not None and self.kafka is None:
            raise ValueError(
                "sinks.topic is on the cluster under [kafka], and there is none; with [source.tiled], name "
                "sinks.tiled or sinks.jsonl"
            )
        return self


def read_settings(path: Path) -> DaemonSettings:
    """Return the settings in a TOML file.

    Raises
    ------
    SettingsError
        When the file cannot be read, is not TOML, or says something that a daemon does not know.
    """
    return read_settings_file(path, DaemonSettings, what="configuration")


def secret(variable: str) -> str | None:
    """Return a secret from the environment; None when it is not there or empty."""
    return os.environ.get(variable) or None
