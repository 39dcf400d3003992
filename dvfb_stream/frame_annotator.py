"""What annotates frames, as a worker, a process of its own and a plan use it: one base class, and plain objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS
from dvfb_stream.metrics import Stage

StageReport = Callable[[Stage, float], None]
"""Called with a stage and its duration in seconds, from any thread."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


class SupportsAnnotate(Protocol):
    """All that an annotator must have; a plain object of a script's own will do, see `as_frame_annotator`."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model annotates; every row carries it, those of failed frames too."""
        ...

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order; see `FrameAnnotator.annotate`."""
        ...


class FrameAnnotator(ABC):
    """Frames in, annotations out. Each method but `identity` and `annotate` has a default."""

    @property
    @abstractmethod
    def identity(self) -> ModelIdentity:
        """Which model annotates; every row carries it, those of failed frames too."""

    @abstractmethod
    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order.

        A frame that cannot be annotated gets an annotation of status ``failed``; raising is for failures of the
        annotator itself. A worker calls it on one thread, with frames of one geometry.
        """

    def provenance(self) -> dict[str, Any]:
        """Return what every result needs beside it to be traced: JSON-ready, the same whenever it is asked.

        Here: ``model``, ``labels``, the version under ``software``, and ``thresholds`` and ``fbt`` without entries.
        """
        identity = self.identity
        return {
            "model": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "labels": list(LABELS),
            "thresholds": {},
            "fbt": {},
            "software": {"dvfb-stream": version("dvfb-stream")},
        }

    @property
    def arrays(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes, by name, of the arrays that annotations can carry, as documents have them; here: none.

        Names are those of `dvfb_stream.frame_arrays.FrameArray`.
        """
        return {}

    def keep_arrays(self, names: Sequence[str]) -> None:  # noqa: B027
        """From now on have annotations carry these of its `arrays`, besides those asked for before."""

    @property
    def prepares_ahead(self) -> bool:
        """Whether it pays to call `prepare` on a second thread; may become False when it falls back.

        It does where the rest is computed elsewhere. On a CPU that has no core to spare two threads are in each
        other's way.
        """
        return False

    def prepare(self, frame: Frame) -> Any:
        """Return what `annotate_prepared` takes of a frame; of one that cannot be annotated, the reason inside.

        ``annotate(frames)`` equals ``annotate_prepared([prepare(frame) for frame in frames])``. Called by two threads
        at a time, and while another annotates. Raises as `annotate` does.
        """
        return frame

    def prepare_all(self, frames: Sequence[Frame]) -> list[Any]:
        """Return what `prepare` returns for each frame, in their order; on several cores where that is quicker."""
        return [self.prepare(frame) for frame in frames]

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order; otherwise as `annotate`."""
        return self.annotate(prepared)

    def fall_back(self) -> str | None:
        """Compute on another device from now on, and return its name; None where there is no other.

        Called by the thread that annotates, after `annotate` raised an error of the device. Must not touch the lost
        device. Where it has moved already, it returns the name again. It may raise: then frames fail one by one until
        the device is back.
        """
        return None

    def report_stages(self, report: StageReport | None) -> None:  # noqa: B027
        """From now on call `report` after each stage of each batch; None: no more. The last call counts."""

    def copy_ahead(self) -> None:  # noqa: B027
        """From now on `prepare` may copy to the device while that computes: in a process that may end with it."""

    def close(self) -> None:  # noqa: B027
        """Let go of processes and devices; it annotates no more."""


class AnnotatorAround(FrameAnnotator):
    """Does what another annotator does, but for what is overridden; whoever made that one closes it."""

    def __init__(self, annotator: FrameAnnotator) -> None:
        self._annotator = annotator

    @property
    def identity(self) -> ModelIdentity:
        """See `FrameAnnotator`, as for all below."""
        return self._annotator.identity

    @property
    def prepares_ahead(self) -> bool:
        """Whether it pays to prepare frames on a thread of their own."""
        return self._annotator.prepares_ahead

    @property
    def arrays(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the arrays that annotations can carry."""
        return self._annotator.arrays

    def keep_arrays(self, names: Sequence[str]) -> None:
        """From now on have annotations carry these arrays, those of all who use the same annotator."""
        self._annotator.keep_arrays(names)

    def provenance(self) -> dict[str, Any]:
        """Return what every result needs beside it to be traced."""
        return self._annotator.provenance()

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order."""
        return self._annotator.annotate(frames)

    def prepare(self, frame: Frame) -> Any:
        """Return what `annotate_prepared` takes of a frame."""
        return self._annotator.prepare(frame)

    def prepare_all(self, frames: Sequence[Frame]) -> list[Any]:
        """Return what `prepare` returns for each frame, in their order."""
        return self._annotator.prepare_all(frames)

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order."""
        return self._annotator.annotate_prepared(prepared)

    def fall_back(self) -> str | None:
        """Compute on another device from now on, and return its name."""
        return self._annotator.fall_back()

    def report_stages(self, report: StageReport | None) -> None:
        """From now on call `report` after each stage of each batch."""
        self._annotator.report_stages(report)


def as_frame_annotator(annotator: SupportsAnnotate) -> FrameAnnotator:
    """Return an annotator as it is, or an object with `identity` and `annotate` as one.

    Of the other methods of a `FrameAnnotator` those that the object has are used, `prepare` with `annotate_prepared`
    and `prepares_ahead` only, `arrays` with `keep_arrays` only; what its `provenance` does not say is added.

    Raises
    ------
    SettingsError
        When it has no `identity`, or no method `annotate`.
    """
    if isinstance(annotator, FrameAnnotator):
        return annotator
    if not (hasattr(annotator, "identity") and callable(getattr(annotator, "annotate", None))):
        raise SettingsError(
            f"an annotator has `identity` and `annotate(frames)`, which {type(annotator).__name__!r} has not; give "
            "dvfb_stream.Annotator.load(...), or an object with both"
        )
    return _PlainAnnotator(annotator)


class _PlainAnnotator(FrameAnnotator):
    """An object that has some of a `FrameAnnotator`'s methods; the others are its defaults."""

    def __init__(self, plain: SupportsAnnotate) -> None:
        self._plain = plain
        self._prepares = all(
            hasattr(plain, name) for name in ("prepares_ahead", "prepare", "annotate_prepared")
        )

    @property
    def identity(self) -> ModelIdentity:
        return self._plain.identity

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        return self._plain.annotate(frames)

    def provenance(self) -> dict[str, Any]:
        default = super().provenance()
        return default | self._own("provenance", dict)()

    @property
    def arrays(self) -> Mapping[str, tuple[int, ...]]:
        return getattr(self._plain, "arrays", {}) if hasattr(self._plain, "keep_arrays") else {}

    def keep_arrays(self, names: Sequence[str]) -> None:
        self._own("keep_arrays", super().keep_arrays)(names)

    @property
    def prepares_ahead(self) -> bool:
        return self._prepares and bool(getattr(self._plain, "prepares_ahead", False))

    def prepare(self, frame: Frame) -> Any:
        return self._own("prepare", super().prepare)(frame) if self._prepares else frame

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        method = self._own("annotate_prepared", self.annotate) if self._prepares else self.annotate
        return method(prepared)

    def fall_back(self) -> str | None:
        return self._own("fall_back", super().fall_back)()

    def report_stages(self, report: StageReport | None) -> None:
        self._own("report_stages", super().report_stages)(report)

    def copy_ahead(self) -> None:
        self._own("copy_ahead", super().copy_ahead)()

    def close(self) -> None:
        self._own("close", super().close)()

    def _own(self, name: str, default: _Method) -> _Method:
        found = getattr(self._plain, name, None)
        return found if callable(found) else default
