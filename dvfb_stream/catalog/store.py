"""Keeps analysis runs in Tiled: each frame's row once, in order, and proven to be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Stored(StrEnum):
    """How far an analysis run has come in the store."""

    ABSENT = "absent"
    """Nothing of it is there."""
    OPEN = "open"
    """It is there, without a stop."""
    COMPLETE = "complete"
    """It is there, with its stop."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What the store has of one analysis run."""

    stored: Stored
    frames: frozenset[int] = frozenset()
    """Indices of the frames whose rows are there."""


class AnnotationStore:
    """Writes analysis runs such that an ordinary client reads each frame once, in order, whoever wrote how often.

    No call keeps documents for later: what a call was given is stored when it returns, or it raises. Calls may come
    from any thread, one at a time for a run; other processes may write the same run.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, or of the place of the analysis runs itself.
    writer
        Name of this writer in leases, for people who read them; None: host and process.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, or there is no place beside its raw runs.
    """

    def __init__(self, client: Any, *, writer: str | None = None) -> None:
        raise NotImplementedError

    def probe(self) -> None:
        """See whether runs may be written, and leave nothing behind.

        Raises
        ------
        StoreUnavailableError
            When Tiled does not answer.
        StoreRefusedError
            With `everything`, when it does not let us write.
        """
        raise NotImplementedError

    def write(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        """Store rows of one analysis run; when this returns, each of them was read back.

        The run is made if need be; only rows of frames that are not there are appended. Calling it again, with the
        same events or some of them, changes nothing. Rows of a run that is complete already stay as they are.

        Parameters
        ----------
        start, descriptor
            Of the analysis run.
        events
            Any number, in any order, of that descriptor.

        Raises
        ------
        StoreUnavailableError
            When it is not certain that all rows are stored; call it again, with the same events.
        StoreRefusedError
            When they never will be.
        """
        raise NotImplementedError

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Store the stop of a run all of whose rows are stored, and return it as it is stored.

        Each frame is seen to be there once, and repaired where it is not; ``num_events`` and ``summary`` are
        computed from the stored rows, whatever `stop` says. A run that is complete already stays as it is.

        Raises
        ------
        StoreUnavailableError
            When it is not certain that the stop is stored; call it again.
        StoreRefusedError
            When it never will be.
        """
        raise NotImplementedError

    def state(self, uid: str) -> RunState:
        """Return how far the analysis run `uid` has come.

        Raises
        ------
        StoreUnavailableError
            When Tiled does not answer.
        StoreRefusedError
            When it does not let us read.
        """
        raise NotImplementedError
