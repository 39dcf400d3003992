"""Snapshots for Prometheus, where its client is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIServer

from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.metrics.record import Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector

Snapshot = Callable[[], dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class PrometheusServer:
    """An HTTP server whose ``/metrics`` answers with snapshots, on a daemon thread of its own."""

    port: int
    """Where it listens; chosen by the system where 0 was asked for."""
    server: WSGIServer
    thread: Thread

    def close(self) -> None:
        """End the server and its thread, and free the port."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def snapshot_collector(snapshot: Snapshot) -> Collector:
    """Return a ``prometheus_client`` collector that takes a snapshot whenever it is asked.

    Parameters
    ----------
    snapshot
        `Metrics.snapshot` of the record to export.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    """
    try:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )
        from prometheus_client.registry import Collector
    except ImportError as error:
        raise MissingExtraError("prometheus-client", "metrics") from error

    def family(name: str, metric: dict[str, Any]) -> Family:
        about, unit = metric["help"], metric["unit"]
        labels = list(metric["values"][0]["labels"]) if metric["values"] else []
        if metric["kind"] == "histogram":
            histogram = HistogramMetricFamily(name, about, labels=labels, unit=unit)
            for value in metric["values"]:
                bounds = [(repr(float(bound)), count) for bound, count in value["buckets"]]
                histogram.add_metric(
                    list(value["labels"].values()), [*bounds, ("+Inf", value["count"])], value["sum"]
                )
            return histogram
        kind = CounterMetricFamily if metric["kind"] == "counter" else GaugeMetricFamily
        numbers = kind(name, about, labels=labels, unit=unit)
        for value in metric["values"]:
            numbers.add_metric(list(value["labels"].values()), value["value"])
        return numbers

    class SnapshotCollector(Collector):
        def collect(self) -> Iterator[Family]:
            for name, metric in snapshot().items():
                yield family(name, metric)

    return SnapshotCollector()


def text_of(snapshot: Snapshot) -> Callable[[], tuple[bytes, str]]:
    """Return a function that gives the snapshot of now in Prometheus' own format, and its content type.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    """
    collector = snapshot_collector(snapshot)
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)


def serve(metrics: Metrics, port: int, *, address: str = "127.0.0.1") -> PrometheusServer:
    """Answer ``http://address:port/metrics`` with the record's snapshots, until closed.

    Parameters
    ----------
    metrics
        What to export.
    port
        TCP port; 0: any that is free.
    address
        Interface to listen on; ``0.0.0.0``: all. There is no authentication: whoever reaches it reads it.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    SettingsError
        When nothing can listen there.
    """
    collector = snapshot_collector(metrics.snapshot)
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"metrics cannot be served on {address}:{port}: {error}; choose another port or address"
        ) from error
    return PrometheusServer(int(server.server_port), server, thread)
