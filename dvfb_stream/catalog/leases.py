"""Lets one writer at a time write an analysis run, on whatever machine the writers are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiled.client.utils import ClientError
from tiled.queries import Key

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.catalog.store_errors import StoreUnavailableError, WrittenByAnotherError
from dvfb_stream.catalog.writers import identity, is_dead

LEASE_SECONDS = 30.0
"""How long a writer that shows no life keeps others out, where it is not known to be dead: it looks after its lease
every 10 s, and a server under load may take 20 s to answer."""

_TRUSTED = 1 / 3
"""Share of it for which a holder trusts what it last saw; then it looks, and shows life, before it writes again."""

_MAX_WATCHED = 10_000
"""Foreign leases whose signs of life are remembered."""

_CONFLICT, _NOT_FOUND = 409, 404


def seconds_since_boot() -> float:
    """Return the time on a clock that goes on while the machine sleeps, where it has one.

    A laptop that wakes up must not believe that its lease of an hour ago is a second old.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(slots=True)
class Lease:
    """The right to write one run, while `Leases.keep` confirms it."""

    uid: str
    node: Any
    """Tiled client of the node that says so."""
    confirmed: float
    """When it was last seen to hold, on a clock that never goes back."""
    found: bool = False
    """Whether the run had a lease already: what its holder sent last may still arrive."""


class Leases:
    """Leases on runs, kept as nodes of a container.

    A lease on run U is the node ``U.<generation>`` of the highest generation; Tiled creates a node of a given key
    once, whoever asks at the same time. A lease is taken over by creating the next generation when its holder has
    ended, or has shown no sign of life for `seconds` by the clock of who waits; clocks of different machines are not
    compared. All stores of one process hold a lease together, and take turns (`writers.Turns`).

    Parameters
    ----------
    container
        Plain Tiled client of the container of leases.
    writer
        Name of this writer, for people.
    seconds
        Time after which a silent holder loses its lease.
    clock
        In seconds; never goes back, and does not stand still while the machine sleeps.
    """

    def __init__(
        self,
        container: Any,
        *,
        writer: str | None = None,
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._container = container
        self._writer = identity(writer)
        self._seconds = seconds
        self._clock = clock
        # Of a foreign lease: its sign of life, and when that was first seen.
        self._seen: BoundedCache[str, tuple[Any, float]] = BoundedCache(_MAX_WATCHED, evict=Evict.OLDEST_PUT)

    def take(self, uid: str, *, access_tags: Any = None) -> Lease:
        """Return the lease on a run that nobody holds, or whose holder is gone.

        Raises
        ------
        StoreUnavailableError
            While somebody else holds it.
        Exception
            What Tiled's client raises.
        """
        before = self._all(uid)
        held = max(before, key=_generation, default=None)
        if held is not None and self._is_ours(held):
            lease = Lease(uid, held, confirmed=-math.inf, found=True)
            self.keep(lease)
            return lease
        if held is not None and not self._is_gone(uid, held):
            raise _held_by_another(uid, held)
        generation = 1 if held is None else _generation(held) + 1
        try:
            node = self._container.create_container(
                key=f"{uid}.{generation}",
                metadata={
                    "run": uid,
                    "generation": generation,
                    "alive": time.time_ns(),
                    "writer": self._writer,
                },
                access_tags=access_tags,
            )
        except ClientError as error:
            if error.response.status_code != _CONFLICT:
                raise
            raise StoreUnavailableError(f"another writer just took run {uid}; it is tried again") from error
        lease = Lease(uid, node, confirmed=self._clock(), found=held is not None)
        # Whoever judged by what was there before we came may have taken a later generation, or we by what has gone.
        # Those before the newest are of writers that were killed before they had cleared up.
        others = [other for other in self._all(uid) if not self._is_ours(other)]
        judged = {_sign(other) for other in before}
        if any(_generation(other) >= generation or _sign(other) not in judged for other in others):
            self.release(lease)
            raise StoreUnavailableError(f"another writer just took run {uid}; it is tried again")
        for other in others:
            self._delete(other)
        return lease

    def keep(self, lease: Lease) -> None:
        """Confirm a lease, which is to be done before each write; asks the server where that is due.

        Raises
        ------
        StoreUnavailableError
            When somebody else took it over: this writer was silent for too long.
        Exception
            What Tiled's client raises.
        """
        if self._clock() - lease.confirmed >= self._seconds * _TRUSTED:
            self.confirm(lease)

    def confirm(self, lease: Lease) -> None:
        """Ask the server whether a lease holds, and show life, however lately that was done.

        Raises
        ------
        StoreUnavailableError
            When somebody else took it over, or the answers took so long that somebody may have by now.
        Exception
            What Tiled's client raises.
        """
        now = self._clock()
        lease.node.update_metadata({"alive": time.time_ns()}, drop_revision=True)
        # Looked at after the sign of life: who took the lease over in between has either seen it, or is seen here.
        newest = self._newest(lease.uid)
        if newest is None or _token(newest) != _token(lease.node):
            raise StoreUnavailableError(f"another writer took run {lease.uid} over; it is tried again")
        lease.confirmed = now
        if self._clock() - now >= self._seconds * (1 - _TRUSTED):
            raise StoreUnavailableError(
                f"Tiled was so slow that run {lease.uid} may be taken over; it is tried again"
            )

    def release(self, lease: Lease) -> None:
        """Give a lease back, so that others need not wait."""
        self._delete(lease.node)

    def _is_ours(self, node: Any) -> bool:
        return _token(node) == str(self._writer["token"])

    def _newest(self, uid: str) -> Any | None:
        return max(self._all(uid), key=_generation, default=None)

    def _all(self, uid: str) -> list[Any]:
        # Not `list`, which asks the server for the length first.
        return [node for node in self._container.search(Key("run") == uid).values()]  # noqa: C416

    def _is_gone(self, uid: str, held: Any) -> bool:
        if is_dead(held.metadata["writer"]):
            return True
        now, sign = self._clock(), _sign(held)
        seen = self._seen.get(uid)
        if seen is None or seen[0] != sign:
            self._seen.put(uid, (sign, now))
            return False
        return now - seen[1] >= self._seconds

    def _delete(self, node: Any) -> None:
        try:
            node.delete(recursive=True, external_only=False)
        except ClientError as error:
            if error.response.status_code != _NOT_FOUND:
                raise


def _generation(node: Any) -> int:
    return int(node.metadata["generation"])


def _token(node: Any) -> str:
    return str(node.metadata["writer"]["token"])


def _sign(node: Any) -> tuple[str, int]:
    """Return what changes with each sign of life."""
    return _token(node), int(node.metadata["alive"])


def _held_by_another(uid: str, held: Any) -> StoreUnavailableError:
    writer: Mapping[str, Any] = held.metadata["writer"]
    return WrittenByAnotherError(uid, str(writer["name"]))
