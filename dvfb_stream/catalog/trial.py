"""Finds out whether analysis runs may be written, by writing one."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pyarrow

from dvfb_stream.catalog.run_table import FRAME, RunDocuments, RunTable, frames_of
from dvfb_stream.catalog.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from tiled.client.container import Container

_LONG_AGO = 0.0


class _TrialDocuments(RunDocuments):
    def table_name(self, schema: pyarrow.Schema | None = None) -> str:
        # Its own: Tiled drops an SQL table with its last row, while another trial is about to write to it.
        return f"dvfb_{self.uid}".replace("-", "")


def write_trial_run(container: Container) -> None:
    """Write a run of one row into a container, read it back and delete it.

    Raises
    ------
    StoreUnavailableError
        When the row was not there.
    Exception
        What Tiled's client raises.
    """
    trial = RunTable(container, _documents())
    try:
        trial.append(
            [{"seq_num": 1, "time": _LONG_AGO, "data": {FRAME: 0}, "timestamps": {FRAME: _LONG_AGO}}]
        )
        if frames_of(trial.table).tolist() != [0]:
            raise StoreUnavailableError("a trial row was not there when it was read back")
    finally:
        trial.run.delete(recursive=True, external_only=False)


def _documents() -> RunDocuments:
    data_keys: dict[str, Any] = {FRAME: {"source": "dvfb_stream", "dtype": "integer", "shape": []}}
    start = {"uid": f"trial-{uuid.uuid4()}", "time": _LONG_AGO}
    return _TrialDocuments(start, {"uid": "trial", "time": _LONG_AGO, "data_keys": data_keys})
