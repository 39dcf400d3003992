"""The record: values of the catalogue's metrics, written by many threads and read as of one moment."""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from dvfb_stream.errors import SettingsError
from dvfb_stream.metrics.catalogue import CATALOGUE, STAGE_SECONDS, Counter, Gauge, Histogram, Metric, Stage


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
        self._lock = threading.Lock()
        # By name and label values; of a histogram the counts by bucket, the one without bound last, then the sum.
        self._values: dict[tuple[str, tuple[str, ...]], list[float]] = {
            (metric.name, ()): [0]
            for metric in CATALOGUE
            if not metric.labels and not isinstance(metric, Histogram)
        }

    def add(self, metric: Counter | Gauge, amount: float = 1, *labels: str) -> None:
        """Add `amount` to a counter, of which it must not be negative, or to a gauge."""
        with self._lock:
            self._values.setdefault((metric.name, labels), [0])[0] += amount

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """Let a gauge that one writer alone has say `value`."""
        with self._lock:
            self._values.setdefault((metric.name, labels), [0])[0] = value

    def raise_to(self, metric: Counter, total: float, *labels: str) -> None:
        """Let a counter that one writer alone has say `total`, where that is more than it says."""
        with self._lock:
            values = self._values.setdefault((metric.name, labels), [0])
            values[0] = max(values[0], total)

    def forget(self, metric: Metric, *labels: str) -> None:
        """Leave out, until it is written again, what is no more: a partition that another daemon has."""
        with self._lock:
            self._values.pop((metric.name, labels), None)

    def observe(self, histogram: Histogram, value: float, *labels: str) -> None:
        """Count `value`, in the histogram's unit, in its bucket."""
        bucket = bisect_left(histogram.buckets, value)
        with self._lock:
            counts = self._values.get((histogram.name, labels))
            if counts is None:
                counts = self._values[histogram.name, labels] = [0] * (len(histogram.buckets) + 1) + [0.0]
            counts[bucket] += 1
            counts[-1] += value

    def took(self, stage: Stage, seconds: float) -> None:
        """Count how long a stage took."""
        self.observe(STAGE_SECONDS, seconds, stage)

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
            written = {key: list(values) for key, values in self._values.items()}
        found: dict[str, dict[str, Any]] = {}
        for metric in CATALOGUE:
            values = [
                {"labels": _named(metric, labels), **_summed(metric, numbers)}
                for (name, labels), numbers in written.items()
                if name == metric.name
            ]
            found[metric.name] = {
                "kind": metric.kind,
                "unit": metric.unit,
                "help": metric.help,
                "values": values,
            }
        return found


def _named(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    if len(values) != len(metric.labels):
        raise SettingsError(f"{metric.name} has the labels {metric.labels}, but was written with {values}")
    return dict(zip(metric.labels, map(str, values), strict=True))


def _summed(metric: Metric, numbers: list[float]) -> dict[str, Any]:
    if not isinstance(metric, Histogram):
        return {"value": numbers[0]}
    totals = [int(total) for total in accumulate(numbers[:-1])]
    buckets = [[bound, total] for bound, total in zip(metric.buckets, totals, strict=False)]
    return {"count": totals[-1], "sum": numbers[-1], "buckets": buckets}
