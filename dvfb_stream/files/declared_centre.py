"""Where the headers of detector files say that the direct beam is, each in its own words, brought to one convention.

All of them count from the outer corner of the first pixel, where this project counts from its centre, so half a pixel
comes off:

- Pilatus, ``# Beam_xy (x, y) pixels``: pyFAI's calibration takes it as the centre in Fit2D's sense, from the corner.
- NeXus and DECTRIS, ``beam_center_x``: pyFAI and fabio write the centre in Fit2D's sense there, and fabio's eiger2cbf
  copies a master file's to ``Beam_xy`` as it is.
- EDF of the ESRF, ``Center_1``: pyFAI's ``setSPD`` takes it times the size of a pixel as Poni2, from the corner.
- MarCCD and Rayonix, ``beam_x``: thousandths of pixels, which dxtbx takes times the size of a pixel from the corner.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from dvfb_stream.errors import GeometryError
from dvfb_stream.files.beam_centre import HALF_A_PIXEL, PixelSize
from dvfb_stream.files.file_facts import FileFacts

MM_OF_UNIT = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "cm": 10.0, "mm": 1.0, "millimeter": 1.0, "um": 1e-3,
    "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "nm": 1e-6,
}  # fmt: skip
"""Millimetres, by the units that NeXus files name."""

PIXELS = frozenset({"", "pixel", "px", "pix", "pxl"})
"""Units that mean pixels; none, too, as DECTRIS leaves it away in some versions."""

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf)"
_BEAM_XY = re.compile(
    rf"^#?\s*Beam_xy[\s:=]+\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)", re.MULTILINE | re.IGNORECASE
)
_BEAM_X, _BEAM_Y = (
    re.compile(rf"^#?\s*Beam_{axis}[\s:=]+{_NUMBER}\b", re.MULTILINE | re.IGNORECASE) for axis in "xy"
)
_PIXEL_SIZE = re.compile(
    rf"^#?\s*Pixel_size[\s:=]+{_NUMBER}\s*m\s*x\s*{_NUMBER}\s*m\b", re.MULTILINE | re.IGNORECASE
)
_QUANTITY = re.compile(rf"\s*{_NUMBER}[\s_]*(\w*)\s*$", re.IGNORECASE)

MARCCD_HEADER = 1024
"""Bytes of TIFF before MarCCD's own header."""
MARCCD_NAME = (MARCCD_HEADER + 4, b"MMX\0")
MARCCD_BEAM, MARCCD_PIXEL = MARCCD_HEADER + 644, MARCCD_HEADER + 772
"""Where beam_x and beam_y (thousandths of pixels) stand, and pixelsize_x and _y (nanometres): 32-bit integers."""
MARCCD_BYTES = MARCCD_PIXEL + 8
"""Of the file that have to be there."""


def with_pilatus_centre(facts: FileFacts, header: str) -> FileFacts:
    """Return the facts with what the comments in a Pilatus header say: ``# Beam_xy (245.5, 310.2) pixels``."""
    size = _PIXEL_SIZE.search(header)
    facts = _with_size(facts, *((float(size[2]), float(size[1])) if size else (None, None)))
    if both := _BEAM_XY.search(header):
        return _with_centre(facts, float(both[1]), float(both[2]), "Beam_xy of its header")
    x, y = _BEAM_X.search(header), _BEAM_Y.search(header)
    return (
        _with_centre(facts, float(x[1]), float(y[1]), "Beam_x and Beam_y of its header") if x and y else facts
    )


def with_edf_centre(facts: FileFacts, header: Mapping[str, Any]) -> FileFacts:
    """Return the facts with what an EDF header of the ESRF says: ``Center_1``, ``PSize_1``; 2 is the vertical axis.

    ``Offset_1`` is how many pixels were cut away before the first; centres count from the whole detector's first.
    """
    told = {key.lower(): str(value) for key, value in header.items()}
    width, height = (_in_mm(_quantity(told.get(f"psize_{axis}", ""))) for axis in "12")
    facts = _with_size(facts, height, width)
    if "center_1" not in told or "center_2" not in told:
        return facts
    at = []
    for axis in "12":
        centre, offset = _quantity(told[f"center_{axis}"]), _quantity(told.get(f"offset_{axis}", "0"))
        is_pixels = centre is not None and offset is not None and {centre[1], offset[1]} <= PIXELS
        at.append(centre[0] - offset[0] if is_pixels else math.nan)  # type: ignore[index]
    return _with_centre(facts, at[0], at[1], "Center_1 and Center_2 of its header")


def with_marccd_centre(facts: FileFacts, head: bytes) -> FileFacts:
    """Return the facts with what the header of a MarCCD or Rayonix TIFF says, given its first `MARCCD_BYTES`."""
    place, name = MARCCD_NAME
    if len(head) < MARCCD_BYTES or head[place : place + len(name)] != name:
        return facts
    order = "<" if head.startswith(b"II") else ">"
    x, y = struct.unpack_from(order + "2i", head, MARCCD_BEAM)
    width, height = struct.unpack_from(order + "2i", head, MARCCD_PIXEL)
    return _with_centre(
        _with_size(facts, height, width), x / 1000, y / 1000, "beam_x and beam_y of its header"
    )


