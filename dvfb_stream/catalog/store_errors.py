"""Why rows could not be stored: because of now, or for good."""

from __future__ import annotations

from dvfb_stream.errors import DvfbError


class StoreUnavailableError(DvfbError):
    """Tiled does not answer, or not now: the same call may succeed later.

    No connection, a timeout, an answer cut short, HTTP 408, 409, 425, 429 or 5xx, a writer beside this one that does
    not end, or rows that were not there when they were read back.
    """


class StoreFaultError(StoreUnavailableError):
    """The server failed over this very call, HTTP 5xx, or what answered is not Tiled's.

    If it does so for one run alone, again and again while others are stored, it cannot take that run's documents.
    """


class WrittenByAnotherError(StoreUnavailableError):
    """Somebody else is writing the very run, and has not ended.

    Attributes
    ----------
    writer
        Name of who writes it.
    """

    def __init__(self, run: str, writer: str) -> None:
        super().__init__(f"run {run} is being written by {writer}; it is tried again")
        self.writer = writer


class StoreRefusedError(DvfbError):
    """Tiled will never take this as it is: the same call fails again.

    Attributes
    ----------
    reason
        What was refused, without the cure.
    everything
        True where nothing at all can be written (HTTP 401 and 403: the key); False where it is this run alone.
    """

    def __init__(self, reason: str, *, everything: bool, cure: str = "") -> None:
        super().__init__(f"{reason}; {cure}" if cure else reason)
        self.reason = reason
        self.everything = everything


class RowsMissingError(StoreRefusedError):
    """Fewer rows of a run are stored than its stop says: they wait in the spool of another process, or are lost."""
