"""Keeps analysis runs in Tiled: each frame's row once, in order, and proven to be there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.changes import note_change
from dvfb_stream.catalog.holding import Hold
from dvfb_stream.catalog.leases import LEASE_SECONDS, Leases
from dvfb_stream.catalog.links import RawLinks
from dvfb_stream.catalog.newest import begin_anew, supersede
from dvfb_stream.catalog.open_run import OpenRun, by_frame, known
from dvfb_stream.catalog.place import place_of
from dvfb_stream.catalog.replacing import REPLACED, replace_rows
from dvfb_stream.catalog.rewriting import is_in_order, opened, rewrite, stand_in
from dvfb_stream.catalog.run_table import RunDocuments, RunTable, frames_of
from dvfb_stream.catalog.storable import storable
from dvfb_stream.catalog.store_errors import RowsMissingError, StoreRefusedError, StoreUnavailableError
from dvfb_stream.catalog.stored_runs import RunState, StoredRuns
from dvfb_stream.catalog.stored_stop import stop_of, warn_of_what_stays
from dvfb_stream.catalog.trial import write_trial_run
from dvfb_stream.catalog.writers import TURNS
from dvfb_stream.errors import DvfbError

if TYPE_CHECKING:
    from tiled.client.container import Container

logger = logging.getLogger(__name__)

_MAX_OPEN_RUNS = 1_000
"""Runs whose lease and frames are remembered; of more, the one used longest ago is looked up again."""


class AnnotationStore:
    """Writes analysis runs such that an ordinary client reads each frame once, in order, whoever wrote how often.

    No call keeps documents for later: what a call was given is stored when it returns, or it raises. Calls may come
    from any thread, one at a time for a run; other processes may write the same run. Then one of them writes, and the
    calls of the others return when their rows are there by the first, or raise `StoreUnavailableError` until it ends.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, or of the place of the analysis runs itself.
    writer
        Name of this writer in leases, for people who read them; None: host and process.
    lease_seconds
        How long a writer that shows no sign of life, and is not known to have ended, keeps others from its run.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, or there is no place beside its raw runs.
    """

    def __init__(
        self, client: Any, *, writer: str | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._place = place_of(client)
        self._stored = StoredRuns(self._place)
        self._links = RawLinks(self._place)
        self._writer = writer
        self._lease_seconds = lease_seconds
        self._made: _MadePlace | None = None
        self._making = threading.Lock()
        self._open: BoundedCache[str, OpenRun] = BoundedCache(
            _MAX_OPEN_RUNS, evict=Evict.OLDEST_USED, on_evict=lambda _, run: self._leave(run)
        )

    def probe(self) -> None:
        """See whether runs may be written; what it wrote to find out is deleted again.

        The containers for runs and leases are made if need be, and stay.

        Raises
        ------
        StoreUnavailableError
            When Tiled does not answer.
        StoreRefusedError
            With `everything`, when it does not let us write.
        """
        with told_apart("writing a trial run"):
            write_trial_run(self._made_place().spare)

    def write(
        self,
        start: Mapping[str, Any],
        descriptor: Mapping[str, Any],
        events: Sequence[Mapping[str, Any]],
        *,
        begun: float | None = None,
    ) -> None:
        """Store rows of one analysis run; when this returns, each of them was read back.

        The run is made if need be; only rows of frames that are not there are appended. Calling it again, with the
        same events or some of them, changes nothing. Rows that are there stay as they are.

        Parameters
        ----------
        start, descriptor
            Of the analysis run.
        events
            Any number, in any order, of that descriptor. Of two of one frame, the first counts.
        begun
            When the run was begun, for one that was written elsewhere before (`dvfb_stream.catalog.newest`); in
            seconds since 1970. None: now, if it is made now.

        Raises
        ------
        StoreUnavailableError
            When it is not certain that all rows are stored; call it again, with the same events.
        StoreRefusedError
            When they never will be.
        """
        documents = RunDocuments.checked(start, descriptor, begun=begun)
        wanted = by_frame(events)
        with self._turn(documents.uid) as run, told_apart(f"writing rows of run {documents.uid}"):
            if not run.hold.is_held and self._has_all(run, documents, wanted):
                return
            table = self._held(run, documents)
            missing = sorted(wanted.keys() - known(run.frames, wanted))
            if not missing:
                return
            run.hold.turn.writes += 1
            # First, so that a row that is there has its arrays.
            table.arrays.put({frame: wanted[frame] for frame in missing}, run.hold.keep)
            with run.hold.appending():
                table.append([wanted[frame] for frame in missing])
            self._read_back(run, table)
            run.drop_stand_in()
            run.hold.keep()
            if not_there := wanted.keys() - known(run.frames, wanted):
                some = sorted(not_there)[:10]
                raise StoreUnavailableError(
                    f"rows of run {documents.uid} were not there when they were read back: frames {some}"
                )

    def replace(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        """Put rows in the place of those of the same frames; when this returns, they are there. Then call `finish`.

        The table is written anew once. What the rows were before is kept in the run's metadata, `REPLACED` of
        `dvfb_stream.catalog.replacing`; the run has no stop until it is finished again, which sums its rows up anew.
        Killed on the way, it has the rows from before or the new ones, and whoever writes it next completes it.

        Parameters
        ----------
        start, descriptor, events
            As `write` takes them.

        Raises
        ------
        StoreUnavailableError
            When it is not certain that all rows are stored; call it again, with the same events.
        StoreRefusedError
            When they never will be.
        """
        documents = RunDocuments.checked(start, descriptor)
        better = by_frame(events)
        with self._turn(documents.uid) as run, told_apart(f"replacing rows of run {documents.uid}"):
            table = self._held(run, documents)
            run.hold.turn.writes += 1
            if better:
                replace_rows(table, self._made_place().spare, better, run.hold)
            self._read_back(run, table)
            run.drop_stand_in()
            run.hold.keep()

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Store the stop of a run all of whose rows are stored, and return it as it is stored.

        Each frame is seen to be there once, and repaired where it is not; ``num_events`` and ``summary`` are
        computed from the stored rows, whatever `stop` says. A run that is complete already stays as it is. Other
        analyses of the same frames are marked, so that the newest is found (`dvfb_stream.catalog.newest`).

        Raises
        ------
        StoreUnavailableError
            When it is not certain that the stop is stored; call it again.
        RowsMissingError
            When rows are missing. The run is let go, so that another process which has them can write it.
        StoreRefusedError
            When it never will be.
        """
        documents = RunDocuments.checked(start, descriptor)
        stop = storable(f"the stop of run {documents.uid}", stop)
        with self._turn(documents.uid) as run, told_apart(f"finishing run {documents.uid}"):
            if (
                not run.hold.is_held
                and (finished := self._stored.seen(documents.uid).valid_stop()) is not None
            ):
                self._supersede(documents.start)  # who stored the stop may have been killed before it did
                return finished
            table = self._held(run, documents)
            self._read_back(run, table, last=True)
            stored = stop_of(table, stop)
            self._links.link(documents.start)
            run.hold.keep()
            if REPLACED in table.run.metadata:
                note_change(self._made_place().spare, documents.uid)
            table.run.update_metadata({"stop": stored}, drop_revision=True)
            table.run.refresh()
            if (table.run.metadata.get("stop") or {}).get("uid") != stored["uid"]:
                raise StoreUnavailableError(
                    f"the stop of run {documents.uid} was not there when it was read back"
                )
            run.hold.keep()
            self._release(run)
            self._supersede(documents.start)
        self._open.pop(documents.uid)
        return stored

    def make_newest(self, uid: str) -> None:
        """Have a finished run supersede all other analyses of its frames; see `dvfb_stream.catalog.newest`.

        Raises
        ------
        StoreUnavailableError
            When it is not certain that it does; call it again.
        StoreRefusedError
            When there is no such run with a stop, or Tiled does not let us write.
        """
        with told_apart(f"making run {uid} the newest"):
            runs = self._stored.container()
            run = None if runs is None else runs.get(uid)
            if run is None or not run.metadata.get("stop"):
                raise StoreRefusedError(f"there is no finished run {uid}", everything=False)
            begin_anew(run)
            note_change(self._made_place().spare, uid)
            self._supersede(run.metadata["start"])

    def state(self, uid: str) -> RunState:
        """Return how far the analysis run `uid` has come.

        Raises
        ------
        StoreUnavailableError
            When Tiled does not answer.
        StoreRefusedError
            When it does not let us read.
        """
        return self._stored.state(uid)

    def let_go(self, uid: str) -> None:
        """Give the lease on the run `uid` back: another process has the rest of it."""
        run = self._open.pop(uid)
        if run is not None:
            self._leave(run)

    def close(self) -> None:
        """Give all leases back, so that another writer need not wait for them to run out."""
        self._open.clear()

    @contextmanager
    def _turn(self, uid: str) -> Iterator[OpenRun]:
        run = self._open.get_or_make(uid, lambda: OpenRun(uid, Hold(TURNS.of(self._place.name, uid))))
        with run.hold.turn.lock:
            try:
                yield run
            except RowsMissingError:
                # Who has the others must write it, and we shall ask for it again and again.
                self._release(run)
                run.forget()
                raise
            except BaseException:
                run.forget()
                raise

    def _made_place(self) -> _MadePlace:
        with self._making:
            if self._made is None:
                runs, spare = self._place.make()
                leases = Leases(spare, writer=self._writer, seconds=self._lease_seconds)
                self._made = _MadePlace(runs, spare, leases)
            return self._made

    def _held(self, run: OpenRun, documents: RunDocuments) -> RunTable:
        """Return the nodes of a run that nobody else writes now.

        Raises
        ------
        StoreUnavailableError
            While somebody else does.
        """
        made = self._made_place()
        run.hold.take(made.leases, documents.uid, access_tags=documents.access_tags)
        if run.table is None:
            run.table = opened(made.runs, documents, made.spare, run.hold)
            try:
                self._read_back(run, run.table)
            except httpx.HTTPStatusError as error:
                if error.response.is_client_error:
                    raise
                run.stand_in = run.stand_in or stand_in(run.table, made.spare)
                self._read_back(run, run.table)
        elif run.writes_seen != run.hold.turn.writes:
            run.table.look_again()
            self._read_back(run, run.table)
        return run.table

    def _read_back(self, run: OpenRun, table: RunTable, *, last: bool = False) -> None:
        """Read which frames are stored, each once and in order: seen to be so, or made so.

        The last time, before the stop, it is seen to as well that none can come later.
        """
        turn = run.hold.turn
        frames = frames_of(table.table)
        if not is_in_order(frames) or (last and turn.late_appends):
            turn.writes += 1
            rewrite(table, self._made_place().spare, run.hold)
            frames = frames_of(table.table)
        run.frames, run.writes_seen = frames, turn.writes

    def _has_all(
        self, run: OpenRun, documents: RunDocuments, wanted: Mapping[int, Mapping[str, Any]]
    ) -> bool:
        """Return whether the rows are there already, by whomever."""
        stored = self._stored.seen(documents.uid)
        if stored.node is None:
            return False
        if not run.told:
            warn_of_what_stays(stored.node, documents.start)
            run.told = True
        return is_in_order(stored.frames) and wanted.keys() <= known(stored.frames, wanted)

    def _supersede(self, start: Mapping[str, Any]) -> None:
        if (runs := self._stored.container()) is not None:
            supersede(runs, start)

    def _leave(self, run: OpenRun) -> None:
        with run.hold.turn.lock:
            self._release(run)

    def _release(self, run: OpenRun) -> None:
        try:
            with told_apart(f"giving back the lease on run {run.uid}"):
                run.hold.release()
        except DvfbError as error:
            logger.info("%s; it runs out by itself", error)


@dataclass(frozen=True, slots=True)
class _MadePlace:
    """The containers of the place, once they are there."""

    runs: Container
    spare: Container
    """For what writers need: leases, and copies of tables that are written anew."""
    leases: Leases
