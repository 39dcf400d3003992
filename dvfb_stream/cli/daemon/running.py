"""Runs a daemon: opens what its configuration names, serves its metrics, and stops it on a signal."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvfb_stream.annotator import Annotator
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.files.run_detector import RunDetector
    from dvfb_stream.frames import Geometry
    from dvfb_stream.metrics import Metrics

_RETRY_SECONDS = "5"
"""That Tiled's client itself goes on trying: the daemon tries again by itself, and is to hear a signal meanwhile."""


def run_daemon(config: Path) -> None:
    """Annotate what the configuration names until a signal comes.

    Raises
    ------
    DvfbError
        What it cannot go on with: a wrong configuration, no broker, no store.
    """
    # torch, which takes seconds, comes after all that can be refused without it.
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.files.settings_file import read_geometries

    _log_to_stderr()
    settings = read_settings(config)
    detectors = read_geometries(settings.detectors, config, what="configuration")
    if settings.source is None:
        _from_kafka(settings, detectors)
    else:
        _from_tiled(settings, detectors)


def _from_kafka(settings: DaemonSettings, detectors: Mapping[str, Geometry | RunDetector]) -> None:
    from functools import partial

    from dvfb_stream.daemon.sinks import ConfiguredSinks
    from dvfb_stream.kafka.daemon import Daemon
    from dvfb_stream.kafka.topic_sink import TopicSink

    assert settings.kafka is not None
    with ConfiguredSinks(settings, open_topic=partial(TopicSink, settings.kafka)) as sinks:
        running = Daemon(
            settings, _annotator(settings), detectors=detectors, sinks_for_partition=sinks.for_pipeline
        )
        _stop_on_signals(running.stop)
        with _served(running.metrics, settings.metrics_port):
            running.run()


def _from_tiled(settings: DaemonSettings, detectors: Mapping[str, Geometry | RunDetector]) -> None:
    os.environ.setdefault("TILED_RETRY_TIMEOUT", _RETRY_SECONDS)
    from dvfb_stream.daemon.sinks import ConfiguredSinks
    from dvfb_stream.tiled_stream.daemon import TiledDaemon
    from dvfb_stream.tiled_stream.opening import open_catalog, open_position

    client = open_catalog(settings)
    with ConfiguredSinks(settings) as sinks:
        annotator = _annotator(settings)
        with open_position(settings, annotator.identity) as position:
            running = TiledDaemon(
                settings,
                annotator,
                client=client,
                position=position,
                detectors=detectors,
                sinks=sinks.for_pipeline(),
            )
            _stop_on_signals(running.stop)
            with _served(running.metrics, settings.metrics_port):
                running.run()


def _annotator(settings: DaemonSettings) -> Annotator:
    from dvfb_stream.annotator import Annotator

    return Annotator.load(settings.model, device=settings.device)


@contextmanager
def _served(metrics: Metrics, port: int | None) -> Iterator[None]:
    """Let Prometheus read what is counted, where the configuration names a port."""
    if port is None:
        yield
        return
    from dvfb_stream.metrics import serve

    with serve(metrics, port, address="0.0.0.0"):
        logging.getLogger(__name__).info("metrics are at port %d", port)
        yield


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # One line for each request and each heartbeat says nothing that a beamline wants to keep.
    for chatty in ("httpx", "kafka", "numexpr", "tiled", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _stop_on_signals(stop_running: Callable[[], None]) -> None:
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        stop_running()

    for each in signals:
        signal.signal(each, stop)
