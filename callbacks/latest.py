"""The last annotation of each detector, for plans that act on what frames show."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Origin

_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Announced:
    """The frames that one document announced of one data key: each of them will get an annotation.

    A document may announce a hundred thousand, so that of most annotations the labels alone are kept.
    """

    first: Origin
    count: int
    number: int
    """Of the document, in the order in which they came."""
    missing: int
    """Frames without an annotation so far."""
    last: Annotation | None = None
    """That of the last frame."""
    labels: set[str] = field(default_factory=set)
    """Those accepted on any of the frames so far."""
    wait_for_last: list[Future[Annotation]] = field(default_factory=list)
    wait_for_labels: list[Future[frozenset[str]]] = field(default_factory=list)

    @property
    def is_awaited(self) -> bool:
        return bool(self.wait_for_last or self.wait_for_labels)

    def has(self, origin: Origin) -> bool:
        return (
            0 <= origin.index - self.first.index < self.count
            and origin.run_uid == self.first.run_uid
            and origin.stream == self.first.stream
        )

    def add(self, annotation: Annotation, index: int) -> None:
        self.missing -= 1
        self.labels.update(annotation.labels)
        if index == self.first.index + self.count - 1:
            self.last = annotation


class LatestAnnotations:
    """What was annotated last of each data key, and what of the frames that were taken last. For any thread.

    Whoever waits gets a future of their own: cancelling it takes nothing from others.
    """

    def __init__(self) -> None:
        # Reentrant, as the handler of a signal may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._number = 0
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
            self._number += 1
            awaited = [known for known in self._announced.get(origin.data_key, ()) if known.is_awaited]
            news = _Announced(origin, count, self._number, missing=count)
            self._announced[origin.data_key] = [*awaited, news]

    def annotated(self, annotation: Annotation) -> None:
        """Take note of an annotation, or of the reason why there is none."""
        origin = annotation.origin
        if origin is None:
            return
        with self._lock:
            known = self._latest.get(origin.data_key)
            if known is None or _not_before(origin, known.origin):
                self._latest[origin.data_key] = annotation
            found = [one for one in self._announced.get(origin.data_key, ()) if one.has(origin)]
            for announced in found:
                announced.add(annotation, origin.index)
        for announced in found:
            self._tell(announced)

    def latest(self, data_key: str) -> Annotation | None:
        """Return the annotation of the frame of a data key that was annotated last; None before the first."""
        with self._lock:
            return self._latest.get(data_key)

    def mark(self) -> int:
        """Return a mark of this moment; frames that are seen later are those `after` it."""
        with self._lock:
            return self._number

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
        with self._lock:
            announced = self._newest(data_key, after)
            future: Future[Annotation] = Future()
            announced.wait_for_last.append(future)
        self._tell(announced)
        return future

    def labels_of_newest(self, data_key: str, *, after: int | None = None) -> Future[frozenset[str]]:
        """Return what will be the labels accepted on any of the frames that a data key's last document announced.

        They are there once all these frames have their annotations. Parameters and errors as of `of_newest`.
        """
        with self._lock:
            announced = self._newest(data_key, after)
            future: Future[frozenset[str]] = Future()
            announced.wait_for_labels.append(future)
        self._tell(announced)
        return future

    def _newest(self, data_key: str, after: int | None) -> _Announced:
        announced = self._announced.get(data_key)
        if announced is None:
            known = ", ".join(map(repr, self._announced)) or "no data key"
            raise LookupError(f"no frame of {data_key!r} was seen, only of {known}; {_CURE}")
        if after is not None and announced[-1].number <= after:
            raise LookupError(f"no new frame of {data_key!r} was seen; {_CURE}")
        return announced[-1]

    def _tell(self, announced: _Announced) -> None:
        """Give those who wait what is there; outside the lock, as it calls what they attached."""
        with self._lock:
            last = announced.last
            whole = announced.missing <= 0
            labels = frozenset(announced.labels) if whole else frozenset()
            wait_for_last = _taken(announced.wait_for_last) if last is not None else []
            wait_for_labels = _taken(announced.wait_for_labels) if whole else []
        if last is not None:
            for one in wait_for_last:
                _give(one, last)
        for each in wait_for_labels:
            _give(each, labels)


_CURE = (
    "see that the callback is subscribed to the RunEngine and not closed, that it is told of this data key, and that "
    "the detector is among those that are read"
)


def _taken(futures: list[Future[_Result]]) -> list[Future[_Result]]:
    taken = futures.copy()
    futures.clear()
    return taken


def _give(future: Future[_Result], result: _Result) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(result)


def _not_before(origin: Origin, other: Origin | None) -> bool:
    """Whether a frame is of another run or stream, or not before another of the same."""
    if other is None or (origin.run_uid, origin.stream) != (other.run_uid, other.stream):
        return True
    return origin.index >= other.index
