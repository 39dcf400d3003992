"""Follows one raw run and finds the frames in its documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.callbacks.copied_fields import COPIED_FIELDS
from dvfb_stream.callbacks.descriptor import Descriptor, Detectors, finds_geometry, looks_like_image
from dvfb_stream.callbacks.document_fields import (
    MAX_FRAMES_IN_A_DOCUMENT,
    Document,
    DocumentError,
    NotKnownYetError,
    RepeatedError,
    events_of,
    mapping,
    moment,
    size_of,
    text,
    whole,
)
from dvfb_stream.callbacks.event_order import EventOrder
from dvfb_stream.callbacks.frame_numbers import FrameNumbers
from dvfb_stream.callbacks.frame_sequence import FileFrames, FrameSequence, RawEvent, images_in
from dvfb_stream.callbacks.old_documents import stream_resource_of_today
from dvfb_stream.callbacks.resources import Datums, StreamResource, frames_each
from dvfb_stream.callbacks.run_progress import RunProgress
from dvfb_stream.callbacks.stream_events import MOST_EVENTS, StreamEvents
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.described_shape import coloured
from dvfb_stream.files.moving_centre import MovingGeometry
from dvfb_stream.files.references import FrameReference
from dvfb_stream.frames import Geometry, Origin

NOT_ANNOUNCED = "no document announced this frame, though some announced frames after it"

ANNOUNCED_AHEAD = 10_000
"""Frames that may be announced after one that was not; the rows of all of them wait for that of the one."""


_RUN_BYTES = 1 << 14
"""That a run takes beside its documents: what counts its frames, and its analysis run with the summary."""


class RawEvents:
    """What is remembered of the events of all open runs."""

    def __init__(self) -> None:
        self.taken: BoundedCache[str, int] = BoundedCache(MOST_EVENTS, evict=Evict.OLDEST_PUT)
        """In which delivery of its run an event was taken, by its uid."""
        self.of_streams = StreamEvents()
        """Events whose frames stream datums announce."""


class RawRun:
    """What is known of one raw run while its documents come in.

    Frames are numbered per stream and data key, from 0: those that stream datums announce, as the detector counts
    them; those that events have, in the order of the documents, with the place left free of those events that did not
    come (`EventOrder`). An event whose number was there before, as after a pause, has further frames. So a run that
    is replayed from its start gives every frame its old number. What comes a second time is not counted.

    Of the start document and the descriptors what is needed is kept: the whole of them only where a geometry may be
    looked for there.

    Parameters
    ----------
    start
        Its start document.
    detectors
        See `Descriptor`.
    root_map
        Other places for the folders that documents name.
    datums, events
        What is remembered of all runs. None: of this one alone.
    delivery
        Tells deliveries of one run apart, each of which brings its events again: the number of its start among the
        documents.

    Raises
    ------
    DocumentError
        When the start document has no uid.
    """

    def __init__(
        self,
        start: Document,
        detectors: Detectors | None,
        *,
        root_map: Mapping[str, str] | None = None,
        datums: Datums | None = None,
        events: RawEvents | None = None,
        delivery: int = 0,
    ) -> None:
        self.uid = text(start, "uid")
        self.start = {name: start[name] for name in ("uid", *COPIED_FIELDS) if name in start}
        """What analysis runs say of it."""
        self.time = moment(start, default=0.0)
        self.last_start = delivery
        """Number of its last start: frames that came before that come again after it."""
        self.stopped = False
        self.rejected = 0
        """Documents that may have had frames, and could not be taken."""
        self.progress = RunProgress(self.uid)
        """How far its rows have come."""
        self._first_delivery = self._delivery = delivery
        self._first_event: object = None
        """Uid of its first event, with which another delivery of them begins."""
        self._begins_again = False
        """Whether its start came again, and no event since."""
        self._detectors = detectors
        self._root_map = dict(root_map or {})
        self._datums = Datums(root_map) if datums is None else datums
        self._events = RawEvents() if events is None else events
        self._whole_start = start if finds_geometry(detectors) else {}
        self.n_bytes = _RUN_BYTES + size_of(self._whole_start or self.start)
        """About what it takes, with its documents that are kept."""
        self.descriptors: dict[str, Descriptor] = {}
        """By uid."""
        self._resources: dict[str, StreamResource] = {}
        self._numbers = FrameNumbers()

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Frames so far, by stream and data key: one past the highest number."""
        return dict(self._numbers.counts)

    def descriptor_time(self, stream: str) -> float:
        """Time of the first descriptor of `stream`."""
        return next((d.time for d in self.descriptors.values() if d.stream == stream), self.time)

    def begin_again(self, number: int) -> None:
        """Take note that its start, the document with this number, came again."""
        self.last_start, self._begins_again = number, True

    def add_descriptor(self, doc: Document) -> None:
        """Learn which data keys a stream has; RepeatedError when it came before, DocumentError when malformed."""
        descriptor = Descriptor(doc, self._detectors, start=self._whole_start, time=self.time)
        if descriptor.uid in self.descriptors:
            raise RepeatedError("the descriptor came before")
        self.descriptors[descriptor.uid] = descriptor
        self.n_bytes += descriptor.n_bytes
        if descriptor.has_streams and descriptor.has_values:
            self._events.of_streams.expect(descriptor.uid)

    def add_stream_resource(self, doc: Document, *, of_another_run: bool = False) -> None:
        """Learn where frames of stream datums lie; raises as `add_descriptor`.

        Parameters
        ----------
        doc
            The stream resource.
        of_another_run
            The detector was staged for an earlier run as well, whose frames lie in the file before this one's.
        """
        uid = text(doc, "uid")
        if uid in self._resources:
            raise RepeatedError("the stream resource came before")
        doc = stream_resource_of_today(doc)
        self._resources[uid] = StreamResource(
            data_key=text(doc, "data_key"),
            uri=text(doc, "uri"),
            mimetype=text(doc, "mimetype"),
            parameters=dict(mapping(doc, "parameters")),
            root_map=self._root_map,
            of_another_run=of_another_run,
        )
        self.n_bytes += size_of(doc)

    def overlooked_images(self, descriptor: Document) -> list[str]:
        """Return the data keys that look like images in a descriptor of which no data key has a geometry.

        A beamline may leave some of its cameras alone; a stream in which it leaves all of them alone is more
        likely a name that was mistyped.
        """
        data_keys = mapping(descriptor, "data_keys")
        if self._detectors is None or not self._detectors.keys().isdisjoint(data_keys):
            return []
        return [
            str(key)
            for key, spec in data_keys.items()
            if isinstance(spec, Mapping) and looks_like_image(spec)
        ]

    def frames(self, name: str, doc: Document) -> list[FrameSequence]:
        """Return the frames of an Event, an EventPage or a StreamDatum, with their numbers: all of them, or none.

        Pixels of events may be the detector's own buffer; those that a stream datum announces lie in files.

        Raises
        ------
        NotKnownYetError
            When its descriptor, or its stream resource, has not come.
        RepeatedError
            When all of it came before.
        DocumentError
            When it is malformed, or has more frames than is believed.
        """
        if name == "stream_datum":
            return self._of_stream_datum(doc)
        return self._of_events([doc] if name == "event" else events_of(doc))

    def end(self) -> None:
        """Take note that no further document comes, and let go what waits for one."""
        self.stopped = True
        self._events.of_streams.end(self.descriptors)

    def lost_frames(self, *, behind: int = 0) -> list[FrameSequence]:
        """Return the frames that no document announced, though some announced frames `behind` or more after them."""
        found = list[FrameSequence]()
        for gap in self._numbers.take_lost(behind):
            stream, key = gap.where
            origin = Origin(run_uid=self.uid, stream=stream, data_key=key, index=gap.number)
            time = self.descriptor_time(stream)
            found.append(FrameSequence(origin=origin, count=gap.count, time=time, reason=NOT_ANNOUNCED))
        return found

    def frames_after_the_last(self, stop: Document) -> list[FrameSequence]:
        """Return the frames behind the last event that came, as far as the stop document counts events."""
        numbers, found = self._numbers, list[FrameSequence]()
        counted = stop.get("num_events")
        for stream, events in counted.items() if isinstance(counted, Mapping) else ():
            last = numbers.order.last(stream)
            missing = (whole(events) or 0) - last
            described = next((d for d in reversed(self.descriptors.values()) if d.stream == stream), None)
            if described is None or missing <= 0:
                continue
            for key in described.images_in_events:
                where = (stream, key)
                each = max(1, numbers.order.frames_each.get(where, described.shape(key).frames))
                if missing * each <= MAX_FRAMES_IN_A_DOCUMENT:
                    number = numbers.counts.get(where, 0)
                    numbers.counts[where] = number + missing * each
                    found.append(self._hole(where, number, last + 1, missing, each))
        return found

    # -- frames in events --------------------------------------------------------------------------------

    def _of_events(self, events: Sequence[Document]) -> list[FrameSequence]:
        if events and self._first_event is None:
            self._first_event = events[0].get("uid")
        if events and self._begins_again:
            self._begins_again = False
            # Not where a start alone came twice: the events after it go on with the numbers.
            if events[0].get("uid") == self._first_event:
                self._delivery = self.last_start
                self._numbers.begin_again()
        counts, order = dict(self._numbers.delivered), self._numbers.order.copy()
        found, is_new = list[FrameSequence](), False
        come: list[tuple[Descriptor, RawEvent, int]] = []
        for event in events:
            taken = self._taken_in(event.get("uid"))
            if taken == self._delivery:
                continue
            descriptor, number = self._descriptor(event), _seq_num(event.get("seq_num"))
            come.append((descriptor, _raw_event(event, descriptor), number))
            frames = list(self._of_event(event, *come[-1], counts, order))
            if taken is None:
                is_new = True
                found += frames
        if (total := sum(frames.count for frames in found)) > MAX_FRAMES_IN_A_DOCUMENT:
            raise DocumentError(f"a document with {total} frames is not believed")
        self._numbers.delivered, self._numbers.order = counts, order
        for where, count in counts.items():
            self._numbers.counts[where] = max(count, self._numbers.counts.get(where, 0))
        for descriptor, raw_event, number in come:
            if raw_event.uid:
                self._events.taken.put(raw_event.uid, self._delivery)
            if descriptor.has_streams and number:
                self._events.of_streams.put(descriptor.uid, number, raw_event)
        if not is_new:
            raise RepeatedError("it came before")
        return found

    def _of_event(
        self,
        doc: Document,
        descriptor: Descriptor,
        event: RawEvent,
        seq_num: int,
        counts: dict[tuple[str, str], int],
        order: EventOrder,
    ) -> Iterator[FrameSequence]:
        filled = doc.get("filled")
        stated = whole(doc.get("seq_num"))
        expected = order.last(descriptor.stream) + 1
        skipped = order.skipped_before(
            descriptor.stream, descriptor.uid, seq_num or (0 if stated == 0 else None)
        )
        for key, value in mapping(doc, "data").items():
            if not descriptor.is_image(key, value):
                continue
            pixels: Sequence[NDArray[Any]] | FileFrames = ()
            reason = ""
            try:
                pixels = self._pixels(descriptor, key, value, filled)
            except FrameError as error:
                reason = str(error)
            where = (descriptor.stream, key)
            described = max(1, order.frames_each.get(where, descriptor.shape(key).frames))
            # What cannot be had of a stack is all of it.
            count = described if reason else len(pixels)
            if not count:
                continue
            number = counts.get(where, 0)
            sequence = self._sequence(
                descriptor,
                key,
                number,
                count,
                pixels,
                reason=reason,
                event=event,
                time=event.time,
                seq_num=seq_num,
            )
            each = order.frames_each.setdefault(where, count)
            if 0 < skipped * each <= MAX_FRAMES_IN_A_DOCUMENT:
                hole = self._hole(where, number, expected, skipped, each, geometry=sequence.geometry)
                yield hole
                sequence = sequence.moved_by(hole.count)
            order.frames_each[where] = count
            counts[where] = sequence.origin.index + count
            yield sequence

    def _hole(
        self,
        where: tuple[str, str],
        number: int,
        seq_num: int,
        events: int,
        each: int,
        *,
        geometry: Geometry | None = None,
    ) -> FrameSequence:
        """Return the frames of events that did not come."""
        stream, key = where
        return FrameSequence(
            origin=Origin(run_uid=self.uid, stream=stream, data_key=key, index=number),
            count=events * each,
            time=self.descriptor_time(stream),
            geometry=geometry,
            reason=NOT_ANNOUNCED,
            seq_num=seq_num,
            frames_each=each,
        )

    def _pixels(
        self, descriptor: Descriptor, key: str, value: object, filled: object
    ) -> Sequence[NDArray[Any]] | FileFrames:
        """Return the images that an event has under a data key, or where they lie; FrameError where it has none."""
        # Before it is filled, the value of external data is the id of its datum; `filled` may be absent.
        is_filled = filled.get(key) if isinstance(filled, Mapping) else None
        if not isinstance(value, str) or (is_filled is not False and "external" not in descriptor.spec(key)):
            return images_in(value)
        shape = descriptor.shape(key)
        if shape.is_coloured:
            raise FrameError(coloured(f"the image under {key!r}"))
        return self._datums.frames(value, shape.frames, descriptor.expected(key))

    def _taken_in(self, uid: object) -> int | None:
        """Return the delivery in which an event was last taken since the run is followed; None where in none."""
        taken = self._events.taken.get(uid) if isinstance(uid, str) else None
        return taken if taken is not None and taken >= self._first_delivery else None

    # -- frames that stream datums announce ----------------------------------------------------------------

    def _of_stream_datum(self, doc: Document) -> list[FrameSequence]:
        descriptor, resource = self._descriptor(doc), self._resource(doc)
        key = resource.data_key
        if not descriptor.is_image(key, None):
            return []
        each = frames_each(descriptor.shape(key), resource.parameters)
        reason = coloured(f"the image under {key!r}") if descriptor.shape(key).is_coloured else ""
        first, start, stop = self._numbers.points_of(doc, resource, descriptor.stream, each)
        if start >= stop:
            return []
        new = self._numbers.announced(resource, descriptor.stream, first, start, stop, each)
        numbers = doc.get("seq_nums")
        seq_num = _seq_num(numbers.get("start") if isinstance(numbers, Mapping) else None)
        found = [
            self._sequence(
                descriptor,
                key,
                number,
                len(points) * each,
                resource.frames(
                    (resource.before + points.start) * each,
                    len(points) * each,
                    each,
                    descriptor.expected(key),
                ),
                reason=reason,
                time=descriptor.time,
                seq_num=seq_num and seq_num + points.start - start,
                frames_each=each,
            )
            for points, number in new
        ]
        # Of whichever resource: files roll over, and what follows a gap may be in the next.
        return [*found, *self.lost_frames(behind=ANNOUNCED_AHEAD)]

    # -- of both -----------------------------------------------------------------------------------------

    def _sequence(
        self,
        descriptor: Descriptor,
        key: str,
        number: int,
        count: int,
        pixels: Sequence[NDArray[Any]] | FileFrames,
        *,
        time: float,
        seq_num: int,
        reason: str = "",
        event: RawEvent | None = None,
        frames_each: int | None = None,
    ) -> FrameSequence:
        inline = None if isinstance(pixels, FileFrames) or not pixels else pixels[0]
        geometry: Geometry | MovingGeometry | str | None = descriptor.geometry(key, inline)
        moving = geometry if isinstance(geometry, MovingGeometry) else None
        if moving is not None and event is not None:
            centre = event.centres.get(key, f"the descriptor does not say that its events have {key!r}")
            geometry = centre if isinstance(centre, str) else None
        elif moving is not None and isinstance(pixels, FileFrames):
            of_each = (pixels, descriptor.uid, key, seq_num, frames_each or 1)
            pixels = FileFrames(pixels.source, pixels.count, self._placed, of_each)
        return FrameSequence(
            origin=Origin(
                run_uid=self.uid,
                stream=descriptor.stream,
                data_key=key,
                index=number,
                event_uid="" if event is None else event.uid,
            ),
            count=count,
            time=time,
            pixels=pixels,
            expected=descriptor.expected(key),
            geometry=geometry if isinstance(geometry, Geometry) else None,
            moving=moving,
            event=event,
            reason=reason or (geometry if isinstance(geometry, str) else ""),
            descriptor=descriptor.uid,
            seq_num=seq_num,
            frames_each=frames_each,
            events=None if event else self._events.of_streams,
        )

    def _placed(
        self, frames: FileFrames, descriptor: str, key: str, seq_num: int, each: int, position: int
    ) -> FrameReference:
        """Return where a frame lies once its event has come, which says the beam centre; on the reader's thread.

        Raises
        ------
        NotThereYetError
            When the event has not come: it comes after the stream datum, as Bluesky emits them.
        FrameError
            When it never will, or does not say the centre.
        """
        if not seq_num:
            raise FrameError(f"the stream datum of {key!r} does not say which event has the beam centre")
        number = seq_num + position // each
        event = self._events.of_streams.get(descriptor, number)
        if event is None:
            what = f"event {number} of the stream, which says the beam centre of {key!r}, did not come"
            raise FrameError(f"{what} before the run's end") if self.stopped else NotThereYetError(what)
        centre = event.centres.get(key, "")
        if isinstance(centre, str):
            raise FrameError(centre)
        return frames[position]

    def _descriptor(self, doc: Document) -> Descriptor:
        uid = text(doc, "descriptor")
        if uid not in self.descriptors:
            raise NotKnownYetError("descriptor", uid, run=self.uid)
        return self.descriptors[uid]

    def _resource(self, doc: Document) -> StreamResource:
        uid = text(doc, "stream_resource")
        if uid not in self._resources:
            raise NotKnownYetError("stream_resource", uid, run=self.uid)
        return self._resources[uid]


def _seq_num(value: object) -> int:
    """Return the number of an event; 0 where it is none, or so large that those after it exceed 64 bits."""
    number = whole(value)
    return number if number is not None and 0 < number < 1 << 62 else 0


def _raw_event(doc: Document, descriptor: Descriptor) -> RawEvent:
    uid = doc.get("uid")
    return RawEvent(
        uid if isinstance(uid, str) else "",
        moment(doc, default=descriptor.time),
        descriptor.centres_in(mapping(doc, "data")),
    )
