"""Looks at analysis runs in Tiled: which rows are there, and whether the stop says so."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.place import STREAM, TABLE, Place, plain
from dvfb_stream.catalog.rewriting import is_in_order
from dvfb_stream.catalog.run_table import frames_of

if TYPE_CHECKING:
    from tiled.client.container import Container


class Stored(StrEnum):
    """How far an analysis run has come in the store."""

    ABSENT = "absent"
    """Nothing of it is there."""
    OPEN = "open"
    """It is there, without a stop that says what is stored: rows may have come since its stop."""
    COMPLETE = "complete"
    """It is there, with its stop."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What the store has of one analysis run."""

    stored: Stored
    frames: frozenset[int] = frozenset()
    """Indices of the frames whose rows are there."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One analysis run as it was looked at."""

    node: Any
    """Tiled client of it; None where it is not there."""
    frames: NDArray[np.int64]
    """Of its rows, as any client reads them."""

    def valid_stop(self) -> dict[str, Any] | None:
        """Return the stop if it says what is stored, each frame once."""
        if self.node is None:
            return None
        stop: dict[str, Any] | None = copy.deepcopy(self.node.metadata_copy()[0].get("stop"))
        frames = self.frames
        if stop and is_in_order(frames) and (stop.get("summary") or {}).get("frames") == len(frames):
            return stop
        return None


_NOT_THERE = StoredRun(None, np.empty(0, np.int64))


class StoredRuns:
    """The analysis runs of a place, to look at and never to change; calls may come from any thread.

    Parameters
    ----------
    place
        Where they lie, whether it is made yet or not.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._runs: Container | None = None

    def look(self, uid: str) -> StoredRun:
        """Return a run, and the frames of its rows.

        Raises
        ------
        StoreUnavailableError
            When an answer was cut short.
        Exception
            What Tiled's client raises, also where the rows of a run cannot be read.
        """
        runs = self.container()
        node = None if runs is None else runs.get(uid)
        if node is None:
            return _NOT_THERE
        stream = plain(node).get(STREAM)
        table = None if stream is None else plain(stream).get(TABLE)
        return StoredRun(node, np.empty(0, np.int64) if table is None else frames_of(table))

    def seen(self, uid: str) -> StoredRun:
        """Look, and see nothing where the rows cannot be read: who takes the run to write it sees to that."""
        try:
            return self.look(uid)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                raise
            return _NOT_THERE

    def state(self, uid: str) -> RunState:
        """Return how far a run has come.

        Raises
        ------
        StoreUnavailableError
            When Tiled does not answer.
        StoreRefusedError
            When it does not let us read.
        """
        with told_apart(f"looking for run {uid}"):
            run = self.look(uid)
        if run.node is None:
            return RunState(Stored.ABSENT)
        stored = Stored.OPEN if run.valid_stop() is None else Stored.COMPLETE
        return RunState(stored, frozenset(run.frames.tolist()))

    def container(self) -> Container | None:
        """Return the plain client of the container of the runs; None before it is made. Once there, it stays."""
        if self._runs is None and (found := self._place.find()) is not None:
            self._runs = plain(found)
        return self._runs
