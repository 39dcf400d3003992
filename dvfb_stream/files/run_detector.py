"""A detector whose beam centre the documents of each run tell."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dvfb_stream.errors import GeometryError
from dvfb_stream.files.description import BeamCentrePlaces, Detector
from dvfb_stream.frames import Geometry

MOST_CENTRES = 64
"""Kept: a mask of a megapixel is hashed in a millisecond, and a scan that moves the detector comes back."""

Document = Mapping[str, Any]


class RunDetector:
    """Finds the geometry of a detector in the start document and the descriptors of each run.

    Parameters
    ----------
    places
        Where the documents say the centre.
    detector
        Shapes and masks; its own centre counts where the documents say none, if it is no NaN.
    """

    def __init__(self, places: BeamCentrePlaces, detector: Detector) -> None:
        self._places = places
        self._detector = detector
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[float, float], Detector] = OrderedDict()

    def geometry_in(self, start: Document, descriptor: Document, data_key: str) -> Geometry:
        """Return the geometry of the frames of a data key under one descriptor.

        Raises
        ------
        GeometryError
            When neither the documents nor the description say a centre, what they say is no number, or shapes
            disagree.
        """
        x, y = (_number(place, start, descriptor) for place in (self._places.center_x, self._places.center_y))
        if (x is None) != (y is None):
            absent = self._places.center_x if x is None else self._places.center_y
            raise GeometryError(f"the run says half a beam centre: its documents have no {absent}")
        if x is None or y is None:
            x, y = self._detector.center_x, self._detector.center_y
            if math.isnan(x):
                raise GeometryError(
                    f"the run does not say the beam centre of {data_key!r}: its documents have no "
                    f"{self._places.center_x}; set it before the scan, or give center_x and center_y, or poni, for "
                    "runs that do not"
                )
        return self._at(x, y).geometry(_shape(descriptor, data_key))

    def _at(self, x: float, y: float) -> Detector:
        with self._lock:
            found = self._known.pop((x, y), None) or replace(self._detector, center_x=x, center_y=y)
            self._known[x, y] = found
            if len(self._known) > MOST_CENTRES:
                self._known.popitem(last=False)
        return found


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
        raise GeometryError(f"the run's {place} must be a number of pixels, not {_shortened(value)}")
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
