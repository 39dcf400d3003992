"""What was in hand when processes died: counted where all processes of a group see it, and judged."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from dvfb_stream.atomic_output import replaced

logger = logging.getLogger(__name__)

DEATHS_THAT_CONVICT = 2
"""Of a process that crashed, failed, or was ended for its memory, with the same thing in hand."""
UNEXPLAINED_DEATHS_THAT_CONVICT = 10
"""In a row, of a process that was killed and nobody knows by whom. Whoever kills a daemon again and again finds the
same frame in hand each third time, as the first frames after a start take a third of a short life: 1 in 60,000."""
SECONDS_REMEMBERED = 7 * 86400.0
"""A death is held against nobody for longer than a week."""

Item = tuple[str | int, ...]
"""What may be in hand: a message by its origin, or a frame."""


def message_item(topic: str, partition: int, offset: int) -> Item:
    """Return what stands for a message of Kafka."""
    return ("message", topic, partition, offset)


def frame_item(run: str, stream: str, data_key: str, index: int) -> Item:
    """Return what stands for a frame."""
    return ("frame", run, stream, data_key, index)


class Cause(StrEnum):
    """How a process came to its end."""

    CRASH = "it crashed"
    """By a signal that the processor or a library raises: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT."""
    MEMORY = "it was ended when memory was short"
    FAILURE = "it failed"
    """By an exception that nobody foresaw."""
    STUCK = "it was ended because it was stuck"
    """By its own guard, as its loop did not turn."""
    UNEXPLAINED = "it was killed, nobody knows by whom"
    """By SIGKILL or a power failure: most likely no fault of what was in hand."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How often something was in hand at a death."""

    explained: int = 0
    unexplained: int = 0
    """In a row: once it was let go of in good health, they count no more."""
    cause: str = ""
    """Of the last."""

    @property
    def convicts(self) -> bool:
        """Whether it is not to be touched again."""
        return (
            self.explained >= DEATHS_THAT_CONVICT
            or self.explained + self.unexplained >= UNEXPLAINED_DEATHS_THAT_CONVICT
        )

    def __str__(self) -> str:
        deaths = self.explained + self.unexplained
        return f"it was in hand at {deaths} deaths of the daemon, of the last of which {self.cause}"


class Deaths:
    """A file for each thing in hand at each death, in one folder for all processes of a group.

    Files are made whole and removed, never changed: so that processes on several machines may share the folder.

    Parameters
    ----------
    folder
        Made when the first death is noted.
    clock
        Seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def note(self, item: Item, cause: Cause, detail: str = "") -> None:
        """Count a death; a folder that cannot be written to is logged."""
        told = {"item": item, "cause": cause, "detail": detail[:500], "time": self._clock()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replaced(self._folder / f"{_digest(item)}-{uuid4().hex[:8]}.json") as beside:
                beside.write_text(json.dumps(told))
        except OSError as error:
            logger.error("a death of the daemon cannot be noted in %s: %s", self._folder, error)

    def read(self) -> dict[Item, Suspicion]:
        """Return what was in hand at deaths; those of long ago are forgotten."""
        found: dict[Item, Suspicion] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                told = json.loads(path.read_text())
                item, cause, at = tuple(told["item"]), Cause(told["cause"]), float(told["time"])
                detail = str(told["detail"])
                hash(item)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # removed meanwhile, or nobody's
            if at < self._clock() - SECONDS_REMEMBERED:
                path.unlink(missing_ok=True)
                continue
            known = found.get(item, Suspicion())
            is_explained = cause is not Cause.UNEXPLAINED
            found[item] = Suspicion(
                known.explained + is_explained,
                known.unexplained + (not is_explained),
                f"{cause} ({detail})" if detail else str(cause),
            )
        return found

    def clear(self, item: Item, *, explained: bool) -> None:
        """Forget deaths with something in hand: all of them, or those that nobody could explain."""
        for path in self._folder.glob(f"{_digest(item)}-*.json"):
            try:
                if explained or json.loads(path.read_text())["cause"] == Cause.UNEXPLAINED:
                    path.unlink(missing_ok=True)
            except (OSError, ValueError, KeyError, TypeError):
                continue


def named(item: Item) -> str:
    """Return what an item is, for people."""
    match item:
        case ("message", topic, partition, offset):
            return f"the message of {topic}[{partition}] at offset {offset}"
        case ("frame", run, stream, key, index):
            return f"frame {index} of {key!r} in stream {stream!r} of run {run}"
    return str(item)


def without(suspects: Mapping[Item, Suspicion], item: Item, *, explained: bool) -> dict[Item, Suspicion]:
    """Return `suspects` as they are after `Deaths.clear`."""
    left = dict(suspects)
    known = left.pop(item, None)
    if known is not None and known.explained and not explained:
        left[item] = Suspicion(known.explained, 0, known.cause)
    return left


def _digest(item: Item) -> str:
    return hashlib.sha256(json.dumps(item).encode()).hexdigest()[:16]
