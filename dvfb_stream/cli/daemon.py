"""``dvfb daemon``: annotates the documents that a beamline publishes to Kafka, until it is told to stop."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from dvfb_stream.cli.options import option

if TYPE_CHECKING:
    from dvfb_stream.kafka.daemon import Daemon
    from dvfb_stream.metrics import Metrics


def daemon(
    config: Annotated[
        Path,
        option("FILE.toml", "Brokers, topics, detectors, sinks, limits."),
    ],
) -> None:
    """Annotate Bluesky documents from Kafka and store the analysis runs, until SIGTERM or Ctrl-C.

    Ends with exit status 0 after finishing what it has in hand; a second signal ends it at once. Killed or
    failed, it goes on where it was when started again: no row is missing, none is there twice. API keys come
    from the environment: TILED_API_KEY, DVFB_KAFKA_PASSWORD.
    """
    # Imported here: the other commands need no Kafka; and torch, which takes seconds, comes after all that can
    # be refused without it.
    from dvfb_stream.files.settings_file import read_geometries
    from dvfb_stream.kafka.daemon import Daemon
    from dvfb_stream.kafka.settings import read_settings
    from dvfb_stream.kafka.sinks import ConfiguredSinks

    _log_to_stderr()
    settings = read_settings(config)
    detectors = read_geometries(settings.detectors, config, what="configuration")
    with ConfiguredSinks(settings) as sinks:
        from dvfb_stream.annotator import Annotator

        annotator = Annotator.load(settings.model, device=settings.device)
        running = Daemon(settings, annotator, detectors=detectors, sinks_for_partition=sinks.for_partition)
        _stop_on_signals(running)
        with _served(running.metrics, settings.metrics_port):
            running.run()


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
    for chatty in ("httpx", "kafka", "numexpr", "tiled"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _stop_on_signals(running: Daemon) -> None:
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        running.stop()

    for each in signals:
        signal.signal(each, stop)
