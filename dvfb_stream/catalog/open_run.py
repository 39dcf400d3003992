"""What a store knows of a run that it writes, and which frames a call is about."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.holding import Hold
from dvfb_stream.catalog.run_table import FRAME, RunTable
from dvfb_stream.catalog.store_errors import StoreRefusedError

_FRAMES = np.iinfo(np.int64)


@dataclass(slots=True, eq=False)
class OpenRun:
    """A run that a store writes."""

    uid: str
    hold: Hold
    """By whose turn there is one call at a time, in all stores of this process."""
    writes_seen: int = 0
    """By the stores of this process, when `frames` were read."""
    table: RunTable | None = None
    """None: its nodes were not looked at since the last failure."""
    frames: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Of the rows that were read back, in order."""
    stand_in: Any | None = None
    """Keeps the run's table in Tiled's database while it has no row (`rewriting.stand_in`)."""
    told: bool = False
    """Whether the log says what stays of an earlier run."""

    def forget(self) -> None:
        """Look at everything again before the next write."""
        self.table = None
        self.hold.forget()

    def drop_stand_in(self) -> None:
        """Do without it, the table having rows."""
        node, self.stand_in = self.stand_in, None
        if node is not None:
            node.delete(external_only=False)


def by_frame(events: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Return the first event of each frame.

    Raises
    ------
    StoreRefusedError
        When an event names no frame.
    """
    try:
        return {_frame_of(event): event for event in reversed(events)}
    except (KeyError, TypeError, ValueError) as error:
        raise StoreRefusedError(f"an event names no frame ({error!r})", everything=False) from error


def known(frames: NDArray[np.int64], wanted: Mapping[int, object]) -> set[int]:
    """Return those of the wanted frames that are among those stored."""
    asked = np.fromiter(wanted, np.int64, len(wanted))
    return set(asked[np.isin(asked, frames)].tolist())


def _frame_of(event: Mapping[str, Any]) -> int:
    frame = operator.index(event["data"][FRAME])
    if not _FRAMES.min <= frame <= _FRAMES.max:
        raise ValueError(f"{frame} does not fit its column")
    return frame
