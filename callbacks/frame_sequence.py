"""Consecutive frames of one data key on their way to rows: where they belong, and their pixels or where these lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks.document_fields import MAX_FRAMES_IN_A_DOCUMENT, DocumentError
from dvfb_stream.errors import FrameError
from dvfb_stream.files.checks import is_coloured
from dvfb_stream.files.described_shape import coloured
from dvfb_stream.files.moving_centre import Centre, MovingGeometry
from dvfb_stream.files.references import ANYTHING, Expected, FrameReference
from dvfb_stream.frames import NUMBER_KINDS, Geometry, Origin, plain_array

if TYPE_CHECKING:
    from dvfb_stream.callbacks.stream_events import StreamEvents


@dataclass(frozen=True, slots=True)
class FileFrames:
    """Where consecutive frames lie in files, found one by one as they are read: a document may announce 100,000."""

    source: str
    """What they are read from: frames of one source are read in order, and one that is late holds up the rest."""
    count: int
    find: Callable[..., FrameReference]
    """Called with `facts` and a position, returns where that frame lies; where that is not known, it raises
    NotThereYetError, or FrameError."""
    facts: tuple[Any, ...] = ()
    """What it takes to find them; many documents may wait, each with its own."""

    def __len__(self) -> int:
        return self.count

    def behind(self, first: int) -> FileFrames:
        """Return the frames from the one at position `first` on."""
        return FileFrames(self.source, self.count - first, _at, (self, first)) if first else self

    def __getitem__(self, position: int) -> FrameReference:
        if not 0 <= position < self.count:
            raise IndexError(position)
        return self.find(*self.facts, position)


def _at(frames: FileFrames, first: int, position: int) -> FrameReference:
    return frames[first + position]


@dataclass(frozen=True, slots=True)
class RawEvent:
    """What a row says of the raw event of its frame."""

    uid: str
    """Empty where there is none, or where it is not known."""
    time: float
    """Seconds since 1970."""
    centres: Mapping[str, Centre | str] = field(default_factory=dict)
    """Beam centres that it says, or why it says none, by data key of the images; empty where it need not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """The annotation of one frame, on its way into an event."""

    index: int
    time: float
    """When the frame was taken, seconds since 1970."""
    annotation: Annotation
    event_uid: str = ""
    """uid of the raw event; so is `time` its time. Of frames that stream datums announce: of the event with the same
    number, for which the row waits (`StreamEvents`); empty where none came."""
    event_seq_num: int = 0
    """Number of the raw event in its stream, from 1, as the documents have it; 0 where they do not say."""
    geometry: Geometry | None = None
    """With which the frame was annotated; None where there was none."""
    centre: Centre | None = None
    """As the event says it, where the geometry has the point next to it of a grid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSequence:
    """Consecutive frames of one data key, and all that a row says of each but its annotation."""

    origin: Origin
    """Of the first."""
    count: int
    time: float
    """When the raw document says that they were taken, seconds since 1970."""
    pixels: Sequence[NDArray[Any]] | FileFrames = ()
    """Perhaps the detector's own buffer: to be copied by whoever keeps them. Empty where there is a reason."""
    expected: Expected = ANYTHING
    """What the descriptor says of each."""
    geometry: Geometry | None = None
    """Of all; None: there is none, or each has its own."""
    moving: MovingGeometry | None = None
    """What gives that of each, where its event says the beam centre."""
    reason: str = ""
    """Why there are no pixels, or no geometry: the frames are not to be annotated."""
    descriptor: str = ""
    """uid of their descriptor; empty where no document announced them."""
    seq_num: int = 0
    """Of the first one's raw event; 0: not known."""
    frames_each: int | None = None
    """Frames of each event; None: all are of one."""
    event: RawEvent | None = None
    """The one raw event of all, which brought them."""
    events: StreamEvents | None = None
    """Raw events that have come: of frames that a stream datum announces."""

    def moved_by(self, frames: int) -> FrameSequence:
        """Return the same with numbers so much higher: frames before them did not come."""
        return replace(self, origin=replace(self.origin, index=self.origin.index + frames))

    def origin_of(self, position: int) -> Origin:
        """Return where the frame at a position, from 0, is stored."""
        first = self.origin
        if not position:
            return first
        return Origin(
            run_uid=first.run_uid,
            stream=first.stream,
            data_key=first.data_key,
            index=first.index + position,
            event_uid=first.event_uid,
        )

    def seq_num_of(self, position: int) -> int:
        """Return the number of the raw event of the frame at a position; 0 where it is not known."""
        if not self.seq_num or self.frames_each is None:
            return self.seq_num
        return self.seq_num + position // self.frames_each

    def event_of(self, position: int) -> RawEvent:
        """Return the raw event of the frame at a position, as far as it has come; else a document's time."""
        if self.event is not None:
            return self.event
        number = self.seq_num_of(position)
        known = self.events.get(self.descriptor, number) if self.events is not None and number else None
        return known or RawEvent(self.origin.event_uid, self.time)

    def when_event_is_known(self, position: int, go_on: Callable[[], None]) -> None:
        """Call `go_on` as `StreamEvents.when_known`, for the raw event of the frame at a position."""
        number = self.seq_num_of(position)
        if self.events is None or not number:
            go_on()
        else:
            self.events.when_known(self.descriptor, number, go_on)

    def centre_of(self, position: int) -> Centre | None:
        """Return the beam centre that a frame's event says; None where it need not, or where it is forgotten."""
        if self.moving is None:
            return None
        centre = self.event_of(position).centres.get(self.origin.data_key)
        return None if isinstance(centre, str) else centre

    def geometry_of(self, position: int) -> Geometry | None:
        """Return the geometry of the frame at a position; None where it is not known."""
        centre = self.centre_of(position)
        return self.geometry if self.moving is None or centre is None else self.moving.near(centre)

    def misfit(self, position: int, pixels: NDArray[Any]) -> str:
        """Return why pixels cannot be annotated: the geometry is of another shape; empty where they can."""
        geometry = self.geometry_of(position)
        if geometry is None:
            return f"the beam centre of {self.origin.data_key!r} is not known: its event is forgotten"
        if pixels.shape == geometry.shape:
            return ""
        described = self.expected.shape
        says = "" if described is None else f", and the descriptor says {described}"
        return (
            f"the frame has shape {pixels.shape}, but its geometry says {geometry.shape} (rows, columns){says}; "
            f"where the detector reads out a region or bins, give {self.origin.data_key!r} the geometry of that: its "
            "shape, and the beam centre counted from its first pixel"
        )

    def remark(self, pixels: NDArray[Any], more: str = "") -> str:
        """Return what is to be said beside the label of pixels that are not what the documents say."""
        return " ".join(said for said in (self.expected.difference(pixels.shape, pixels.dtype), more) if said)

    def row(self, annotation: Annotation) -> Row:
        """Return the row of one of the frames, the one that its annotation names as its origin.

        It says of the raw event what has come of it by now; of one that has not come, the document's time.
        """
        assert annotation.origin is not None
        index = annotation.origin.index
        position = index - self.origin.index
        event = self.event_of(position)
        return Row(
            index=index,
            time=event.time,
            annotation=annotation,
            event_uid=event.uid,
            event_seq_num=self.seq_num_of(position),
            geometry=self.geometry_of(position),
            centre=self.centre_of(position),
        )


