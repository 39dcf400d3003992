"""What a worker needs of an annotator, what it does when it is full, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Frame

_DROPPED = "dropped: "


class SupportsAnnotate(Protocol):
    """Frames in, annotations out; `dvfb_stream.Annotator` is one."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model annotates; every row carries it, those of failed frames too."""
        ...

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order.

        A frame that cannot be annotated gets an annotation of status ``failed``; raising is for failures of
        the annotator itself. Called by one thread at a time, with frames of one geometry.
        """
        ...


class FullQueuePolicy(Enum):
    """What `Worker.submit` does with a frame for which there is no room."""

    BLOCK = "block"
    """Wait for room: nothing is lost, and whoever submits is slowed to the annotator's pace."""
    DROP_NEWEST = "drop-newest"
    """Refuse the frame at once: its row says that it was dropped, and whoever submits never waits."""

    @classmethod
    def named(cls, name: str | FullQueuePolicy) -> FullQueuePolicy:
        """Return the policy called `name`.

        Raises
        ------
        SettingsError
            When there is no such policy.
        """
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(repr(policy.value) for policy in cls)
            raise SettingsError(f"unknown policy for a full queue: {name!r}; choose one of {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What became of the frames so far; `received` is always the sum of the next three and `queued_frames`."""

    received: int
    """Frames submitted and either taken in or refused; one that still waits for room is not counted yet."""
    annotated: int
    """Frames with probabilities."""
    failed: int
    """Frames that the annotator refused, that made it raise, or that came after the worker was closed."""
    dropped: int
    """Frames refused because the queue was full."""
    queued_frames: int
    """Frames held now, those being annotated included."""
    queued_bytes: int
    """Bytes of their pixels."""
    batches: int
    """Batches given to the annotator, the retries frame by frame not included."""
    undelivered: int
    """Annotations whose `deliver` raised: whoever asked for the frame did not get its row."""


def dropped_reason(max_frames: int, max_bytes: int) -> str:
    """Return the reason in the row of a frame that a full queue refused."""
    return f"{_DROPPED}the queue was full ({max_frames} frames, {max_bytes} bytes at most)"


def was_dropped(annotation: Annotation) -> bool:
    """Return whether there are no probabilities because the queue was full."""
    return not annotation.ok and annotation.reason.startswith(_DROPPED)
