"""Sinks that take documents before they are stored, and say later what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dvfb_stream.metrics import Metrics


class StoreCounts(Protocol):
    """What became of the rows that a sink was given."""

    @property
    def stored_rows(self) -> int:
        """Rows that are proven to be where they can be found."""
        ...

    @property
    def spooled_rows(self) -> int:
        """Rows that wait for that, safe from the end of this process."""
        ...

    @property
    def quarantined_rows(self) -> int:
        """Rows that are safe, and were refused; somebody has to see why."""
        ...

    @property
    def lost_rows(self) -> int:
        """Rows that are nowhere."""
        ...


@runtime_checkable
class StoringSink(Protocol):
    """A sink whose call returns before the document is stored; `TiledSink` is one.

    A sink that has all of these is asked; of any other, what it took counts as stored.
    """

    def __call__(self, name: str, doc: dict[str, Any], /) -> object:
        """Take a document."""
        ...

    @property
    def is_waited_for(self) -> bool:
        """Whether this is a thread of the sink's own, which would wait for itself."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was taken is stored, for `timeout` seconds at most; return whether it is."""
        ...

    def tell_when_stored(self, uid: str, told: Callable[[str], object], /) -> None:
        """Call `told`, from any thread, once the run `uid` is stored with its stop; to be asked before the stop."""
        ...

    def stats(self) -> StoreCounts:
        """Return what became of the rows."""
        ...

    def report_to(self, metrics: Metrics, /) -> None:
        """From now on count in a record of metrics as well."""
        ...


@runtime_checkable
class RefusingSink(Protocol):
    """A storing sink that says as well which runs it will not store as they are; `TiledSink` is one."""

    def tell_when_refused(self, uid: str, told: Callable[[str, str], object], /) -> None:
        """Call `told`, from any thread, with the uid and the reason once that run is set aside with its stop.

        To be asked before the stop.
        """
        ...


@runtime_checkable
class DurableSink(Protocol):
    """A sink that keeps what its call has returned for, whatever becomes of this process; `TiledSink` is one."""

    def __call__(self, name: str, doc: dict[str, Any], /) -> object:
        """Take a document."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where it keeps it, for the next process with the same folder; None: this one keeps nothing."""
        ...

    def sync(self) -> object:
        """Have what was put survive a power failure, too; OSError where the disk refuses."""
        ...


def probe(sinks: Sequence[object]) -> None:
    """Ask the sinks that know whether they may write; one that may not raises an error that says so."""
    for sink in sinks:
        ask = getattr(sink, "probe", None)
        if callable(ask):
            ask()
