"""The last annotation of each detector, for plans that act on what frames show."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Origin


class LatestAnnotations:
    """What was annotated last of each data key, and what of the frame that was taken last. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, Annotation] = {}
        self._newest: dict[str, tuple[Origin, Future[Annotation]]] = {}

    def seen(self, origin: Origin) -> None:
        """Take note of a frame that was taken; its annotation is on its way."""
        with self._lock:
            self._newest[origin.data_key] = (origin, Future())

    def annotated(self, annotation: Annotation) -> None:
        """Take note of an annotation, or of the reason why there is none."""
        origin = annotation.origin
        if origin is None:
            return
        with self._lock:
            known = self._latest.get(origin.data_key)
            if known is None or _not_before(origin, known.origin):
                self._latest[origin.data_key] = annotation
            newest = self._newest.get(origin.data_key)
        if newest is not None and newest[0] == origin and not newest[1].done():
            newest[1].set_result(annotation)

    def latest(self, data_key: str) -> Annotation | None:
        """Return the annotation of the frame of a data key that was annotated last; None before the first."""
        with self._lock:
            return self._latest.get(data_key)

    def of_newest(self, data_key: str) -> Future[Annotation]:
        """Return what will be the annotation of the frame of a data key that was taken last.

        Raises
        ------
        LookupError
            When none was taken.
        """
        with self._lock:
            if data_key not in self._newest:
                known = ", ".join(map(repr, self._newest)) or "no data key"
                raise LookupError(f"no frame of {data_key!r} was seen, only of {known}")
            return self._newest[data_key][1]


def _not_before(origin: Origin, other: Origin | None) -> bool:
    """Whether a frame is of another run or stream, or not before another of the same."""
    if other is None or (origin.run_uid, origin.stream) != (other.run_uid, other.stream):
        return True
    return origin.index >= other.index
