"""Snapshots for Prometheus, where its client is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.metrics.http import Answer, HttpServer, Question
from dvfb_stream.metrics.record import Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector

Snapshot = Callable[[], dict[str, dict[str, Any]]]


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


def exporting(snapshot: Snapshot) -> Callable[[Question], Answer]:
    """Return a function that answers with the snapshot of now, in the format that Prometheus asks for.

    ``name[]`` in its query chooses among the series, as prometheus-client's own server has it.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    """
    collector = snapshot_collector(snapshot)
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)

    def export(question: Question) -> Answer:
        encode, content_type = choose_encoder(question.accept)
        names = question.query.get("name[]")
        return Answer(encode(registry.restricted_registry(names) if names else registry), content_type)

    return export


def serve(metrics: Metrics, port: int, *, address: str = "127.0.0.1") -> HttpServer:
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
    return HttpServer({"/metrics": exporting(metrics.snapshot)}, address=address, port=port)
