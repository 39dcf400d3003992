"""What a daemon that reads Kafka did, as numbers, in a line and for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.metrics import Metrics, catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStats:
    """What a daemon did since it started."""

    messages: int
    """Kafka records read."""
    refused: int
    """Messages among them that could not be decoded; skipped, and among the dead letters."""
    rejected_documents: int
    """Documents that no run could take: their run's start was not read, they came too late, or are malformed."""
    repeated: int
    """Documents that brought nothing new: they had come before."""
    abandoned_runs: int
    """Runs let go because they were silent for `max_open_run_age` without being stored."""
    open_runs: int
    """Runs begun and not stored; a restart reads on at the oldest one's start."""
    stored_runs: int
    """Runs that all sinks have accepted."""
    dead_letters: int
    """Things that could not be processed, and are kept."""
    failed_dead_letters: int
    """Things that could not be processed, and that neither the topic nor the folder took."""
    frames: int
    """Frames found in documents."""
    commits: int
    """Commits that the cluster took."""
    failed_commits: int
    """Commits that it did not; what they said is committed later, or read again."""

    def __str__(self) -> str:
        return (
            f"{self.messages} messages, {self.frames} frames, {self.stored_runs} runs stored, {self.open_runs} open; "
            f"skipped: {self.refused} undecodable, {self.rejected_documents} of no known run, "
            f"{self.repeated} repeated; {self.abandoned_runs} runs abandoned; "
            f"{self.dead_letters} dead letters, {self.failed_dead_letters} lost; "
            f"{self.commits} commits, {self.failed_commits} failed"
        )

    def tell(self, metrics: Metrics) -> None:
        """Bring a record of metrics up to date."""
        for metric, total in (
            (catalogue.MESSAGES, self.messages),
            (catalogue.REFUSED_MESSAGES, self.refused),
            (catalogue.REJECTED_DOCUMENTS, self.rejected_documents),
            (catalogue.REPEATED_DOCUMENTS, self.repeated),
            (catalogue.STORED_RUNS, self.stored_runs),
            (catalogue.GIVEN_UP_RUNS, self.abandoned_runs),
            (catalogue.COMMITS, self.commits),
            (catalogue.FAILED_COMMITS, self.failed_commits),
        ):
            metrics.raise_to(metric, total)
        metrics.set(catalogue.OPEN_RUNS, self.open_runs)
