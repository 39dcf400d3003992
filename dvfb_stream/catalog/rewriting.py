"""Makes a table of rows anew, each frame once and in order, such that no kill on the way loses a row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow

from dvfb_stream.catalog.run_table import FRAME, RunTable, frames_of, rows_of, schema_of
from dvfb_stream.catalog.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tiled.client.container import Container

logger = logging.getLogger(__name__)

_ROWS_A_REQUEST = 10_000
"""About 5 MB."""


def is_in_order(frames: NDArray[np.int64]) -> bool:
    """Return whether each frame is there once, and they ascend."""
    return bool(np.all(np.diff(frames) > 0))


def rewrite(run: RunTable, spare: Container) -> None:
    """Replace the table of a run by one that has the first row of each frame, in order.

    The rows are copied to a table beside the runs before the first is deleted. Killed on the way, `recover` goes on.
    Only the holder of the run's lease may call it. Who reads the run meanwhile finds no table for a moment.

    Parameters
    ----------
    run
        The run.
    spare
        Plain Tiled client of the container for the copy.

    Raises
    ------
    StoreUnavailableError
        When rows were not there when they were read back.
    Exception
        What Tiled's client raises.
    """
    rows = rows_of(run.table)
    _, first = np.unique(rows[FRAME].to_numpy(), return_index=True)
    logger.warning(
        "run %s has %d rows for %d frames, or not in order; it is written anew",
        run.documents.uid,
        len(rows),
        len(first),
    )
    put_in_place(run, spare, rows.take(first))


def put_in_place(
    run: RunTable, spare: Container, rows: pyarrow.Table, *, before: Callable[[], None] | None = None
) -> None:
    """Replace the table of a run by one that has these rows; see `rewrite`.

    Parameters
    ----------
    run, spare
        As `rewrite` takes them.
    rows
        Of each frame one, in order.
    before
        Called when the copy is there, before the first row of the run is deleted: if it raises, the run stays.
    """
    key = _copy_key(run)
    unfinished = spare.get(key)
    if unfinished is not None:
        unfinished.delete(external_only=False)
    copy = run.make(spare, key)
    _fill(copy, rows)
    if before is not None:
        before()
    copy.update_metadata({_COMPLETE: True}, drop_revision=True)
    _replace_by(run, copy)


def recover(run: RunTable, spare: Container) -> None:
    """Finish what a killed `rewrite` began; only the holder of the run's lease may call it."""
    copy = spare.get(_copy_key(run))
    if copy is None:
        return
    if copy.metadata.get(_COMPLETE):
        _replace_by(run, copy)
    else:
        copy.delete(external_only=False)


_COMPLETE = "complete"
"""Metadata of a copy to which all rows were written."""


def _copy_key(run: RunTable) -> str:
    return f"{run.documents.uid}.rows"


def _replace_by(run: RunTable, copy: Any) -> None:
    rows = rows_of(copy)
    # Not the frames alone: of a frame that was annotated again, another row is there. NaN equals nothing, so that
    # rows of failed frames are written once more than need be.
    if not rows_of(run.table).equals(rows):
        run.remake()
        _fill(run.table, rows)
    copy.delete(external_only=False)


def _fill(table: Any, rows: pyarrow.Table) -> None:
    rows = rows.select(schema_of(table).names).cast(schema_of(table))
    for start in range(0, len(rows), _ROWS_A_REQUEST):
        table.append_partition(0, rows.slice(start, _ROWS_A_REQUEST))
    if not np.array_equal(frames_of(table), rows[FRAME].to_numpy()):
        raise StoreUnavailableError("rows that were written were not there when they were read back")
