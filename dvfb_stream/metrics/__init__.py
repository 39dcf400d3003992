"""What a running pipeline counts and times: one catalogue, one thread-safe record, one exporter."""

from __future__ import annotations

from dvfb_stream.metrics import catalogue
from dvfb_stream.metrics.catalogue import CATALOGUE, Counter, Gauge, Histogram, Metric, Stage
from dvfb_stream.metrics.http import HttpServer
from dvfb_stream.metrics.prometheus import serve, snapshot_collector
from dvfb_stream.metrics.record import Metrics

__all__ = [
    "CATALOGUE",
    "Counter",
    "Gauge",
    "Histogram",
    "HttpServer",
    "Metric",
    "Metrics",
    "Stage",
    "catalogue",
    "serve",
    "snapshot_collector",
]
