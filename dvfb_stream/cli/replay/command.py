"""``dvfb replay``: publishes a run again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog
from dvfb_stream.cli.options import choose, flag, option
from dvfb_stream.cli.terminal import TaskProgress, WrongCallError, report_note, say

if TYPE_CHECKING:
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.replay.document import Script
    from dvfb_stream.replay.targets import Target

_TARGETS = ("kafka", "tiled", "runengine")


def replay(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE",
            help="A file that `dvfb record` wrote; or, with --tiled, a raw run: its uid or 5 characters of it or "
            "more, its scan number, -1 for the last.",
        ),
    ],
    *,
    to: Annotated[str, option("kafka|tiled|runengine", "Where it is published.")],
    tiled: Annotated[
        str | None,
        option("URI|FOLDER", "The catalog that RUN is in: a Tiled container, or a folder.", "--tiled"),
    ] = None,
    config: Annotated[
        Path | None,
        option(
            "FILE.toml",
            "Configuration of a daemon: its Kafka cluster for --to kafka; its model, detectors, files and sinks for "
            "--to runengine.",
        ),
    ] = None,
    servers: Annotated[
        list[str] | None,
        option(
            "HOST:PORT", "Kafka's brokers, in place of --config; give it again for further ones.", "--server"
        ),
    ] = None,
    topic: Annotated[
        str | None, option("TOPIC", "Kafka's topic.  [default: the first that --config reads]")
    ] = None,
    into: Annotated[str | None, option("URI", "Tiled container that --to tiled writes to.")] = None,
    rate: Annotated[
        str,
        option("FACTOR|max", "How many times as fast as the run was: 1 is its own pace, max without pauses."),
    ] = "1",
    same_uids: Annotated[
        bool,
        flag(
            "Publish the very same documents: what has the run already does nothing. Without it, it is a new run, "
            "taken now, whose start says which it was (replay_of).",
            "--same-uids",
        ),
    ] = False,
) -> None:
    """Publish a run again, with its frames: to try a beamline's set-up, to measure it, or to show a fault.

    dvfb replay -1 --tiled http://localhost:8000/api/v1/metadata/raw --to kafka --config daemon.toml --rate 10

    dvfb replay bug-report/scan-7-....dvfb-run --to runengine --config daemon.toml --rate max

    With --to runengine a RunEngine in this process emits the documents, with live annotation subscribed to it, as
    at a beamline without Kafka.
    """
    choose(to, _TARGETS, "--to")
    factor = _factor(rate)
    from dvfb_stream.replay.new_run import NewRun
    from dvfb_stream.replay.replaying import replay as publish

    with ExitStack() as opened:
        script = opened.enter_context(_script(run, tiled))
        target = opened.enter_context(_target(to, config, servers, topic, into))
        new_run = None if same_uids else NewRun(uuid.uuid4(), time.time())
        published: list[str] = []

        def take(name: str, doc: dict[str, Any]) -> None:
            if name == "start":
                published.append(str(doc["uid"]))
            target(name, doc)

        with TaskProgress() as progress:
            count = publish(
                script,
                take,
                rate=factor,
                new_run=new_run,
                done=lambda done, total: progress.show("replaying", done, total, "documents"),
            )
    for uid in published:
        say(uid)
    report_note(f"{count} documents published")


def _factor(rate: str) -> float:
    if rate == "max":
        return float("inf")
    try:
        factor = float(rate)
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise WrongCallError(f"--rate: {rate!r} is neither a positive number nor max")
    return factor


@contextmanager
def _script(run: str, tiled: str | None) -> Iterator[Script]:
    from dvfb_stream.replay.recording import read_recording
    from dvfb_stream.replay.stored import read_stored

    if tiled is None:
        if not Path(run).is_file():
            raise WrongCallError(
                f"{run} is no file: give one that `dvfb record` wrote, or the catalog of the run with --tiled"
            )
        yield read_recording(Path(run))
        return
    from dvfb_stream.catalog.raw_runs import raw_container, raw_uid_of

    with opened_catalog(tiled, read_only=True) as client:
        yield read_stored(raw_container(client)[raw_uid_of(client, run)])


@contextmanager
def _target(
    to: str, config: Path | None, servers: list[str] | None, topic: str | None, into: str | None
) -> Iterator[Target]:
    from dvfb_stream.daemon.settings import read_settings

    settings = None if config is None else read_settings(config)
    match to:
        case "kafka":
            yield from _kafka(settings, servers, topic)
        case "tiled":
            if into is None:
                raise WrongCallError("--to tiled needs the container to write to: --into URI")
            with opened_catalog(into) as client:
                from dvfb_stream.replay.targets import TiledTarget

                yield TiledTarget(client)
        case _:
            if settings is None or config is None:
                raise WrongCallError(
                    "--to runengine needs the model, detectors and sinks: --config FILE.toml"
                )
            with _live(settings, config) as target:
                yield target


def _kafka(settings: DaemonSettings | None, servers: list[str] | None, topic: str | None) -> Iterator[Target]:
    from pydantic import ValidationError

    from dvfb_stream.daemon.settings import KafkaSettings
    from dvfb_stream.replay.targets import KafkaTarget

    kafka = settings.kafka if settings is not None else None
    if servers:
        if topic is None:
            raise WrongCallError("--server needs the topic, too: --topic TOPIC")
        try:
            kafka = KafkaSettings(bootstrap_servers=servers, topics=[topic])
        except ValidationError as error:
            raise WrongCallError(f"--server: {error.errors()[0]['msg']}") from None
    if kafka is None:
        raise WrongCallError(
            "--to kafka needs brokers: --config with [kafka], or --server HOST:PORT --topic TOPIC"
        )
    target = KafkaTarget(kafka, topic or kafka.topics[0])
    try:
        yield target
    finally:
        target.close()


@contextmanager
def _live(settings: DaemonSettings, config: Path) -> Iterator[Target]:
    from functools import partial

    from bluesky import RunEngine

    from dvfb_stream.callbacks import LiveAnnotator
    from dvfb_stream.daemon.reading import reading_process
    from dvfb_stream.daemon.sinks import ConfiguredSinks
    from dvfb_stream.files.settings_file import read_geometries
    from dvfb_stream.isolation.frame_memory import FrameMemory
    from dvfb_stream.metrics import Metrics
    from dvfb_stream.replay.targets import RunEngineTarget

    open_topic = None
    if settings.kafka is not None and settings.sinks.topic is not None:
        from dvfb_stream.kafka.topic_sink import TopicSink

        open_topic = partial(TopicSink, settings.kafka)
    detectors = read_geometries(settings.detectors, config, what="configuration")
    metrics = Metrics()
    with (
        closing(FrameMemory()) as memory,
        # A recording comes from somewhere, too: its documents name no other files than a daemon would open.
        closing(reading_process(settings, memory, metrics)) as files,
        ConfiguredSinks(settings, open_topic=open_topic) as sinks,
        LiveAnnotator(
            settings.model,
            sinks=sinks.for_pipeline(),
            detectors=detectors or None,
            files=files,
            root_map=settings.root_map,
            device=settings.device,
            # A beamline drops frames that come too fast; whoever replays wants to see all.
            policy="block",
            batch_size=settings.limits.batch_size,
            patience=settings.limits.patience,
            arrays=settings.arrays,
            metrics=metrics,
        ) as live,
    ):
        run_engine: Any = RunEngine({})
        run_engine.subscribe(live)
        yield RunEngineTarget(run_engine)
        live.wait()
        stats = live.stats()
        report_note(
            f"{stats.frames} frames, {stats.writer.rows} rows, {stats.stored_runs} raw runs stored, "
            f"{stats.rejected_documents} documents left out"
        )
