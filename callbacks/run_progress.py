"""How far the writing of analysis runs has come, raw run by raw run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """The raw run has stopped."""

    frames: Mapping[tuple[str, str], int]
    """How many it has, by stream and data key."""
    time: float


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """A sink will not take an analysis run as it is."""

    analysis: AnalysisRun
    reason: str


@dataclass(frozen=True, slots=True)
class RowsSoFar:
    """The first rows of an analysis run, which a process before this one has given to all sinks."""

    count: int
    summary: Sequence[float]
    """What they add up to, as `AnalysisRun.summary_so_far` returned it."""


@dataclass(slots=True, eq=False)
class RunProgress:
    """How far the analysis runs of one raw run have come."""

    raw_uid: str
    analyses: list[AnalysisProgress] = field(default_factory=list)
    pending_stop: Stop | None = None
    """From the raw stop until the end was told."""
    broken: bool = False
    """A document did not reach every sink, or a row was lost: the run will never be called stored."""
    forgotten: bool = False
    """Nobody knows it any more: its rows are taken only as long as the sinks keep up."""
    refusals: list[Refusal] = field(default_factory=list)
    """Analysis runs that a sink will not take as they are: the run will never be called stored."""
    unstored: int = 0
    """Stops that storing sinks took and have not stored."""
    offered: bool = False
    """All its analysis runs have ended, and somebody waits for it to be stored."""


@dataclass(slots=True, eq=False)
class AnalysisProgress:
    """How far one analysis run has come."""

    analysis: AnalysisRun
    run: RunProgress
    known: int = 0
    """Frames that had their rows before this process: they are not annotated again."""
    next_index: int = 0
    """Of the first frame without a row."""
    early: dict[int, Row] = field(default_factory=dict)
    """Rows that came before a predecessor of theirs: batches of several geometries overtake one another."""
    announced: bool = False
    """The sinks were offered its start and its descriptor."""
    written: int = 0
    """Rows that the sinks were offered, those of a process before this one included."""
    ended: bool = False
    """It had its stop."""
    abandoned: bool = False
    """A row was lost: no further rows, and no stop, so that a replay sees that rows are missing."""
    settled_sinks: set[int] = field(default_factory=set)
    """Numbers of the storing sinks that have stored it, or refused it for good."""
    failed_sinks: set[int] = field(default_factory=set)
    """Numbers of the sinks that raised: they get nothing more of this analysis run, its stop least of all,
    which would make an incomplete run look complete."""

    def go_on(self, rows: RowsSoFar) -> None:
        """Take note of the rows that a process before this one has written; ValueError as `AnalysisRun.go_on`."""
        self.analysis.go_on(rows.summary)
        self.known = self.next_index = self.written = rows.count
