"""Makes a table of rows anew, each frame once and in order, such that no kill on the way loses a row."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
from tiled.queries import Key

from dvfb_stream.catalog.holding import Hold
from dvfb_stream.catalog.run_table import FRAME, RunDocuments, RunTable, frames_of, rows_of, schema_of
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


def rewrite(run: RunTable, spare: Container, hold: Hold) -> None:
    """Replace the table of a run by one that has the first row of each frame, in order.

    The rows are copied to a table beside the runs before the first is deleted. Killed on the way, `opened` goes on.
    Appends that were sent before and arrive later fail: the new table has its columns in another order. Readers find
    no table, or part of it, until it is filled: a second for a thousand rows, some ten for a hundred thousand.

    Parameters
    ----------
    run
        The run.
    spare
        Plain Tiled client of the container for the copy.
    hold
        On the run.

    Raises
    ------
    StoreUnavailableError
        When somebody else took the run over, or rows were not there when they were read back.
    Exception
        What Tiled's client raises.
    """
    rows = rows_of(run.table)
    _, first = np.unique(rows[FRAME].to_numpy(), return_index=True)
    logger.warning(
        "run %s has %d rows for %d frames, or not in order, or more may arrive; it is written anew",
        run.documents.uid,
        len(rows),
        len(first),
    )
    put_in_place(run, spare, rows.take(first), hold)


def put_in_place(
    run: RunTable,
    spare: Container,
    rows: pyarrow.Table,
    hold: Hold,
    *,
    before: Callable[[], None] | None = None,
) -> None:
    """Replace the table of a run by one that has these rows; see `rewrite`.

    Parameters
    ----------
    run, spare, hold
        As `rewrite` takes them.
    rows
        Of each frame one, in order.
    before
        Called when the copy is there, before the first row of the run is deleted: if it raises, the run stays.
    """
    # No two copies share a key: what is still on its way to one must not come to another.
    key = f"{run.documents.uid}.{uuid.uuid4().hex}"
    copy = run.make(spare, key, schema=schema_of(run.table), metadata={_COPY_OF: run.documents.uid})
    _fill(copy, rows, hold)
    hold.confirm()
    if before is not None:
        before()
    copy.update_metadata({_COMPLETE: True}, drop_revision=True)
    if not np.isin(frames_of(run.table), rows[FRAME].to_numpy()).all():
        raise StoreUnavailableError(f"rows came to run {run.documents.uid} while it was written anew")
    _replace_by(run, rows, hold)
    copy.delete(external_only=False)


def _replace_by(run: RunTable, rows: pyarrow.Table, hold: Hold) -> None:
    # Whoever took the run over has stored rows since that are in no copy of ours.
    run.remake(hold.confirm)
    hold.turn.late_appends = False
    _fill(run.table, rows, hold)


def _recover(run: RunTable, copies: list[Any], hold: Hold) -> None:
    """Finish what a killed `rewrite` began."""
    for copy in copies:
        if copy.metadata.get(_COMPLETE):
            _recover_from(rows_of(copy), run, hold)
        copy.delete(external_only=False)


def _recover_from(rows: pyarrow.Table, run: RunTable, hold: Hold) -> None:
    there, frames = rows_of(run.table), rows[FRAME].to_numpy()
    if not np.isin(there[FRAME].to_numpy(), frames).all():
        # Somebody else went on with the run: what is there is newer.
        _append(run.table, rows.filter(pyarrow.array(~np.isin(frames, there[FRAME].to_numpy()))), hold)
        if not np.isin(frames, frames_of(run.table)).all():
            raise StoreUnavailableError("rows that were written were not there when they were read back")
    # Not the frames alone: of a frame that was annotated again, another row is there. NaN equals nothing, so that
    # rows of failed frames are written once more than need be.
    elif not there.equals(rows.select(there.column_names)):
        _replace_by(run, rows, hold)


def opened(runs: Container, documents: RunDocuments, spare: Container, hold: Hold) -> RunTable:
    """Return the nodes of a run, made where need be, with all rows that belong to it.

    Raises
    ------
    StoreUnavailableError, StoreRefusedError
        As of `RunTable`; when somebody else took the run over, or rows were not there when they were read back.
    Exception
        What Tiled's client raises.
    """
    copies = _copies(spare, documents.uid)
    if copies and runs.get(documents.uid) is None:
        # The run was deleted since: what is made now is another one.
        for copy in copies:
            copy.delete(external_only=False)
        copies = []
    run = RunTable(runs, documents)
    _recover(run, copies, hold)
    return run


def stand_in(run: RunTable, spare: Container) -> Any:
    """Have the table of a run again whose rows nobody can read, and return what keeps it until rows are in it.

    Tiled drops a table of its database with the last row in it, though runs without rows have it as well, and
    neither reads nor takes rows of theirs until somebody makes it again. A table beside the runs does.
    """
    return run.make(
        spare, f"{run.documents.uid}.{uuid.uuid4().hex}", schema=schema_of(run.table), metadata={}
    )


_COPY_OF = "copy_of"
"""Metadata of a copy: uid of its run."""
_COMPLETE = "complete"
"""Metadata of a copy to which all rows were written."""


def _copies(spare: Container, uid: str) -> list[Any]:
    return [node for node in spare.search(Key(_COPY_OF) == uid).values()]  # noqa: C416 `list` asks for the length


def _fill(table: Any, rows: pyarrow.Table, hold: Hold) -> None:
    _append(table, rows, hold)
    if not np.array_equal(frames_of(table), rows[FRAME].to_numpy()):
        raise StoreUnavailableError("rows that were written were not there when they were read back")


def _append(table: Any, rows: pyarrow.Table, hold: Hold) -> None:
    rows = rows.select(schema_of(table).names).cast(schema_of(table))
    for start in range(0, len(rows), _ROWS_A_REQUEST):
        with hold.appending():
            table.append_partition(0, rows.slice(start, _ROWS_A_REQUEST))
