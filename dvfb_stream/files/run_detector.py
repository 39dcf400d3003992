"""The geometry of a detector whose beam centre stands in the documents of each run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.beam_centre import BeamCentre, CentreUnit
from dvfb_stream.files.detector import Detector
from dvfb_stream.frames import Geometry

MOST_CENTRES = 64
"""Kept: a mask of a megapixel is hashed in a millisecond, and a scan that moves the detector comes back."""

Document = Mapping[str, Any]


class BeamCentrePlaces(BaseModel):
    """Where a run's own documents say the beam centre: ``start.beam.x``, ``configuration.saxs.saxs_x``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    center_x: str
    """``start.KEY`` of the start document, further keys after further dots; or ``configuration.OBJECT.KEY`` of the
    descriptor: a configuration signal of the device OBJECT."""
    center_y: str
    unit: CentreUnit = CentreUnit.PIXEL
    """Of both numbers: ``pixel``, ``mm`` or ``m``."""

    @field_validator("center_x", "center_y")
    @classmethod
    def _known_document(cls, value: str) -> str:
        document, _, key = value.partition(".")
        if document not in ("start", "configuration") or not key:
            raise ValueError(f"must be start.KEY or configuration.OBJECT.KEY, not {value!r}")
        if document == "configuration" and not key.partition(".")[2]:
            raise ValueError(f"must name a device and its signal, configuration.OBJECT.KEY, not {value!r}")
        return value


class RunDetector:
    """Finds the geometry of a detector in the start document and the descriptors of each run.

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

    def geometry_in(self, start: Document, descriptor: Document, data_key: str) -> Geometry:
        """Return the geometry of the frames of a data key under one descriptor.

        Raises
        ------
        GeometryError
            When neither the documents nor the description say a centre, what they say is no number, or shapes
            disagree.
        """
        shape = _shape(descriptor, data_key)
        centre = None if self._places is None else _centre(self._places, start, descriptor)
        if centre is not None:
            detector = self._known.get_or_make(centre, lambda: self._detector.with_centre(centre))
            return detector.geometry(shape)
        if self._places is not None and self._detector.centre is None and self._detector.poni is None:
            raise GeometryError(
                f"the run does not say the beam centre of {data_key!r}: its documents have no "
                f"{self._places.center_x}; set it before the scan, or give center_x and center_y, or poni, for "
                "runs that do not"
            )
        return self._detector.geometry(shape)


def _centre(places: BeamCentrePlaces, start: Document, descriptor: Document) -> BeamCentre | None:
    """Return the centre that the documents of a run say; None where they say none."""
    x, y = (_number(place, start, descriptor) for place in (places.center_x, places.center_y))
    if (x is None) != (y is None):
        absent = places.center_x if x is None else places.center_y
        raise GeometryError(f"the run says half a beam centre: its documents have no {absent}")
    if x is None or y is None:
        return None
    return BeamCentre(x=x, y=y, unit=places.unit, source=f"{places.center_x}, {places.center_y}")


def _number(place: str, start: Document, descriptor: Document) -> float | None:
    """Return what a place holds; None where there is no such key."""
    document, _, rest = place.partition(".")
    if document == "configuration":
        device, _, key = rest.partition(".")
        value = _inside(descriptor, "configuration", device, "data", key)
    else:
        value = _inside(start, *rest.split("."))
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise GeometryError(f"the run's {place} must be a number, not {_shortened(value)}")
    return number


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


def _shape(descriptor: Document, data_key: str) -> tuple[int, int] | None:
    """Return the shape of a frame as the descriptor has it."""
    shape = _inside(descriptor, "data_keys", data_key, "shape")
    if isinstance(shape, list | tuple) and len(shape) in (2, 3) and all(isinstance(n, int) for n in shape):
        rows, columns = shape[-2:]
        return rows, columns
    return None
