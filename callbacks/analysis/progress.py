"""How far the rows of a raw run have come on their way to the sinks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dvfb_stream.callbacks.analysis.analysis_run import AnalysisRun, Row


@dataclass(slots=True, eq=False)
class RunProgress:
    """How far the analysis runs of one raw run have come."""

    raw_uid: str
    analyses: list[AnalysisProgress] = field(default_factory=list)
    stopped_at: float | None = None
    """Time of the raw stop, from when that came until its end was told."""
    broken: bool = False
    """A document did not reach every sink, or a row was lost: the run will never be called stored."""
    abandoned: bool = False
    """Nobody knows it any more: its rows are taken only as long as the sinks keep up."""
    rows: deque[tuple[AnalysisProgress, Row]] = field(default_factory=deque)
    """Those that wait for the sinks."""
    news: Callable[[], None] | None = None
    """What is to be done about its last stop or restart; the one that comes later makes the earlier void."""


@dataclass(slots=True, eq=False)
class AnalysisProgress:
    """How far one analysis run has come."""

    analysis: AnalysisRun
    run: RunProgress
    next_index: int = 0
    early: dict[int, Row] = field(default_factory=dict)
    """Rows that came before a predecessor of theirs: batches of several geometries overtake one another."""
    expected: int | None = None
    """How many frames it has; known once the raw run has stopped."""
    ended: bool = False
    """It had its stop, or was given up."""
    given_up: bool = False
    """A row was lost: no further rows, and no stop, so that a replay sees that rows are missing."""
    deserted_by: set[int] = field(default_factory=set)
    """Numbers of the sinks that raised: they get nothing more of this analysis run, its stop least of all,
    which would make an incomplete run look complete."""
