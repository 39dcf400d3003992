"""What became of the rows that a spool was given, as numbers and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dvfb_stream.catalog.spool.waiting import WaitingRun
from dvfb_stream.metrics import Metrics, catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStats:
    """What became of the rows since the spool was opened, all numbers of one moment.

    Every row that was put is stored, spooled, quarantined or lost, unless one of its frame waited already.
    """

    stored_rows: int
    """Rows of which the store has proven that they are there."""
    spooled_rows: int
    """Rows on the disk that are to be delivered."""
    quarantined_rows: int
    """Rows on the disk that the store will not take as they are; `dvfb spool list` says why."""
    lost_rows: int
    """Rows for which there was no room on the disk, or in the spool."""
    stored_runs: int
    """Analysis runs stored with their stop."""
    quarantined_runs: int
    """Analysis runs set aside."""
    inherited_rows: int
    """Rows that processes before this one left, and that are to be delivered; not among the above."""
    spooled_bytes: int
    """Size of what is on the disk, in this process's own file."""
    trouble: str
    """Why nothing is delivered at the moment; empty where nothing is wrong."""


@dataclass(slots=True)
class Tally:
    """Counts for one spool; for one thread at a time."""

    stored_rows: int = 0
    lost_rows: int = 0
    stored_runs: int = 0
    store_failures: int = 0
    spooled_rows: int = 0
    quarantined_rows: int = 0
    quarantined_runs: int = 0
    inherited_rows: int = 0
    _all_stored: int = 0
    _records: list[Metrics] = field(default_factory=list)
    _told: dict[str, int] = field(default_factory=dict)

    def stored(self, rows: int, *, inherited: bool) -> None:
        """Count rows that the store has."""
        self._all_stored += rows
        if not inherited:
            self.stored_rows += rows

    def report_to(self, metrics: Metrics) -> None:
        """From now on count in a record of metrics as well; what was before is added now."""
        if metrics in self._records:
            return
        self.tell()
        self._records.append(metrics)
        for metric, value in self._values():
            metrics.add(metric, value)

    def count(self, runs: Iterable[WaitingRun]) -> None:
        """Count anew what waits, and tell the records."""
        self.spooled_rows = self.quarantined_rows = self.quarantined_runs = self.inherited_rows = 0
        for run in runs:
            if run.reason is not None:
                self.quarantined_rows += run.rows
                self.quarantined_runs += 1
            elif run.inherited:
                self.inherited_rows += run.rows
            else:
                self.spooled_rows += run.rows
        self.tell()

    def tell(self) -> None:
        """Bring the records up to date."""
        for metric, value in self._values():
            if change := value - self._told.get(metric.name, 0):
                self._told[metric.name] = value
                for metrics in self._records:
                    metrics.add(metric, change)

    def _values(self) -> list[tuple[catalogue.Counter | catalogue.Gauge, int]]:
        return [
            (catalogue.STORED_ROWS, self._all_stored),
            (catalogue.LOST_ROWS, self.lost_rows),
            (catalogue.STORE_FAILURES, self.store_failures),
            (catalogue.SPOOLED_ROWS, self.spooled_rows + self.inherited_rows),
            (catalogue.QUARANTINED_ROWS, self.quarantined_rows),
        ]
