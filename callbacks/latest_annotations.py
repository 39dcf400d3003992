"""The last annotation of each detector, for plans that act on what frames show."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Origin

_Result = TypeVar("_Result")

_CURE = (
    "see that the callback is subscribed to the RunEngine and not closed, that it is told of this data key, and that "
    "the detector is among those that are read"
)


@dataclass(slots=True, eq=False)
class _Announced:
    """The frames that one document announced of one data key: each of them will get an annotation.

    A document may announce a hundred thousand, so that of most annotations the labels alone are kept.
    """

    first: Origin
    count: int
    mark: int
    """Of the document, in the order in which they came."""
    missing: int
    """Frames without an annotation so far."""
    found: set[str] = field(default_factory=set)
    """Labels accepted on any of the frames so far."""
    last: Future[Annotation] = field(default_factory=Future)
    """Annotation of the last frame."""
    labels: Future[frozenset[str]] = field(default_factory=Future)
    """All of `found`, once no frame is missing."""
    awaited: bool = False
    last_came: bool = False

    def has(self, origin: Origin) -> bool:
        return (
            0 <= origin.index - self.first.index < self.count
            and origin.run_uid == self.first.run_uid
            and origin.stream == self.first.stream
        )

    def is_last(self, origin: Origin) -> bool:
        return origin.index == self.first.index + self.count - 1


class LatestAnnotations:
    """What was annotated last of each data key, and what of the frames that were taken last. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mark = 0
        self._latest: dict[str, Annotation] = {}
        # By data key, the newest last; of older ones those that somebody waits for.
        self._announced: dict[str, list[_Announced]] = {}

    def seen(self, origin: Origin, count: int = 1) -> None:
        """Take note of frames that were taken; their annotations are on their way.

        Called once per document and data key.

        Parameters
        ----------
        origin
            Of the first of them.
        count
            Consecutive frames that the document announces, at least 1.
        """
        with self._lock:
            self._mark += 1
            older = [
                one for one in self._announced.get(origin.data_key, ()) if one.awaited and one.missing > 0
            ]
            self._announced[origin.data_key] = [*older, _Announced(origin, count, self._mark, missing=count)]

    def annotated(self, annotation: Annotation) -> None:
        """Take note of an annotation, or of the reason why there is none."""
        origin = annotation.origin
        if origin is None:
            return
        with self._lock:
            known = self._latest.get(origin.data_key)
            if known is None or _not_before(origin, known.origin):
                self._latest[origin.data_key] = annotation
            announced = [one for one in self._announced.get(origin.data_key, ()) if one.has(origin)]
            for one in announced:
                one.missing -= 1
                one.found.update(annotation.labels)
            whole = [one for one in announced if one.missing == 0]
            last = [one for one in announced if one.is_last(origin) and not one.last_came]
            for one in last:
                one.last_came = True
        # Outside the lock, as they call what is attached to them.
        for one in last:
            one.last.set_result(annotation)
        for one in whole:
            one.labels.set_result(frozenset(one.found))

    def latest(self, data_key: str) -> Annotation | None:
        """Return the annotation of the frame of a data key that was annotated last; None before the first."""
        with self._lock:
            return self._latest.get(data_key)

    def mark(self) -> int:
        """Return a mark of this moment; frames that are seen later are those `after` it."""
        with self._lock:
            return self._mark

    def of_newest(self, data_key: str, *, after: int | None = None) -> Future[Annotation]:
        """Return what will be the annotation of the frame of a data key that was taken last.

        Parameters
        ----------
        data_key
            Of the detector's image.
        after
            A `mark`; frames seen before it do not count.

        Raises
        ------
        LookupError
            When none was taken.
        """
        return _copy_of(self._newest(data_key, after).last)

    def labels_of_newest(self, data_key: str, *, after: int | None = None) -> Future[frozenset[str]]:
        """Return what will be the labels accepted on any of the frames that a data key's last document announced.

        They are there once all these frames have their annotations. Parameters and errors as of `of_newest`.
        """
        return _copy_of(self._newest(data_key, after).labels)

    def _newest(self, data_key: str, after: int | None) -> _Announced:
        with self._lock:
            announced = self._announced.get(data_key)
            if announced is None:
                known = ", ".join(map(repr, self._announced)) or "no data key"
                raise LookupError(f"no frame of {data_key!r} was seen, only of {known}; {_CURE}")
            if after is not None and announced[-1].mark <= after:
                raise LookupError(f"no new frame of {data_key!r} was seen; {_CURE}")
            announced[-1].awaited = True
            return announced[-1]


def _copy_of(future: Future[_Result]) -> Future[_Result]:
    """Return a future of the caller's own: cancelling it takes nothing from others."""
    own: Future[_Result] = Future()

    def give(done: Future[_Result]) -> None:
        if own.set_running_or_notify_cancel():
            own.set_result(done.result())

    future.add_done_callback(give)
    return own


def _not_before(origin: Origin, other: Origin | None) -> bool:
    """Whether a frame is of another run or stream, or not before another of the same."""
    if other is None or (origin.run_uid, origin.stream) != (other.run_uid, other.stream):
        return True
    return origin.index >= other.index
