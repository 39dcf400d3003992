"""Follows one raw run and finds the detector exposures in its documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.copied_fields import COPIED_FIELDS, LARGEST_INTEGER
from dvfb_stream.callbacks.descriptor import (
    Descriptor,
    Detectors,
    GeometryProvider,
    finds_geometry,
    looks_like_image,
)
from dvfb_stream.callbacks.documents import (
    MAX_EXPOSURES_IN_A_DOCUMENT,
    Document,
    DocumentError,
    NotKnownYetError,
    RepeatedError,
    mapping,
    moment,
    size_of,
    text,
    whole,
)
from dvfb_stream.callbacks.file_sequences import PixelReferences
from dvfb_stream.callbacks.frame_sequence import FrameSequence
from dvfb_stream.callbacks.inline_images import images_in
from dvfb_stream.callbacks.numbering import Numbering
from dvfb_stream.callbacks.raw_events import RawEvent, RawEvents
from dvfb_stream.callbacks.resource_datum import ResourceDatum
from dvfb_stream.callbacks.run_assets import RunAssets
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Geometry, Origin

__all__ = ["GeometryProvider", "RawRun"]

NOT_ANNOUNCED = "no document announced this frame, though some announced frames after it"

ANNOUNCED_AHEAD = 10_000
"""Frames that may be announced after one that was not. Documents overtake one another by less, and the rows of all of
them wait for that of the one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What an event has under one data key, before its frames have their numbers; fields as in `FrameSequence`."""

    descriptor: Descriptor
    key: str
    event: str
    time: float
    seq_num: int
    images: Sequence[NDArray[Any]] | None = None
    references: PixelReferences | None = None
    reason: str = ""

    def __len__(self) -> int:
        if self.references is not None:
            return len(self.references)
        return 1 if self.images is None else len(self.images)


class RawRun:
    """What is known of one raw run while its documents come in.

    Frames are numbered per stream and data key, from 0, so that a run that is replayed from its start gives every
    frame its old number: those that events have, in the order of the documents, as Bluesky gives some events one
    number; those that stream datums announce, as the detector counts them. What comes a second time is not counted.

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
    old_resources, events
        What is remembered of all runs. None: of this one alone.
    delivery
        Tells deliveries of one run apart: each brings its events again.

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
        old_resources: ResourceDatum | None = None,
        events: RawEvents | None = None,
        delivery: int = 0,
    ) -> None:
        self.uid = text(start, "uid")
        self.start = {name: start[name] for name in ("uid", *COPIED_FIELDS) if name in start}
        """What analysis runs say of it."""
        self.time = moment(start, default=0.0)
        """Time of the start document."""
        self.delivery = delivery
        self.stopped = False
        self.left_out = 0
        """Documents that could have had frames, and were left out."""
        self.assets = RunAssets(root_map, old_resources)
        """Files that the run's documents speak of."""
        self._detectors = detectors
        self._whole_start = start if finds_geometry(detectors) else {}
        self.n_bytes = size_of(self._whole_start or self.start)
        """About what its documents take that are kept."""
        self._descriptors: dict[str, Descriptor] = {}
        self._events = RawEvents() if events is None else events
        self._numberings: dict[tuple[str, str], Numbering] = {}
        self._first_of: dict[tuple[str, str], int] = {}
        """Number of the first frame that a stream resource has in a stream, by its uid and the stream's name."""

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Frames so far, by stream and data key: one past the highest number."""
        return {where: numbering.count for where, numbering in self._numberings.items() if numbering.count}

    def descriptor_time(self, stream: str) -> float:
        """Time of the first descriptor of `stream`."""
        return next((d.time for d in self._descriptors.values() if d.stream == stream), self.time)

    def add_descriptor(self, doc: Document) -> None:
        """Learn which data keys a stream has; DocumentError when malformed."""
        descriptor = Descriptor(doc, self._detectors, start=self._whole_start, time=self.time)
        self._descriptors[descriptor.uid] = descriptor
        self.n_bytes += descriptor.n_bytes

    def add_stream_resource(self, doc: Document) -> None:
        """Learn where frames of stream datums lie; DocumentError when malformed."""
        self.assets.add_stream_resource(doc)
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

    def event_of(self, exposures: FrameSequence, position: int) -> RawEvent | None:
        """Return the raw event of a frame that a stream datum announced; None where it has not come."""
        seq_num = exposures.seq_num_of(position)
        return self._events.find(exposures.descriptor, seq_num) if seq_num else None

    def exposures_in_event(self, doc: Document) -> Iterator[FrameSequence]:
        """Yield the exposures of an Event, numbered; pixels may be the detector's own buffer.

        Raises
        ------
        NotKnownYetError
            When its descriptor has not come.
        RepeatedError
            When it was taken before.
        DocumentError
            When it is malformed, or has more frames than is believed. It is left out as a whole then.
        """
        yield from self._taken([doc])

    def exposures_in_event_page(self, doc: Document) -> Iterator[FrameSequence]:
        """Yield the exposures of an EventPage, event by event; raises as `exposures_in_event`."""
        columns = mapping(doc, "data")
        times = doc.get("time")
        if not isinstance(times, list | tuple | np.ndarray):
            raise DocumentError(f"an event page's time must be a list, not {type(times).__name__}")
        filled = doc.get("filled")
        filled = filled if isinstance(filled, Mapping) else {}
        lengths = {len(times), *(len(column) for column in columns.values())}
        if len(lengths) != 1:
            raise DocumentError(f"the columns of an event page must be of one length, not {sorted(lengths)}")
        if len(times) > MAX_EXPOSURES_IN_A_DOCUMENT:
            raise DocumentError(f"an event page of {len(times)} events is not believed")
        uids, seq_nums = (_column(doc.get(name), len(times)) for name in ("uid", "seq_num"))
        yield from self._taken(
            [
                {
                    "uid": uids[row],
                    "seq_num": seq_nums[row],
                    "descriptor": doc.get("descriptor"),
                    "time": times[row],
                    "data": {key: column[row] for key, column in columns.items()},
                    "filled": {key: column[row] for key, column in filled.items() if len(column) > row},
                }
                for row in range(len(times))
            ]
        )

    def exposures_in_stream_datum(self, doc: Document) -> Iterator[FrameSequence]:
        """Yield the exposures that a StreamDatum announces, and none before it; their pixels lie in files.

        Raises
        ------
        NotKnownYetError
            When its descriptor or its stream resource has not come.
        RepeatedError
            When all of them were announced before.
        DocumentError
            When it is malformed, or announces more frames than is believed.
        """
        descriptor = self._descriptor(doc)
        key = self.assets.data_key_of(doc, run=self.uid)
        if not descriptor.is_image(key, None):
            return
        news = self.assets.of_stream_datum(doc, descriptor.spec(key), descriptor.stream)
        numbering = self._numberings.setdefault((descriptor.stream, key), Numbering())
        first = self._first_of.setdefault((doc["stream_resource"], descriptor.stream), numbering.count)
        for frames in news:
            yield self._exposures(
                descriptor,
                key,
                numbering.at(first + frames.point * frames.frames_each, len(frames)),
                time=descriptor.time,
                count=len(frames),
                references=frames,
                seq_num=frames.seq_num,
                frames_each=frames.frames_each,
            )
        yield from self._lost(descriptor.stream, key, behind=ANNOUNCED_AHEAD)

    def lost_exposures(self) -> Iterator[FrameSequence]:
        """Yield the frames that no document announced, though some announced frames after them."""
        for stream, key in self._numberings:
            yield from self._lost(stream, key)

    def _lost(self, stream: str, key: str, *, behind: int = 0) -> Iterator[FrameSequence]:
        for numbers in self._numberings[stream, key].lost(behind=behind):
            yield FrameSequence(
                origin=Origin(run_uid=self.uid, stream=stream, data_key=key, index=numbers.start),
                count=len(numbers),
                time=self.descriptor_time(stream),
                reason=NOT_ANNOUNCED,
            )

    def _taken(self, events: Iterable[Document]) -> Iterator[FrameSequence]:
        """Yield the exposures of events of one document, all or, where one is malformed, none."""
        news = [event for event in events if not self._is_repeated(event.get("uid"))]
        found = [frames for event in news for frames in self._found_in(event)]
        if not news:
            raise RepeatedError("it was delivered before")
        if sum(map(len, found)) > MAX_EXPOSURES_IN_A_DOCUMENT:
            raise DocumentError(f"a document with {sum(map(len, found))} frames is not believed")
        for event in news:
            self._remember(event)
        yield from (self._numbered(frames) for frames in found if len(frames))

    def _found_in(self, event: Document) -> Iterator[_Found]:
        descriptor = self._descriptor(event)
        filled = event.get("filled")
        for key, value in mapping(event, "data").items():
            if not descriptor.is_image(key, value):
                continue
            images, references, reason = None, None, ""
            # Before it is filled, the value of external data is the id of its datum; `filled` may be absent.
            is_filled = filled.get(key) if isinstance(filled, Mapping) else None
            if isinstance(value, str) and (is_filled is False or "external" in descriptor.spec(key)):
                references = self.assets.of_datum(value, descriptor.spec(key))
            else:
                try:
                    images = images_in(value)
                except FrameError as error:
                    reason = str(error)
            yield _Found(
                descriptor=descriptor,
                key=key,
                event=_text_or_nothing(event.get("uid")),
                time=moment(event, default=descriptor.time),
                seq_num=_seq_num(event),
                images=images,
                references=references,
                reason=reason,
            )

    def _is_repeated(self, uid: object) -> bool:
        return isinstance(uid, str) and self._events.is_repeated(uid, self.delivery)

    def _remember(self, event: Document) -> None:
        uid, descriptor = _text_or_nothing(event.get("uid")), self._descriptor(event)
        if uid:
            self._events.take(uid, self.delivery)
        seq_num = _seq_num(event)
        if descriptor.has_streams and seq_num:
            time = moment(event, default=descriptor.time)
            self._events.add(descriptor.uid, seq_num, RawEvent(uid=uid, time=time))

    def _numbered(self, found: _Found) -> FrameSequence:
        numbering = self._numberings.setdefault((found.descriptor.stream, found.key), Numbering())
        return self._exposures(
            found.descriptor,
            found.key,
            numbering.following(len(found)),
            time=found.time,
            count=len(found),
            images=found.images,
            references=found.references,
            reason=found.reason,
            event=found.event,
            seq_num=found.seq_num,
        )

    def _exposures(
        self,
        descriptor: Descriptor,
        key: str,
        index: int,
        *,
        time: float,
        count: int,
        images: Sequence[NDArray[Any]] | None = None,
        references: PixelReferences | None = None,
        reason: str = "",
        event: str = "",
        seq_num: int,
        frames_each: int | None = None,
    ) -> FrameSequence:
        geometry = descriptor.geometry(key, images[0] if images else None)
        return FrameSequence(
            origin=Origin(
                run_uid=self.uid, stream=descriptor.stream, data_key=key, index=index, event_uid=event
            ),
            count=count,
            time=time,
            descriptor=descriptor.uid,
            seq_num=seq_num,
            frames_each=frames_each,
            geometry=geometry if isinstance(geometry, Geometry) else None,
            images=images,
            references=references,
            reason=reason or (geometry if isinstance(geometry, str) else ""),
        )

    def _descriptor(self, doc: Document) -> Descriptor:
        uid = text(doc, "descriptor")
        if uid not in self._descriptors:
            raise NotKnownYetError("descriptor", uid, run=self.uid)
        return self._descriptors[uid]


def _column(values: object, length: int) -> Sequence[Any]:
    if isinstance(values, list | tuple | np.ndarray) and len(values) == length:
        return list(values)
    return [None] * length


def _seq_num(event: Document) -> int:
    number = whole(event.get("seq_num"))
    return number if number is not None and 0 < number <= LARGEST_INTEGER else 0


def _text_or_nothing(value: object) -> str:
    return value if isinstance(value, str) else ""