def with_nexus_centre(facts: FileFacts, group: Any) -> FileFacts:
    """Return the facts with what an NXdetector group says: ``beam_center_x``, ``x_pixel_size`` and their units.

    Parameters
    ----------
    group
        h5py.Group.
    """
    width, height = (_length(group, f"{axis}_pixel_size") for axis in "xy")
    facts = _with_size(facts, height, width)
    if "beam_center_x" not in group or "beam_center_y" not in group:
        return facts
    source = f"beam_center_x and beam_center_y of {group.name}"
    at = []
    for axis, side in (("x", width), ("y", height)):
        value, unit = _field(group, f"beam_center_{axis}")
        if unit in PIXELS:
            at.append(value)
        elif unit in MM_OF_UNIT and side is not None:
            at.append(value * MM_OF_UNIT[unit] / side)
        else:
            lack = "the size of a pixel" if unit in MM_OF_UNIT else "that unit"
            return replace(facts, no_centre=f"{source} is in {unit!r}, and {lack} is not known")
    return _with_centre(facts, at[0], at[1], source)


def declared_centre(facts: FileFacts, shape: tuple[int, int]) -> tuple[float, float]:
    """Return the centre (x, y) that a file declares of frames of `shape`, in this project's convention.

    Raises
    ------
    GeometryError
        When none is declared, or what is written where nobody has set one.
    """
    cure = "give center_x and center_y (--center-x, --center-y), or a poni file (--poni)"
    if facts.center_x is None or facts.center_y is None:
        raise GeometryError(
            f"the beam centre is not known: {facts.no_centre or 'the file says none'}; {cure}"
        )
    x, y = facts.center_x, facts.center_y
    rows, columns = shape
    told = f"{facts.source} is ({x + HALF_A_PIXEL:g}, {y + HALF_A_PIXEL:g}) pixels"
    if math.hypot(x - (columns - 1) / 2, y - (rows - 1) / 2) < ROUNDED:
        raise GeometryError(
            f"the beam centre is not known: {told}, the very middle of the image, as detectors write where "
            f"nobody has set it; {cure}"
        )
    if max(abs(x) / columns, abs(y) / rows) > FARTHEST:
        raise GeometryError(
            f"the beam centre is not known: {told}, which is far off an image of {columns} x {rows}; is its unit "
            f"right? {cure[0].upper()}{cure[1:]}"
        )
    return x, y


ROUNDED = 0.02
"""Pixels: detectors write the middle with two decimals. Nobody's beam is that close to it in both directions."""

MOST_ASPECT = 20.0
"""Of strips, the longest pixels that are made; beyond, one of the sides is not meant."""

FARTHEST = 10.0
"""Lengths of the image: a wide-angle detector stands two or three beside the beam; a wrong unit gives thousands."""


def _with_size(facts: FileFacts, height: float | None, width: float | None) -> FileFacts:
    if height is None or width is None or not (0 < height < math.inf and 0 < width < math.inf):
        return facts
    aspect = PixelSize(height=height, width=width).aspect
    return replace(facts, pixel_aspect=aspect) if 1 / MOST_ASPECT < aspect < MOST_ASPECT else facts


def _with_centre(facts: FileFacts, x: float, y: float, source: str) -> FileFacts:
    """Return the facts with a centre in pixels from the first one's corner, if it is one."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return replace(facts, no_centre=f"{source} is no pair of numbers of pixels")
    if x == y == 0:
        return replace(facts, no_centre=f"{source} is (0, 0), as detectors write where nobody has set it")
    return replace(facts, center_x=x - HALF_A_PIXEL, center_y=y - HALF_A_PIXEL, source=source)


def _quantity(text: str) -> tuple[float, str] | None:
    """Return number and unit of a text like ``1.72e-04_m``."""
    found = _QUANTITY.match(text)
    return None if found is None else (float(found[1]), _unit(found[2]))


def _unit(text: object) -> str:
    unit = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    unit = unit.strip().lower()
    return unit if unit in MM_OF_UNIT else unit.removesuffix("s")


def _field(group: Any, name: str) -> tuple[float, str]:
    """Return a field's one value, NaN where there are several or it is no number, and its unit."""
    found = group.get(name)
    unit = found.attrs.get("units", found.attrs.get("unit", "")) if hasattr(found, "attrs") else ""
    if isinstance(unit, np.ndarray):
        unit = unit.reshape(-1)[0] if unit.size else ""
    value = math.nan
    with suppress(TypeError, ValueError, OSError, AttributeError):
        values = np.asarray(found[()], dtype=float).reshape(-1)
        if values.size and (values == values[0]).all():
            value = float(values[0])
    return value, _unit(unit)


def _length(group: Any, name: str) -> float | None:
    """Return a length in millimetres; None where there is none."""
    return _in_mm(_field(group, name)) if name in group else None


def _in_mm(length: tuple[float, str] | None) -> float | None:
    """Return a positive length in millimetres; it is in metres unless it says else, in NeXus as in EDF."""
    if length is None:
        return None
    value, unit = length
    mm = MM_OF_UNIT.get(unit or "m")
    return value * mm if mm is not None and 0 < value < math.inf else None
