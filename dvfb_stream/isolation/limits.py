"""What a process of its own may use of this machine: memory and open files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

LEAST_MEMORY = 1 << 28
"""Bytes that Python, NumPy and HDF5 with its filters take, with room for a frame."""

MOST_DESCRIPTORS = 512
"""Open files of a process: 32 HDF5 files and handlers, and what a handler opens for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What the system refuses a process beyond."""

    memory: int
    """Bytes of its own: not those that it shares with the process that has started it."""
    descriptors: int = MOST_DESCRIPTORS
    """Open files."""

    def as_json(self) -> dict[str, Any]:
        """Return it as another process can be told."""
        return {"memory": self.memory, "descriptors": self.descriptors}

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the environment that such a process needs from its start.

        One thread of each library: on a machine of 64 cores the stacks of as many would be all of the memory.
        """
        names = (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "BLOSC_NTHREADS",
            "NUMEXPR_MAX_THREADS",
        )
        return dict.fromkeys(names, "1")

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return what `as_json` has written down."""
        return cls(**content)

    def apply(self) -> None:
        """Set the limits for this process, from now on; it cannot raise them again."""
        import resource

        # Of writable memory that is not shared, since Linux 4.7: a frame that is lent is not counted.
        for limit, most in (
            (resource.RLIMIT_DATA, self.memory),
            (resource.RLIMIT_NOFILE, self.descriptors),
            (resource.RLIMIT_CORE, 0),  # a crash is expected; a gigabyte on the disk for each is not
        ):
            _, hard = resource.getrlimit(limit)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with suppress(OSError, ValueError):  # a system that has no such limit
                resource.setrlimit(limit, (most, most))
