"""Which numbers the frames of a run have, and which of those that stream datums announce are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dvfb_stream.callbacks.document_fields import (
    MAX_FRAMES_IN_A_DOCUMENT,
    Document,
    DocumentError,
    RepeatedError,
    mapping,
    whole,
)
from dvfb_stream.callbacks.event_order import EventOrder
from dvfb_stream.callbacks.resources import Gap, StreamResource


class FrameNumbers:
    """Counts the frames of a run, per stream and data key.

    Attributes
    ----------
    counts
        Frames so far: one past the highest number.
    delivered
        The same of this delivery of the run.
    order
        Numbers of the events of this delivery.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.delivered: dict[tuple[str, str], int] = {}
        self.order = EventOrder()
        self._gaps: list[Gap] = []
        """Of all stream resources."""
        self._points: dict[str, int] = {}
        """One past the last index that stream datums have announced, by data key."""

    def begin_again(self) -> None:
        """Count the frames of another delivery of the run, from its first event."""
        self.delivered = {}
        self.order = EventOrder(frames_each=self.order.frames_each)

    def take_lost(self, behind: int) -> list[Gap]:
        """Return, once, what no document announced, though some announced frames `behind` or more after it."""
        lost, waiting = list[Gap](), list[Gap]()
        for gap in self._gaps:
            is_early = gap.resource and gap.number + gap.count + behind > self.counts[gap.where]
            (waiting if is_early else lost).append(gap)
        self._gaps = waiting
        return lost

    def points_of(
        self, doc: Document, resource: StreamResource, stream: str, each: int
    ) -> tuple[int, int, int]:
        """Return the index of a resource's first point, and the points that a stream datum announces, from that."""
        indices = mapping(doc, "indices")
        start, stop = (whole(indices.get(end)) for end in ("start", "stop"))
        if start is None or stop is None or start < 0:
            raise DocumentError(
                f"a stream datum's indices must be integers from 0, not {indices.get('start')!r} to "
                f"{indices.get('stop')!r}"
            )
        first = resource.first
        if first is None and resource.of_another_run:
            # The frames of this run begin somewhere in the file; how many there are before these, `seq_nums` says.
            numbers = doc.get("seq_nums")
            seq_num = whole(numbers.get("start")) if isinstance(numbers, Mapping) else None
            announced = self.counts.get((stream, resource.data_key), 0) // each
            first = start - min(start, max(0, (seq_num or 1) - 1 - announced))
        elif first is None:
            # Indices count from the beginning of the resource, or go on just where those of another ended.
            known = self._points.get(resource.data_key, 0)
            first = known if start == known else 0
        if start < first:
            raise DocumentError(
                f"a stream datum whose indices begin with {start}, where those of its stream resource begin with "
                f"{first}, has frames that cannot be found"
            )
        start, stop = start - first, stop - first
        ahead = max(0, start - resource.points)
        if max(stop - start, ahead) * each > MAX_FRAMES_IN_A_DOCUMENT:
            raise DocumentError(
                f"a stream datum that announces {(stop - start) * each} frames at once, {ahead * each} after the "
                "last, is not believed"
            )
        return first, start, stop

    def announced(
        self, resource: StreamResource, stream: str, first: int, start: int, stop: int, each: int
    ) -> list[tuple[range, int]]:
        """Take note of points of which `points_of` tells; return new ranges, each with its first frame's number.

        Raises
        ------
        RepeatedError
            When none is new.
        """
        where, new = (stream, resource.data_key), []
        overlapping = [
            gap for gap in self._gaps if gap.resource is resource and gap.start < stop and start < gap.stop
        ]
        for gap in sorted(overlapping, key=lambda gap: gap.start):
            filled = gap.part(max(gap.start, start), min(gap.stop, stop))
            self._gaps.remove(gap)
            left = [gap.part(gap.start, filled.start), gap.part(filled.stop, gap.stop)]
            points, number = range(filled.start, filled.stop), filled.number
            if gap.where != where:
                left.append(replace(filled, resource=None))
                number = self.counts.get(where, 0)
                self.counts[where] = self.delivered[where] = number + len(points) * each
            new.append((points, number))
            self._gaps += [part for part in left if part.count]
        if stop > max(start, resource.points):
            end = resource.points
            number = self.counts.get(where, 0)
            if start > end:
                self._gaps.append(Gap(resource, where, end, start, number, each))
                number += (start - end) * each
            beyond = range(max(start, end), stop)
            new.append((beyond, number))
            self.counts[where] = self.delivered[where] = number + len(beyond) * each
            resource.points = stop
        if not new:
            raise RepeatedError("its frames were announced before")
        resource.first = first
        self._points[resource.data_key] = max(self._points.get(resource.data_key, 0), first + stop)
        return sorted(new, key=lambda part: part[0].start)