@dataclass(frozen=True, slots=True)
class NoPixels:
    """Stands in an event in place of an image that cannot be had, where whoever made the event knows why."""

    reason: str


def images_in(value: object) -> list[NDArray[Any]]:
    """Return the images in the value of a data key: (H, W) gives one, (n, H, W) gives n; views where it is an array.

    Raises
    ------
    FrameError
        When it is `NoPixels`, is not an array of numbers (or nested lists of them) with two or three dimensions, has
        no pixels, or is a picture in colours.
    DocumentError
        When there are more than is believed.
    """
    if isinstance(value, NoPixels):
        raise FrameError(value.reason)
    if not isinstance(value, np.ndarray | list | tuple):
        raise FrameError(
            f"a frame must be an array of numbers, not {type(value).__name__} {str(value)[:60]!r}"
        )
    try:
        array = plain_array(value)
    except Exception as error:  # what lies in the lists may be anything, and raise anything
        raise FrameError(
            f"a frame must be an array of numbers, but its rows do not fit together: {error}"
        ) from error
    if array.dtype.kind not in NUMBER_KINDS:
        raise FrameError(f"a frame must be an array of numbers, not of type {array.dtype}")
    if is_coloured(array.shape):
        raise FrameError(coloured(f"the image of shape {array.shape}"))
    if array.ndim not in (2, 3):
        raise FrameError(f"a frame must have the shape (H, W) or (n, H, W), not {array.shape}")
    if 0 in array.shape[-2:]:
        raise FrameError(f"a frame must have pixels; there are none in the shape {array.shape}")
    if array.ndim == 3 and len(array) > MAX_FRAMES_IN_A_DOCUMENT:
        raise DocumentError(f"a document with {len(array)} frames is not believed")
    return [array] if array.ndim == 2 else list(array)
