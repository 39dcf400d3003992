"""The geometry of a detector whose beam centre stands in the documents of each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.beam_centre import BeamCentre, CentreUnit
from dvfb_stream.files.described_shape import described_shape
from dvfb_stream.files.detector import Detector
from dvfb_stream.files.moving_centre import Centre, MovingGeometry, number_in, on_grid
from dvfb_stream.frames import Geometry
from dvfb_stream.shown_part import without_margins

MOST_CENTRES = 64
"""Kept: a mask of a megapixel is hashed in a millisecond, and a scan that moves the detector comes back."""

Document = Mapping[str, Any]


class BeamCentrePlaces(BaseModel):
    """Where a run's own documents say the beam centre: ``start.beam.x``, ``configuration.saxs.saxs_x``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    center_x: str
    """``start.KEY`` of the start document, further keys after further dots; ``configuration.OBJECT.KEY`` of the
    descriptor: a configuration signal of the device OBJECT; ``event.KEY`` of the frame's event: its data key KEY."""
    center_y: str
    unit: CentreUnit = CentreUnit.PIXEL
    """Of both numbers: ``pixel``, ``mm`` or ``m``."""

    @field_validator("center_x", "center_y")
    @classmethod
    def _known_document(cls, value: str) -> str:
        document, _, key = value.partition(".")
        if document not in ("start", "configuration", "event") or not key:
            raise ValueError(f"must be start.KEY, configuration.OBJECT.KEY or event.KEY, not {value!r}")
        if document == "configuration" and not key.partition(".")[2]:
            raise ValueError(f"must name a device and its signal, configuration.OBJECT.KEY, not {value!r}")
        return value

    @property
    def in_events(self) -> list[str]:
        """Data keys of events that say it."""
        return [
            place.removeprefix("event.")
            for place in (self.center_x, self.center_y)
            if place.startswith("event.")
        ]


class RunDetector:
    """Finds the geometry of a detector in the start document, the descriptors and the events of each run.

    Parameters
    ----------
    places
        Where the documents say the centre; None: they say the shape alone.
    detector
        Shapes and masks; its own centre counts where the documents say none.
    """

    def __init__(self, places: BeamCentrePlaces | None, detector: Detector) -> None:
        self._places = places
        self._detector = detector
        self._known: BoundedCache[BeamCentre, Detector] = BoundedCache(MOST_CENTRES)

    def geometry_in(self, start: Document, descriptor: Document, data_key: str) -> Geometry | MovingGeometry:
        """Return the geometry of the frames of a data key under one descriptor.

        Where the descriptor's events say the centre, what finds it there; where it has no such data key, its events
        have none, and it is as with other documents that say none.

        Raises
        ------
        GeometryError
            When neither the documents nor the description say a centre, what they say is no number, or shapes
            disagree.
        """
        shape = described_shape(_inside(descriptor, "data_keys", data_key, "shape")).rows_columns
        places = self._places
        if places is None:
            return _of_shape(self._detector, shape)
        data_keys = _inside(descriptor, "data_keys")
        if places.in_events and all(key in data_keys for key in places.in_events):
            find = partial(_centre, places, start, descriptor)
            # Once, for what can be wrong before an event has come: shapes, masks, units.
            agreed = self._at(BeamCentre(x=0.0, y=0.0, unit=places.unit), shape)
            part = without_margins(agreed)
            return MovingGeometry(
                read=lambda data: self._in_pixels(find, data, agreed.shape),
                near=lambda centre: self._near(on_grid(centre, part), agreed.shape, places),
            )
        centre = _centre(places, start, descriptor, {})
        if centre is not None:
            return self._at(centre, shape)
        if self._detector.centre is None and self._detector.poni is None:
            raise GeometryError(
                f"the run does not say the beam centre of {data_key!r}: its documents have no "
                f"{places.center_x}; set it before the scan, or give center_x and center_y, or poni, for "
                "runs that do not"
            )
        return _of_shape(self._detector, shape)

    def _at(self, centre: BeamCentre, shape: tuple[int, int] | None) -> Geometry:
        return _of_shape(self._known.get_or_make(centre, lambda: self._detector.with_centre(centre)), shape)

    def _in_pixels(
        self, find: Callable[[Document], BeamCentre | None], data: Document, shape: tuple[int, int]
    ) -> Centre:
        centre = find(data)
        if centre is None:
            assert self._places is not None
            raise GeometryError(
                f"the frame's event does not say the beam centre: it has no {self._places.center_x}"
            )
        return self._detector.in_pixels(centre, shape)

    def _near(self, centre: Centre, shape: tuple[int, int], places: BeamCentrePlaces) -> Geometry:
        x, y = centre
        return self._at(BeamCentre(x=x, y=y, source=f"{places.center_x}, {places.center_y}"), shape)


def _of_shape(detector: Detector, described: tuple[int, int] | None) -> Geometry:
    """Return the geometry for frames of the shape that a descriptor says, or of the detector's own.

    The descriptor may be wrong, and the file is right: frames that do not fit are told one by one.
    """
    try:
        return detector.geometry(described)
    except GeometryError:
        if described is None or detector.usual_shape in (None, described):
            raise
        return detector.geometry(None)


def _centre(
    places: BeamCentrePlaces, start: Document, descriptor: Document, data: Document
) -> BeamCentre | None:
    """Return the centre that the documents of a run say; None where they say none."""
    x, y = (_number(place, start, descriptor, data) for place in (places.center_x, places.center_y))
    if (x is None) != (y is None):
        absent = places.center_x if x is None else places.center_y
        raise GeometryError(f"the run says half a beam centre: its documents have no {absent}")
    if x is None or y is None:
        return None
    return BeamCentre(x=x, y=y, unit=places.unit, source=f"{places.center_x}, {places.center_y}")


def _number(place: str, start: Document, descriptor: Document, data: Document) -> float | None:
    """Return what a place holds; None where there is no such key."""
    document, _, rest = place.partition(".")
    if document == "configuration":
        device, _, key = rest.partition(".")
        value = _inside(descriptor, "configuration", device, "data", key)
    elif document == "event":
        value = data.get(rest)
    else:
        value = _inside(start, *rest.split("."))
    if value is None:
        return None
    try:
        return number_in(value)
    except ValueError:
        raise GeometryError(f"the run's {place} must be a number, not {_shortened(value)}") from None


def _shortened(value: object) -> str:
    try:
        return repr(value)[:100]
    except ValueError:  # an integer of more digits than Python writes down
        return f"one of the type {type(value).__name__} that cannot be written down"


def _inside(document: object, *keys: str) -> Any:
    for key in keys:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document
