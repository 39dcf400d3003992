"""What readers of image files raise, or only log and pass over, as one error that says what is wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dvfb_stream.errors import DvfbError, NotThereYetError

_OUT_OF_MEMORY = (
    "memory allocation failed",
    "unable to allocate",
    "can't allocate",
    "cannot allocate memory",
)
"""What HDF5, NumPy and the C library say."""


@contextmanager
def telling_damage(where: object, *, logs: str = "") -> Iterator[None]:
    """Turn whatever a reader raises into one `NotThereYetError`: a file that is half written looks damaged.

    Parameters
    ----------
    where
        The file, or the frame of it, for the message.
    logs
        Name of a library's logger whose errors count as raised: fabio logs an error and goes on when an EDF ends
        early, the rest of which becomes zeros.
    """
    complaints = _Complaints()
    logger = logging.getLogger(logs) if logs else None
    if logger is not None:
        logger.addHandler(complaints)
    try:
        with passing_on_want_of_memory():
            yield
    except (DvfbError, MemoryError):
        raise
    except Exception as error:
        reason = complaints.first or str(error).strip().partition("\n")[0] or type(error).__name__
        raise NotThereYetError(
            f"{where} cannot be read: it is no detector image, or it is damaged or incomplete ({reason})"
        ) from error
    finally:
        if logger is not None:
            logger.removeHandler(complaints)
    if complaints.first:
        raise NotThereYetError(f"{where} is damaged or incomplete ({complaints.first})")


@contextmanager
def passing_on_want_of_memory() -> Iterator[None]:
    """Raise MemoryError where a library had no memory and says so in an error of its own, as HDF5 does.

    A file that needs more than there is will need it later, too.
    """
    try:
        yield
    except (DvfbError, MemoryError):
        raise
    except Exception as error:
        if any(said in str(error).lower() for said in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise


class _Complaints(logging.Handler):
    """Keeps the first error that a library logs in this thread."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self._thread = threading.get_ident()
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        if record.thread == self._thread and not self.first:
            self.first = record.getMessage().partition("\n")[0]
