"""What a worker needs of an annotator, and what it makes use of where an annotator has more to offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame
from dvfb_stream.metrics import Stage

StageReport = Callable[[Stage, float], None]
"""Called with a stage and its duration in seconds, from any thread."""


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


@runtime_checkable
class SupportsPrepare(SupportsAnnotate, Protocol):
    """An annotator part of whose work is on one frame at a time and can be done before its batch is complete.

    ``annotate(frames)`` equals ``annotate_prepared([prepare(frame) for frame in frames])``.
    """

    @property
    def prepares_ahead(self) -> bool:
        """Whether it pays to call `prepare` on a second thread; may become False when it falls back.

        It does where the rest is computed elsewhere. On a CPU that has no core to spare two threads are in each
        other's way.
        """
        ...

    def prepare(self, frame: Frame) -> Any:
        """Return what `annotate_prepared` takes of a frame; of one that cannot be annotated, the reason inside.

        Called by two threads at a time, and while another annotates. Raises as `annotate` does.
        """
        ...

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order; otherwise as `annotate`."""
        ...


@runtime_checkable
class SupportsFallBack(Protocol):
    """An annotator that can go on elsewhere when its device is lost."""

    def fall_back(self) -> str:
        """Move to a device that works and return its name; from then on compute there.

        Called by the thread that annotates, after a call of `annotate` raised an error of the device. Must not
        touch the lost device. Where it has moved already, it returns the name again. It may raise: then frames
        fail one by one until the device is back.
        """
        ...


@runtime_checkable
class CopiesAhead(Protocol):
    """An annotator that can copy what it has prepared to its device while that computes."""

    def copy_ahead(self) -> None:
        """From now on do so. Only for a process that may end with its device."""
        ...


@runtime_checkable
class ReportsStages(Protocol):
    """An annotator that tells how long its stages take."""

    def report_stages(self, report: StageReport | None) -> None:
        """From now on call `report` after each stage of each batch; None: no more. The last call counts."""
        ...
