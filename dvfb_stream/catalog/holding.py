"""Holds an analysis run for the stores of this process, and knows whether rows may still arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from dvfb_stream.catalog.leases import Lease, Leases
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.catalog.writers import Turn

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Hold:
    """One store's part in the lease that this process has on a run; every call is made under the lock of its turn.

    Parameters
    ----------
    turn
        Of the run.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._leases: Leases | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process has the lease, as far as it knows."""
        return self.turn.lease is not None

    def take(self, leases: Leases, uid: str, *, access_tags: Any = None) -> None:
        """Take the run, or see that this process has it still.

        Raises
        ------
        StoreUnavailableError
            While somebody else writes it.
        Exception
            What Tiled's client raises.
        """
        turn = self.turn
        if turn.lease is None:
            turn.lease = leases.take(uid, access_tags=access_tags)
            turn.late_appends |= turn.lease.found and not turn.was_taken
            turn.was_taken = True
        else:
            leases.keep(turn.lease)
        if self._leases is None:
            turn.holders += 1
            self._leases = leases

    def keep(self) -> None:
        """See that nobody took the run over, which is to be done before each write and after the last read.

        Raises
        ------
        StoreUnavailableError
            When somebody did.
        Exception
            What Tiled's client raises.
        """
        leases, lease = self._both()
        leases.keep(lease)

    def confirm(self) -> None:
        """Ask the server whether somebody took the run over, which is to be done right before rows are deleted.

        Raises
        ------
        StoreUnavailableError
            When somebody did.
        Exception
            What Tiled's client raises.
        """
        leases, lease = self._both()
        leases.confirm(lease)

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Note, of an append that is made inside, that it may be carried out later, if nobody can say that it was."""
        self.keep()
        try:
            yield
        except BaseException as error:
            self.turn.late_appends |= _may_arrive_late(error)
            raise

    def forget(self) -> None:
        """Look at the lease again before the next write: something failed."""
        self.turn.lease = None

    def release(self) -> None:
        """Take part no longer; the last store that does gives the lease back.

        It stays where rows may still arrive: who takes the run over later is warned by it.

        Raises
        ------
        Exception
            What Tiled's client raises.
        """
        leases, self._leases = self._leases, None
        if leases is None:
            return
        self.turn.holders -= 1
        lease = self.turn.lease
        if self.turn.holders or lease is None:
            return
        self.turn.lease = None
        if not self.turn.late_appends:
            self.turn.was_taken = False  # a lease that is there next time is another's
            leases.release(lease)

    def _both(self) -> tuple[Leases, Lease]:
        if self._leases is None or self.turn.lease is None:
            raise StoreUnavailableError("this run is not held by this process")
        return self._leases, self.turn.lease


def _may_arrive_late(error: BaseException) -> bool:
    """Return whether a server, or what lies before it, may still carry out the request that ended so."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    # Whatever else it is, a KeyboardInterrupt say, it came when nobody can tell what was sent.
    return not isinstance(error, (*_NEVER_SENT, StoreRefusedError))
