"""Runs a daemon: opens what its configuration names, says how it is, and stops it on a signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dvfb_stream.cli.daemon.signals import refuse_reload, stop_on_signals

if TYPE_CHECKING:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.daemon.health import Health, State
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.daemon.sinks import ClosableSink, ConfiguredSinks
    from dvfb_stream.errors import DvfbError
    from dvfb_stream.files.run_detector import RunDetector
    from dvfb_stream.frames import Geometry
    from dvfb_stream.metrics import Metrics

    Detectors = Mapping[str, Geometry | RunDetector]

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")

_RETRY_SECONDS = "5"
"""That Tiled's client itself goes on trying: the daemon tries again by itself, and is to hear a signal meanwhile."""


def run_daemon(config: Path, log_format: str | None) -> None:
    """Annotate what the configuration names until a signal comes.

    Parameters
    ----------
    config
        The file.
    log_format
        ``plain`` or ``json``; None: as the configuration has it.

    Raises
    ------
    DvfbError
        What it cannot go on with: a wrong configuration, no broker, no store.
    """
    # torch, which takes seconds, comes after all that can be refused without it.
    from dvfb_stream.daemon.health import Health, Part
    from dvfb_stream.daemon.log_lines import log_to_stderr
    from dvfb_stream.daemon.members import Membership
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.files.settings_file import read_geometries
    from dvfb_stream.metrics import Metrics

    member = Membership.of_this_process()
    number = None if member is None else member.number
    log_to_stderr(log_format or "plain", worker=number)
    settings = read_settings(config)
    log_to_stderr(log_format or settings.log_format, worker=number)
    signal.signal(signal.SIGHUP, partial(refuse_reload, config))
    if member is not None:
        settings = member.settings(settings)
        member.end_with_the_supervisor()
    elif settings.workers.processes > 1:
        from dvfb_stream.cli.daemon.workers import run_workers

        run_workers(config, settings, log_format)
        return
    detectors = read_geometries(settings.detectors, config, what="configuration")
    metrics = Metrics()
    source = (Part.BROKER, Part.LAG) if settings.source is None else (Part.SOURCE,)
    health = Health(
        (*source, Part.MODEL, *([Part.STORE] if settings.sinks.tiled else [])),
        # Half of that after which it is ended: who asks is to see it first.
        patience=settings.limits.stall_timeout / 2,
        metrics=metrics,
    )
    with _served(settings, health, metrics, is_member=member is not None):
        if settings.source is None:
            _from_kafka(settings, detectors, health, metrics)
        else:
            _from_tiled(settings, detectors, health, metrics)


def _from_kafka(settings: DaemonSettings, detectors: Detectors, health: Health, metrics: Metrics) -> None:
    from dvfb_stream.daemon.health import Part
    from dvfb_stream.kafka.consumer import BrokerAwayError, check_reachable
    from dvfb_stream.kafka.daemon import Daemon
    from dvfb_stream.kafka.topic_sink import TopicSink

    kafka = settings.kafka
    assert kafka is not None

    def reached() -> bool:
        check_reachable(kafka)
        return True

    _wait_for("Kafka", reached, settings, health, passes=BrokerAwayError)
    health.say(Part.BROKER, ok=True, reason="answers")
    with _opened_sinks(settings, health, metrics, open_topic=partial(TopicSink, kafka)) as sinks:
        running = Daemon(
            settings,
            _annotator(settings, health),
            detectors=detectors,
            sinks_for_partition=sinks.for_pipeline,
            metrics=metrics,
            health=health,
            store_trouble=sinks.trouble,
        )
        running.in_hand.record_faults()
        _run(running.run, running.stop, settings, health, before_end=running.in_hand.end_as_stuck)


