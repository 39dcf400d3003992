"""Analysis documents to Tiled: on this machine's disk at once, in the catalog as soon as it takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dvfb_stream.catalog.api_key import without_key
from dvfb_stream.catalog.later import store_now_or_later
from dvfb_stream.catalog.spool import MAX_BYTES, MAX_OPEN_RUNS, Pace, Spool, SpoolStats, WhenFull, folder_for
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.errors import SettingsError, check_at_least
from dvfb_stream.metrics import Metrics

logger = logging.getLogger(__name__)


class TiledSink:
    """A sink that writes analysis runs into Tiled, each frame once, in order, however often it comes.

    Called as `sink(name, doc)`, it returns when the document is on this machine's disk; a thread delivers, half a
    second later at most, and again while Tiled is away. What is not delivered when the process ends, the next one
    for the same catalog delivers. See `Spool` for what happens to what is refused, and when the disk is full.

    - A run that is not there is written as it comes.
    - A run that is there gets the rows that are missing, and its stop; the rows that are there stay, whatever they
      say. If it was made with another geometry, a warning in the log says so, and how to have it made anew.
    - A run that somebody else writes at the same time is left to them: rows that they have stored count as stored.

    `wait` says when everything is stored, `stats` what became of the rows, `close` ends the thread. Documents may
    come from several threads, those of one run in order.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs: ``/smi/raw`` has its annotations in ``/smi/raw_annotations``. Or of
        the container of annotations itself. `LaterCatalog(ADDRESS)` where the server does not answer yet: it is
        opened when it does.
    batch_size
        Most rows in one request.
    spool
        Folder on a local disk, for this catalog alone; None: one for the client's address, below that of this user's
        spools (``DVFB_SPOOL``, otherwise ``~/.local/state/dvfb_stream/spool``). False: a temporary one, for servers
        that end with the process: outages of the catalog do no harm, the end of the process does.
    max_spool_bytes
        Of that folder.
    when_full
        What happens to documents for which there is no room.
    max_open_runs
        Runs without a stop; of more, the oldest is forgotten and stays without one.
    pace
        When rows are delivered, and how often again; its `batch_size` is the one above.

    Raises
    ------
    SettingsError
        When a bound is not positive, `client` is no Tiled container, there is no place beside its raw runs, or no
        spool can be kept in the folder.
    """

    def __init__(
        self,
        client: Any,
        *,
        batch_size: int = 64,
        spool: str | Path | Literal[False] | None = None,
        max_spool_bytes: int = MAX_BYTES,
        when_full: WhenFull = WhenFull.LOSE,
        max_open_runs: int = MAX_OPEN_RUNS,
        pace: Pace | None = None,
    ) -> None:
        check_at_least(1 << 16, max_spool_bytes=max_spool_bytes)
        pace = replace(Pace() if pace is None else pace, batch_size=batch_size)
        self._store = store_now_or_later(client)
        address = client.uri.partition("?")[0]
        self._spool = Spool(
            self._store,
            folder_for(address) if spool is None else spool or None,
            address=address,
            pace=pace,
            max_bytes=max_spool_bytes,
            when_full=when_full,
            max_open_runs=max_open_runs,
        )

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Keep one document of an analysis run, to be stored soon.

        Raises
        ------
        DvfbError
            When the document belongs to no run whose start came before it, holds what no document may, or the sink is
            closed.
        """
        self._spool(name, doc)

    def probe(self) -> None:
        """See whether runs may be written; where Tiled does not answer, a warning says that rows will wait.

        Raises
        ------
        SettingsError
            When Tiled does not let us write.
        """
        try:
            self._store.probe()
        except StoreUnavailableError as error:
            logger.warning("%s; rows wait on this machine's disk until it does", without_key(error))
        except StoreRefusedError as error:
            raise SettingsError(f"annotations cannot be stored: {without_key(error)}") from None

    @property
    def folder(self) -> Path | None:
        """Where rows survive the end of this process; None: nowhere."""
        return self._spool.folder

    def sync(self) -> None:
        """Have what was put survive a power failure, too; OSError where the disk refuses."""
        self._spool.sync()

    @property
    def is_waited_for(self) -> bool:
        """Whether this is the thread that delivers, which would wait for itself."""
        return self._spool.is_waited_for

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything that came is stored; return whether it is so within `timeout` seconds.

        False at once where a row was lost, or a run is quarantined, and nothing else is waited for.
        """
        return self._spool.wait(timeout)

    def tell_when_stored(self, uid: str, told: Callable[[str], object]) -> None:
        """Call `told`, from the thread that delivers, once that run is stored with its stop; see `Spool`."""
        self._spool.tell_when_stored(uid, told)

    def tell_when_refused(self, uid: str, told: Callable[[str, str], object]) -> None:
        """Call `told` with the uid and the reason once that run is quarantined with its stop; see `Spool`."""
        self._spool.tell_when_refused(uid, told)

    def stats(self) -> SpoolStats:
        """Return what became of the rows."""
        return self._spool.stats()

    def report_to(self, metrics: Metrics) -> None:
        """From now on count in a record of metrics as well."""
        self._spool.report_to(metrics)

    def close(self, timeout: float | None = 10.0) -> bool:
        """Deliver what can be delivered within `timeout` seconds, and end the thread; return whether all is stored.

        What is not stays on the disk. The open runs are left to other writers.
        """
        return self._spool.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
