"""A beam centre that follows motors: events say it, frame by frame, and few estimators serve them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dvfb_stream.errors import GeometryError
from dvfb_stream.frames import Geometry
from dvfb_stream.shown_part import ShownPart

GRID_STEPS = 4096
"""Steps along the longer side of what a view shows, of the grid on which centres lie that frames are annotated with.
A step is a 16th of a pixel of the view, a quarter of a pixel of a detector of 1000. An estimator of its own for each
centre would take a second a frame."""


Centre = tuple[float, float]
"""(x, y) in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class MovingGeometry:
    """The geometry of a detector whose beam centre stands in events."""

    read: Callable[[Mapping[str, Any]], Centre]
    """Returns the centre that the data of an event say; GeometryError where they say none."""
    near: Callable[[Centre], Geometry]
    """Returns the geometry whose centre is the point of the grid next to a centre."""

    def centre_in(self, data: Mapping[str, Any]) -> Centre | str:
        """Return the centre that the data of an event say; or why there is none."""
        try:
            return self.read(data)
        except GeometryError as error:
            return str(error)


def on_grid(centre: Centre, part: ShownPart) -> Centre:
    """Return the point that is next to a centre (x, y), of the grid of the part of a detector that a view shows."""
    step = max(part.shape) / GRID_STEPS
    x, y = (
        first + step * math.floor((value - first) / step + 0.5)
        for value, first in zip(centre, (part.columns.start, part.rows.start), strict=True)
    )
    return x, y


def number_in(value: Any) -> float:
    """Return a number that documents hold: as it is, in a list of one, or in an array of one, also of no axis.

    Raises
    ------
    ValueError
        When it is none, or not finite.
    """
    for _ in range(2):
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
    if getattr(value, "size", 0) == 1 and callable(getattr(value, "item", None)):
        value = value.item()
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("no number") from error
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
