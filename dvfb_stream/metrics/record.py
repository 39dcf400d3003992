"""The record: values of the catalogue's metrics, written by many threads and read as of one moment."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Any

from dvfb_stream.errors import SettingsError
from dvfb_stream.metrics.catalogue import CATALOGUE, Counter, Gauge, Histogram, Metric


class Metrics:
    """Counts and times of one process; any number of threads may write and read.

    A write takes a lock and some 0.3 microseconds (`benchmarks.worker`). Label values are given in the order of the
    metric's `labels`; nothing checks how many there are before a snapshot is taken, so that writing stays cheap.

    Examples
    --------
    >>> from dvfb_stream.metrics import catalogue
    >>> metrics = Metrics()
    >>> metrics.add(catalogue.DROPPED, 1, "queue full")
    >>> metrics.snapshot()["dvfb_dropped_frames"]["values"]
    [{'labels': {'reason': 'queue full'}, 'value': 1}]
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._numbers: dict[tuple[str, tuple[str, ...]], float] = {
            (metric.name, ()): 0
            for metric in CATALOGUE
            if not metric.labels and not isinstance(metric, Histogram)
        }
        self._histograms: dict[tuple[str, tuple[str, ...]], list[float]] = {}

    def add(self, counter: Counter, amount: float = 1, *labels: str) -> None:
        """Add `amount`, not negative, to a counter."""
        key = (counter.name, labels)
        with self._lock:
            self._numbers[key] = self._numbers.get(key, 0) + amount

    def change(self, gauge: Gauge, amount: float, *labels: str) -> None:
        """Add `amount`, negative where it shrinks, to a gauge."""
        key = (gauge.name, labels)
        with self._lock:
            self._numbers[key] = self._numbers.get(key, 0) + amount

    def observe(self, histogram: Histogram, value: float, *labels: str) -> None:
        """Count `value`, in the histogram's unit, in its bucket."""
        key = (histogram.name, labels)
        bucket = bisect_left(histogram.buckets, value)
        with self._lock:
            counts = self._histograms.get(key)
            if counts is None:
                # Counts by bucket, the one without bound last, then the sum.
                counts = self._histograms[key] = [0] * (len(histogram.buckets) + 1) + [0.0]
            counts[bucket] += 1
            counts[-1] += value

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return all metrics of the catalogue as of one moment, JSON-ready.

        Returns
        -------
        dict
            By name: ``kind``, ``unit``, ``help``, and ``values``, one for each combination of label values written
            so far: ``labels`` with ``value``; for a histogram ``count``, ``sum`` and ``buckets``, pairs of an upper
            bound and the number of values up to it.

        Raises
        ------
        SettingsError
            When a metric was written with more or fewer label values than it has labels.
        """
        with self._lock:
            numbers = dict(self._numbers)
            histograms = {key: list(counts) for key, counts in self._histograms.items()}
        found: dict[str, dict[str, Any]] = {
            metric.name: {"kind": metric.kind, "unit": metric.unit, "help": metric.help, "values": []}
            for metric in CATALOGUE
        }
        for metric in CATALOGUE:
            values = found[metric.name]["values"]
            if isinstance(metric, Histogram):
                for (name, labels), counts in histograms.items():
                    if name == metric.name:
                        values.append({"labels": _named(metric, labels), **_summed(metric, counts)})
            else:
                for (name, labels), number in numbers.items():
                    if name == metric.name:
                        values.append({"labels": _named(metric, labels), "value": number})
        return found


def _named(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    if len(values) != len(metric.labels):
        raise SettingsError(f"{metric.name} has the labels {metric.labels}, but was written with {values}")
    return dict(zip(metric.labels, map(str, values), strict=True))


def _summed(histogram: Histogram, counts: list[float]) -> dict[str, Any]:
    total, buckets = 0, []
    for bound, count in zip(histogram.buckets, counts, strict=False):
        total += int(count)
        buckets.append([bound, total])
    return {"count": total + int(counts[-2]), "sum": counts[-1], "buckets": buckets}
