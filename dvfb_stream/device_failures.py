"""What an annotator's exception means for the frames that it was given.

torch is looked at only where it is loaded already: what is not loaded has raised nothing.
"""

from __future__ import annotations

import sys
from enum import Enum

from dvfb_stream.errors import DvfbError

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "status_alloc_failed")
"""What CUDA's, HIP's and Metal's allocators say; that of the CPU; and cuBLAS and cuDNN."""

_LOST = (
    "cuda error",
    "cuda driver error",
    "device-side assert",
    "hip error",
    "no cuda gpus are available",
    "status_execution_failed",
    "status_not_initialized",
)
"""After an error of a kernel every further call to the device in this process fails as well."""


class Failure(Enum):
    """What an annotator's exception means for the frames that it was given."""

    MEMORY = "out of memory"
    """A smaller batch may fit."""
    DEVICE = "device lost"
    """Another device may do."""
    NOT_READY = "not ready"
    """There is nobody to annotate now; the frames have nothing to do with it, and may be given again later."""
    OTHER = "other"
    """Some frame of the batch, or a fault of the annotator."""


class Cause(Enum):
    """How something came to fail in another process."""

    RAISED = "raised"
    """What it was asked for raised."""
    ENDED = "ended"
    """The process ended while it was at this request."""
    KILLED = "killed"
    """Somebody else ended it meanwhile: the system when memory is short, or a person."""
    TIMED_OUT = "timed out"
    """It did not answer in time."""
    NOT_STARTED = "not started"
    """There is no process: it does not start, or ends before it takes a request."""
    CLOSED = "closed"
    """It was closed here."""


class ReportedFailureError(DvfbError):
    """Something failed in another process.

    Parameters
    ----------
    message
        What was wrong.
    failure
        What it means, where that is known better than from a message.
    cause
        How it came to fail.
    error
        Name of the exception's class there; empty where none was raised there.
    retry_after
        Seconds for which it fails again at once; 0 where that is not known.
    """

    def __init__(
        self,
        message: str,
        failure: Failure = Failure.OTHER,
        *,
        cause: Cause,
        error: str = "",
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.cause = cause
        self.error = error
        self.retry_after = retry_after


def failure_of(error: BaseException) -> Failure:
    """Return what an exception of an annotator means."""
    if isinstance(error, ReportedFailureError):
        return error.failure
    if isinstance(error, MemoryError) or _is_of_torch(error, "OutOfMemoryError"):
        return Failure.MEMORY
    if isinstance(error, RuntimeError):
        said = str(error).lower()
        # "CUDA error: out of memory" is both, and the device lives on.
        if any(words in said for words in _MEMORY):
            return Failure.MEMORY
        if _is_of_torch(error, "AcceleratorError") or any(words in said for words in _LOST):
            return Failure.DEVICE
    return Failure.OTHER


def _is_of_torch(error: BaseException, name: str) -> bool:
    kind = getattr(sys.modules.get("torch"), name, None)  # older versions have no AcceleratorError
    return isinstance(kind, type) and isinstance(error, kind)
