"""How a user or a configuration file describes a detector, and the geometry that comes of it, or of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.masks import read_mask
from dvfb_stream.files.poni_geometry import detector_mask, read_poni
from dvfb_stream.frames import Geometry

MOST_CENTRES = 64
"""Kept: a mask of a megapixel is hashed in a millisecond, and a scan that moves the detector comes back."""

MOST_SHAPES = 16
"""Of one detector, geometries kept: it has one, and another with each binning."""

Document = Mapping[str, Any]


class BeamCentrePlaces(BaseModel):
    """Where a run's own documents say the beam centre, in pixels: ``start.beam.x``, ``configuration.saxs.saxs_x``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    center_x: str
    """``start.KEY`` of the start document, further keys after further dots; or ``configuration.OBJECT.KEY`` of the
    descriptor: a configuration signal of the device OBJECT."""
    center_y: str

    @field_validator("center_x", "center_y")
    @classmethod
    def _known_document(cls, value: str) -> str:
        document, _, key = value.partition(".")
        if document not in ("start", "configuration") or not key:
            raise ValueError(f"must be start.KEY or configuration.OBJECT.KEY, not {value!r}")
        if document == "configuration" and not key.partition(".")[2]:
            raise ValueError(f"must name a device and its signal, configuration.OBJECT.KEY, not {value!r}")
        return value


class DetectorDescription(BaseModel):
    """Where the direct beam hits a detector and which of its pixels can be believed, as people write it down.

    One of `center_x` and `center_y`, `poni`, and `from_run` must be given: a beam centre is never guessed. Where a
    run's documents say one, that wins over the other two. A pixel is valid where every mask file, the detector's
    definition and the .poni file's detector say so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    center_x: float | None = None
    """Direct beam, pixels to the right of the centre of the first pixel."""
    center_y: float | None = None
    """Direct beam, pixels down from the centre of the first pixel."""
    poni: Path | None = None
    """pyFAI geometry file, instead of the two centres."""
    from_run: BeamCentrePlaces | None = None
    """Where the documents of a run say the centre; not for files, which have none."""
    mask: tuple[str, ...] = ()
    """Mask files, one or a list; in them 1 means masked. HDF5: ``file.h5::/path``."""
    detector: str | None = None
    """pyFAI's name of the detector, for the gaps between its modules."""
    shape: tuple[int, int] | None = Field(default=None)
    """(rows, columns) of a frame; needed where neither a mask, the .poni file nor the detector tells."""

    @field_validator("mask", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (str(value),) if isinstance(value, str | Path) else value

    @field_validator("shape")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"shape must be two positive integers (rows, columns), not {value}")
        return value

    @model_validator(mode="after")
    def _one_centre(self) -> Self:
        given = [name for name in ("center_x", "center_y") if getattr(self, name) is not None]
        if self.poni is not None and given:
            raise ValueError("give the beam centre once: either center_x and center_y, or poni")
        if self.poni is None and len(given) != 2 and (given or self.from_run is None):
            missing = "center_y" if given == ["center_x"] else "center_x" if given else "the beam centre"
            raise ValueError(f"{missing} is missing: give center_x and center_y in pixels, or a poni file")
        return self

    def load(self, folder: str | Path = ".") -> Detector:
        """Read all files that the description names, once.

        Parameters
        ----------
        folder
            What relative paths start from: a configuration file's folder.

        Raises
        ------
        GeometryError
            When a file is missing or not what it should be, or their shapes disagree.
        """
        folder = Path(folder)
        masks: list[tuple[str, NDArray[np.bool_]]] = []
        shapes: list[tuple[str, tuple[int, int]]] = []
        if self.shape is not None:
            shapes.append(("the description", self.shape))
        center_x, center_y = self.center_x, self.center_y
        if self.poni is not None:
            poni = read_poni(folder / self.poni)
            center_x, center_y = poni.center_x, poni.center_y
            if poni.shape is not None:
                shapes.append((f"the detector of {self.poni}", poni.shape))
            if poni.mask is not None:
                masks.append((f"the detector of {self.poni}", poni.mask))
        if self.detector is not None:
            masks.append((f"detector {self.detector}", detector_mask(self.detector)))
        for file in self.mask:
            masks.append((f"mask {file}", read_mask(str(folder / file))))
        shapes += [(source, (mask.shape[0], mask.shape[1])) for source, mask in masks]
        if center_x is None or center_y is None:
            # The validator saw to it that the documents of a run say one.
            center_x = center_y = math.nan
        return Detector(center_x=center_x, center_y=center_y, shapes=tuple(shapes), masks=tuple(masks))

    def geometry(self, shape: tuple[int, int] | None = None, folder: str | Path = ".") -> Geometry:
        """Return the geometry of frames of `shape`; None: the shape that the description or its files tell.

        Raises
        ------
        GeometryError
            As `load`, and when the frames' shape is another one or nothing tells it.
        """
        return self.load(folder).geometry(shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """A detector description whose files have been read."""

    center_x: float
    """Direct beam in pixels, pixel centres at integers; NaN where only a run's documents say it."""
    center_y: float
    shapes: tuple[tuple[str, tuple[int, int]], ...]
    """Who says so, and the (rows, columns) it says."""
    masks: tuple[tuple[str, NDArray[np.bool_]], ...]
    """Who says so, and which pixels it holds valid."""
    _known: BoundedCache[tuple[int, int], Geometry] = field(
        default_factory=lambda: BoundedCache(MOST_SHAPES), init=False, repr=False
    )

    def geometry(self, shape: tuple[int, int] | None = None) -> Geometry:
        """Return the geometry of frames of `shape` (rows, columns); equal shapes share one.

        Raises
        ------
        GeometryError
            When a mask or detector has another shape, together they mask everything, or no shape is known.
        """
        claims = (("the frame", shape), *self.shapes) if shape is not None else self.shapes
        if not claims:
            raise GeometryError(
                "the detector's shape is not known; give shape = [rows, columns], a mask or a detector"
            )
        who, agreed = claims[0]
        for source, claimed in claims[1:]:
            if claimed != agreed:
                raise GeometryError(
                    f"{who} has shape {agreed}, but {source} has shape {claimed} (rows, columns); "
                    "use the mask, detector and poni file that belong to these frames"
                )
        return self._known.get_or_make(
            agreed,
            lambda: Geometry(
                shape=agreed, center_x=self.center_x, center_y=self.center_y, mask=self._mask(agreed)
            ),
        )

    def _mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        if not self.masks:
            return None
        valid = np.ones(shape, dtype=bool)
        for _, mask in self.masks:
            valid &= mask
        if not valid.any():
            raise GeometryError(f"together {', '.join(source for source, _ in self.masks)} mask every pixel")
        return valid


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
        self._known: BoundedCache[tuple[float, float], Detector] = BoundedCache(MOST_CENTRES)

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
        detector = self._known.get_or_make((x, y), lambda: replace(self._detector, center_x=x, center_y=y))
        return detector.geometry(_shape(descriptor, data_key))


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