def _from_tiled(settings: DaemonSettings, detectors: Detectors, health: Health, metrics: Metrics) -> None:
    os.environ.setdefault("TILED_RETRY_TIMEOUT", _RETRY_SECONDS)
    from dvfb_stream.catalog.connection import CatalogAwayError
    from dvfb_stream.tiled_stream.daemon import TiledDaemon
    from dvfb_stream.tiled_stream.opening import open_catalog, open_position

    client = _wait_for(
        "the catalog of raw runs", lambda: open_catalog(settings), settings, health, passes=CatalogAwayError
    )
    with _opened_sinks(settings, health, metrics) as sinks:
        annotator = _annotator(settings, health)
        with open_position(settings, annotator.identity) as position:
            running = TiledDaemon(
                settings,
                annotator,
                client=client,
                position=position,
                detectors=detectors,
                sinks=sinks.for_pipeline(),
                metrics=metrics,
                health=health,
                store_trouble=sinks.trouble,
            )
            _run(running.run, running.stop, settings, health)


def _run(
    run: Callable[[], object],
    stop: Callable[[], None],
    settings: DaemonSettings,
    health: Health,
    *,
    before_end: Callable[[str], object] = str,
) -> None:
    from dvfb_stream.daemon.guard import Guard, end_process
    from dvfb_stream.daemon.supervisor import READY, tell_supervisor

    limits = settings.limits
    patience, drain = limits.stall_timeout, limits.drain_timeout

    def end(reason: str) -> None:
        before_end(reason)
        end_process(reason)

    with Guard(health, patience=patience, drain_timeout=drain, end=end) as guard:
        stop_on_signals(stop, guard.expect_end)
        tell_supervisor(READY)
        run()


@contextmanager
def _opened_sinks(
    settings: DaemonSettings,
    health: Health,
    metrics: Metrics,
    *,
    open_topic: Callable[[str], ClosableSink] | None = None,
) -> Iterator[ConfiguredSinks]:
    from dvfb_stream.daemon.health import Part, State
    from dvfb_stream.daemon.sinks import ConfiguredSinks, StoreAwayError
    from dvfb_stream.daemon.store_reach import StoreReach
    from dvfb_stream.metrics import catalogue

    def opened() -> ConfiguredSinks:
        return ConfiguredSinks(settings, open_topic=open_topic)

    with _wait_for("the store", opened, settings, health, passes=StoreAwayError) as sinks:
        if settings.sinks.tiled is not None:
            reach = StoreReach(settings.sinks.tiled.uri)

            def look() -> State:
                metrics.set(catalogue.SPOOLED_BYTES, sinks.spooled_bytes())
                trouble = sinks.trouble() or reach.trouble()
                return State(ok=not trouble, reason=trouble or "takes rows")

            health.look_at(Part.STORE, look)
        yield sinks


def _wait_for(
    what: str,
    opened: Callable[[], Opened],
    settings: DaemonSettings,
    health: Health,
    *,
    passes: type[DvfbError],
) -> Opened:
    """Wait for what is not there when the daemon starts; a signal meanwhile ends the command as any other."""
    from dvfb_stream.daemon.waiting import wait_for

    found = wait_for(
        what,
        opened,
        patience=settings.limits.start_timeout,
        stopping=threading.Event(),
        passes=passes,
        meanwhile=lambda error: health.turn(),
    )
    assert found is not None  # nobody stops it
    return found


def _annotator(settings: DaemonSettings, health: Health) -> Annotator:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.daemon.health import Part

    health.turn()
    annotator = Annotator.load(settings.model, device=settings.device)
    health.say(Part.MODEL, ok=True, reason=f"{annotator.identity} is loaded")
    return annotator


@contextmanager
def _served(settings: DaemonSettings, health: Health, metrics: Metrics, *, is_member: bool) -> Iterator[None]:
    """Answer over HTTP, where the configuration names a port; a member is asked by the supervising process alone."""
    port = settings.http_port
    if port is None:
        yield
        return
    from dvfb_stream.daemon.http import PATHS, serve_health

    address = settings.http.address
    with serve_health(health, metrics, address=address, port=port):
        if not is_member:
            logger.info("%s are at http://%s:%d", ", ".join(PATHS), address, port)
        if settings.metrics_port is not None and address == "127.0.0.1":
            logger.warning(
                "metrics_port is answered on this machine alone; for others write, in place of it, [http] with "
                'port = %d and address = "0.0.0.0"',
                port,
            )
        yield
