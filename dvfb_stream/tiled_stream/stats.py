"""What a daemon that follows a Tiled catalog did since it started."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.metrics import Metrics, catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledStats:
    """What a daemon did since it started."""

    streaming: bool
    """Whether the server tells of new runs at this moment."""
    updates: int
    """Messages that came over websockets."""
    missed_updates: int
    """Messages that did not come: evicted from the server's cache, or sent while the connection was broken. What they
    told of was read from the catalog."""
    reconnections: int
    """Connections made again."""
    images_from_nodes: int
    """Images read from the catalog, of those not in files that are mounted here; the others came by themselves."""
    looks: int
    """Times that a run's nodes were looked at."""
    failed_looks: int
    """Times among them that the server did not answer, or not so."""
    frames: int
    """Frames found in documents."""
    rejected_documents: int
    """Documents that could not be taken."""
    open_runs: int
    """Runs begun and not stored."""
    waiting_runs: int
    """Runs known, and not begun."""
    stored_runs: int
    """Runs that all sinks have accepted, or refused for good: those are dead letters."""
    abandoned_runs: int
    """Runs let go: silent for `max_open_run_age`, deleted, or without documents that could be made."""

    def __str__(self) -> str:
        how = "told by the server" if self.streaming else "by looking, as the server does not tell"
        return (
            f"{self.frames} frames, {self.stored_runs} runs stored, {self.open_runs} open, "
            f"{self.waiting_runs} waiting, {self.abandoned_runs} abandoned ({how}); "
            f"{self.updates} updates, {self.missed_updates} missed, {self.reconnections} reconnections; "
            f"{self.looks} looks, {self.failed_looks} failed; {self.images_from_nodes} images read from the catalog; "
            f"{self.rejected_documents} documents left out"
        )

    def tell(self, metrics: Metrics) -> None:
        """Bring a record of metrics up to date."""
        metrics.raise_to(catalogue.REJECTED_DOCUMENTS, self.rejected_documents)
        metrics.raise_to(catalogue.STORED_RUNS, self.stored_runs)
        metrics.raise_to(catalogue.GIVEN_UP_RUNS, self.abandoned_runs)
        metrics.set(catalogue.OPEN_RUNS, self.open_runs)
