"""A detector whose description has been read: it knows the geometry of frames of each shape, and of each file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.beam_centre import BeamCentre, PixelSize
from dvfb_stream.files.declared_centre import declared_centre
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.files.poni_geometry import DetectorModel, PoniGeometry, PyFaiGeometry
from dvfb_stream.frames import POLARITY, Geometry, InvalidValues
from dvfb_stream.remarks import mostly_masked

logger = logging.getLogger(__name__)

MOST_SHAPES = 16
"""Of one detector, geometries kept: it has one, and another with each binning."""

MOST_DISPLACEMENT = 2 / 256
"""Of the longer side, two pixels of the view: labels of tilted detectors do not change before that."""

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """What a description says, and its files.

    The beam centre is the first of: the declared one, pyFAI's, the frame's file's. So is the size of the pixels.
    """

    centre: BeamCentre | None = None
    """Where the direct beam hits it, as declared."""
    poni: PyFaiGeometry | None = None
    """Where pyFAI says that it stands."""
    model: DetectorModel | None = None
    """The detector by its name, for gaps and pixel sizes."""
    pixel_size: PixelSize | None = None
    """As declared."""
    shape: Shape | None = None
    """(rows, columns) of a frame, as declared."""
    masks: tuple[tuple[str, NDArray[np.bool_]], ...] = ()
    """Who says so, and which pixels it holds valid."""
    file_mask: bool = True
    """Whether what a frame's file says of invalid pixels is used."""
    invalid_values: InvalidValues | None = None
    """Which values mark a pixel as invalid, as declared; None: those that are usual."""
    counts_per_unit: float | None = None
    """Counts that a pixel value of 1 stands for, as declared."""
    _known: BoundedCache[tuple[object, ...], Geometry] = field(
        default_factory=lambda: BoundedCache(MOST_SHAPES), init=False, repr=False
    )
    _resolved: BoundedCache[Shape, PoniGeometry] = field(
        default_factory=lambda: BoundedCache(MOST_SHAPES), init=False, repr=False
    )

    def with_centre(self, centre: BeamCentre) -> Self:
        """Return the same detector with another declared centre, which wins over pyFAI's and the file's."""
        return replace(self, centre=centre)

    @property
    def leaves_centre_to_files(self) -> bool:
        """Whether the centre is the one that the frame's own file says."""
        return self.centre is None and self.poni is None

    @property
    def usual_shape(self) -> Shape | None:
        """(rows, columns) where no frame says it: declared, of a mask, or of the detector; None: nothing tells."""
        claims = self._claims(None)
        return claims[0][1] if claims else None

    def geometry(self, shape: Shape | None = None, facts: FileFacts = NO_FACTS) -> Geometry:
        """Return the geometry of frames of `shape` (rows, columns); equal ones share one.

        Parameters
        ----------
        shape
            None: the one that the description or its files tell.
        facts
            What the frame's own file says; what the description says wins.

        Raises
        ------
        GeometryError
            When a mask or detector has another shape, together they mask everything, or no shape or centre is known.
        """
        claims = self._claims(shape)
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
        size = self._pixel_size(agreed)
        aspect = size.aspect if size is not None else facts.pixel_aspect or 1.0
        center_x, center_y, source = self._centre(agreed, size, facts)
        return self._known.get_or_make(
            (agreed, center_x, center_y, aspect, source),
            lambda: Geometry(
                shape=agreed,
                center_x=center_x,
                center_y=center_y,
                mask=self._mask(agreed),
                invalid_values=self.invalid_values,
                counts_per_unit=self.counts_per_unit,
                pixel_aspect=aspect,
                tilt=None if self.poni is None else self._poni(agreed, self.poni).tilt,
                source=source,
            ),
        )

    def in_pixels(self, centre: BeamCentre, shape: Shape) -> tuple[float, float]:
        """Return where a centre lies on frames of `shape`, (x, y) in pixels; GeometryError where none can say."""
        return centre.in_pixels(self._pixel_size(shape))

    def _claims(self, shape: Shape | None) -> list[tuple[str, Shape]]:
        """Return who says which shape; who can be binned to the shape of the frame says that one."""
        claims = [("the frame", shape)] if shape is not None else []
        if self.shape is not None:
            claims.append(("the description", self.shape))
        claims += [(source, (mask.shape[0], mask.shape[1])) for source, mask in self.masks]
        for model in (None if self.poni is None else self.poni.detector, self.model):
            if model is not None and model.shape is not None:
                binned = bool(claims) and model.fits(claims[0][1])
                claims.append((model.name, claims[0][1] if binned else model.shape))
        return claims

    def _centre(self, shape: Shape, size: PixelSize | None, facts: FileFacts) -> tuple[float, float, str]:
        """Return (x, y, who says so)."""
        if self.centre is not None:
            return *self.centre.in_pixels(size), self.centre.source
        if self.poni is not None:
            poni = self._poni(shape, self.poni)
            return poni.center_x, poni.center_y, self.poni.name
        x, y = declared_centre(facts, shape)
        return x, y, facts.source

    def _pixel_size(self, shape: Shape) -> PixelSize | None:
        if self.pixel_size is not None:
            return self.pixel_size
        if self.poni is not None:
            return self._poni(shape, self.poni).pixel_size
        return None if self.model is None else self.model.pixel_size(shape)

    def _poni(self, shape: Shape, poni: PyFaiGeometry) -> PoniGeometry:
        return self._resolved.get_or_make(
            shape, lambda: _told_of_displacement(poni.resolved(shape), poni.name)
        )

    def _mask(self, shape: Shape) -> NDArray[np.bool_] | None:
        masks = list(self.masks)
        if self.poni is not None and (gaps := self._poni(shape, self.poni).mask) is not None:
            masks.append((self.poni.detector.name, gaps))
        if self.model is not None and (gaps := self.model.mask(shape)) is not None:
            masks.append((self.model.name, gaps))
        if not masks:
            return None
        valid = np.ones(shape, dtype=bool)
        for _, mask in masks:
            valid &= mask
        if not valid.any():
            raise GeometryError(
                f"together {', '.join(source for source, _ in masks)} mask every pixel; {POLARITY}"
            )
        if remark := mostly_masked(valid.size - int(valid.sum()), valid.size):
            logger.warning("%s: %s", ", ".join(source for source, _ in masks), remark)
        return valid


def _told_of_displacement(poni: PoniGeometry, name: str) -> PoniGeometry:
    if poni.shape is not None and poni.displacement > MOST_DISPLACEMENT * max(poni.shape):
        logger.warning(
            "%s: pixels of this detector lie up to %.1f pixels from where equal steps would put them; rings are bent "
            "as much, and may be taken for others",
            name,
            poni.displacement,
        )
    return poni
