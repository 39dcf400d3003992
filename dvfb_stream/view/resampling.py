"""What the networks see of a frame: a square log-intensity image with its own mask and beam centre.

Any detector becomes one size: masked margins are cut off, and what is left is scaled, keeping its proportions, until
its longer side fills the view, and laid in the middle; what it does not cover is invalid. Each view pixel is the mean
of the valid detector pixels under it, weighted by the area they share with it.

Rings are measured on a raster twice as fine, where the detector has as many pixels: narrow rings and reflections fill
less than a view pixel.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import COUNT_KINDS, Frame, Geometry, InvalidValues, plain_array
from dvfb_stream.invalid_pixels import PILATUS_MARKERS, InvalidPixels, invalid_pixels
from dvfb_stream.shown_part import longer_side, shown_part, span
from dvfb_stream.view.bands import Areas
from dvfb_stream.view.count_scale import COUNTS, CountScale, ScaleSource, count_scale
from dvfb_stream.view.masked_sums import FrameSums, Sums
from dvfb_stream.view.straightening import NEGLIGIBLE_DEPARTURE, Straightening

VIEW_SIZE = 256
"""Side of the view in pixels, the paper's."""

FULL_SCALE = math.log1p(65535.0)
"""log(1 + I) of a 16-bit detector's maximum: the authors' normalisation."""

MAXIMUM = 255.0
"""Image value of that maximum; the scale on which the penalty of (9) is stated."""


FINER = 2
"""Pixels of the finer raster along the side of a view pixel, where the detector's pixels"""

LEAST_DETAIL = 0.9
"""are not larger than they by more than a tenth: of larger ones, neighbours would show the same counts."""


@dataclass(frozen=True, slots=True, eq=False)
class FineView:
    """A frame as its rings are measured."""

    counts: NDArray[np.float32]
    """(size, size) mean counts of the detector pixels under each pixel; 0 where invalid."""
    mask: NDArray[np.bool_]
    """(size, size), True = valid."""

    @classmethod
    def of(cls, image: NDArray[np.float32], mask: NDArray[np.bool_]) -> FineView:
        """Return the raster of a view that has nothing finer beneath it."""
        return cls(np.where(mask, counts_of(image), np.float32(0)), mask)


@dataclass(frozen=True, slots=True, eq=False)
class FineRaster:
    """Where the pixels of a geometry's finer raster lie."""

    mask: NDArray[np.bool_]
    """(size, size), True = valid under the geometry's mask."""
    center_x: float
    """Direct beam in its pixels; pixel centres at integers."""
    center_y: float
    area: float
    """Detector pixels under each of its pixels."""
    step: float
    """Side of its pixels in units of `VIEW_SIZE` to the detector's `span`: nearly a view pixel over their number."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A frame as the networks see it."""

    image: NDArray[np.float32]
    """(VIEW_SIZE, VIEW_SIZE): 255 · log(1 + mean counts) / log 65536; 0 where invalid."""
    mask: NDArray[np.bool_]
    """(VIEW_SIZE, VIEW_SIZE), True = valid."""
    center_x: float
    """Direct beam in view pixels; pixel centres at integers."""
    center_y: float
    fine: FineView
    masked_pixels: int = 0
    """Detector pixels that are not in it: those of the geometry's mask, and those marked by their value."""
    counts: float = math.inf
    """Of all the pixels that are in it."""
    scale: CountScale = COUNTS
    """What was taken for one count."""


class ViewResampler:
    """The resampling of one geometry: where its pixels go, which view pixels are valid, where the centre lies.

    Parameters
    ----------
    geometry
        Geometry of the frames.
    size
        Side of the view.

    Attributes
    ----------
    center_x, center_y
        Direct beam in view pixels.
    scale_x, scale_y
        Detector pixels per view pixel along each axis. They differ where pixels are not square: a view pixel is as
        wide as it is high on the detector, so that circles stay circles.
    """

    def __init__(self, geometry: Geometry, size: int = VIEW_SIZE) -> None:
        self.geometry = geometry
        self.size = size
        self._part = shown_part(geometry)
        self._shown = shown = self._part.geometry(geometry)
        rows, columns = shown.shape
        scale = longer_side(shown.shape, shown.pixel_aspect) / size
        self.scale_x, self.scale_y = scale, scale / shown.pixel_aspect
        top, left = (size - rows / self.scale_y) / 2, (size - columns / self.scale_x) / 2
        # Edges, not centres, are what scaling keeps in place: the first pixel's edge lies at -1/2.
        self.center_x = (shown.center_x + 0.5) / self.scale_x + left - 0.5
        self.center_y = (shown.center_y + 0.5) / self.scale_y + top - 0.5
        self._rules: dict[np.dtype[Any], InvalidPixels] = {}
        self._finer = finer = FINER if scale >= LEAST_DETAIL * FINER else 1
        areas = Areas(shown.shape, self.scale_y / finer, self.scale_x / finer, size * finer)
        self._sums = FrameSums(shown.mask, areas, finer=finer)
        self._straightening, self._fine_straightening = self._straightens(1), self._straightens(finer)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds at most, its geometry's mask included."""
        whole = self.geometry.mask
        # The mask of what is shown is counted with the sums.
        mask = 0 if whole is None or self._shown is self.geometry else int(whole.nbytes)
        straightening = (self._straightening, self._fine_straightening)
        return self._sums.nbytes + mask + sum(0 if one is None else one.nbytes for one in straightening)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(size, size), True = valid under the geometry's mask; a single frame may lose more."""
        mask = self._sums.coverage.view.mask
        return mask if self._straightening is None else self._straightening.mask(mask)

    @functools.cached_property
    def fine(self) -> FineRaster:
        """The finer raster."""
        mask, finer = self._sums.coverage.fine.mask, self._finer
        return FineRaster(
            mask if self._fine_straightening is None else self._fine_straightening.mask(mask),
            (self.center_x + 0.5) * finer - 0.5,
            (self.center_y + 0.5) * finer - 0.5,
            self.scale_x * self.scale_y / finer**2,
            self.scale_x
            / finer
            * self.size
            / span(self._shown.shape, self._shown.pixel_aspect, self._shown.mask),
        )

    def _straightens(self, finer: int) -> Straightening | None:
        """Return what makes circles of rings, where they are not nearly circles on the detector."""
        tilt, (rows, columns) = self._shown.tilt, self._shown.shape
        if tilt is None:
            return None
        x, y = self._shown.center_x, self._shown.center_y
        farthest = math.hypot(
            max(abs(x), abs(columns - x)), max(abs(y), abs(rows - y)) * self.geometry.pixel_aspect
        )
        if tilt.departure(farthest) < NEGLIGIBLE_DEPARTURE * self.scale_x:
            return None
        x, y = ((centre + 0.5) * finer - 0.5 for centre in (self.center_x, self.center_y))
        return Straightening(tilt, x, y, self.scale_x / finer, self.size * finer)

    @property
    def covered_pixels(self) -> NDArray[np.float32]:
        """(size, size) detector pixels' worth of valid area under each view pixel in the mask; infinite outside."""
        return self._sums.coverage.view.area

    def view(self, pixels: NDArray[Any]) -> View:
        """Return the view of a frame of this geometry.

        Parameters
        ----------
        pixels
            (rows, columns), integer or floating. `dvfb_stream.invalid_pixels` says which values are no counts.

        Raises
        ------
        FrameError
            When the shape or type is wrong, a valid pixel is too large for float32, or none is valid.
        """
        pixels = self._checked(pixels)
        n_pixels, pixels = pixels.size, self._part.of(pixels)
        rules = self._rules.get(pixels.dtype)
        if rules is None:
            rules = self._rules[pixels.dtype] = invalid_pixels(pixels.dtype, self.geometry.invalid_values)
        sums = self._sums.of(pixels, rules)
        again = rules.reconsidered(sums.least, sums.greatest)
        if again is not None:
            sums = self._sums.of(pixels, rules := again)
        scale = self._scale(pixels, rules, sums)
        if _holds_scaled_markers(scale, sums.least):
            rules = invalid_pixels(pixels.dtype, self._with_markers(scale.unit))
            sums = self._sums.of(pixels, rules)
        mask = sums.coverage.view.mask
        masked = n_pixels - sums.n_valid
        if not mask.any():
            raise FrameError(
                f"no valid pixel is left: {masked} of {n_pixels} are masked or invalid by their value; check "
                "the mask (in a mask file 1 means masked, in Geometry(mask=) True means valid) and what the detector "
                "writes where there is no count (--dummy, invalid_values)"
            )
        image, fine = sums.total, sums.fine
        if scale.unit != 1:
            image /= scale.unit
            fine /= scale.unit
        counts = float(image.sum())
        image /= sums.coverage.view.area
        fine /= sums.coverage.fine.area
        fine_mask = sums.coverage.fine.mask
        if not np.isfinite(image).all():
            raise FrameError(
                f"pixels reach {self._greatest(pixels, rules):g}, too large for counts; "
                "check the type and byte order of the file"
            )
        if sums.least < 0:
            # Less was counted than was subtracted.
            np.maximum(image, 0, out=image)
            np.maximum(fine, 0, out=fine)
        if self._straightening is not None and self._fine_straightening is not None:
            image, mask = self._straightening.image(image, mask)
            fine, fine_mask = self._fine_straightening.image(fine, fine_mask)
            if not (mask.any() and fine_mask.any()):
                raise FrameError(
                    f"no valid pixel is left of the frame once its tilt, {self.geometry.tilt}, is taken out; check "
                    "the angles and the distance"
                )
        np.log1p(image, out=image)
        image *= MAXIMUM / FULL_SCALE
        return View(
            image, mask, self.center_x, self.center_y, FineView(fine, fine_mask), masked, counts, scale
        )

    def _scale(self, pixels: NDArray[Any], rules: InvalidPixels, sums: Sums) -> CountScale:
        stated = self.geometry.counts_per_unit
        if stated is not None:
            return CountScale(1 / stated, ScaleSource.STATED)
        return count_scale(pixels, self._shown.mask, rules, least=sums.least, greatest=sums.greatest)

    def _with_markers(self, unit: float) -> InvalidValues:
        """Return the declared invalid values and the marks of Pilatus, scaled."""
        declared = self.geometry.invalid_values or InvalidValues()
        scaled = tuple(marker * unit for marker in PILATUS_MARKERS)
        return replace(declared, values=(*declared.values, *scaled), delta=max(declared.delta, 1e-4 * unit))

    def _checked(self, pixels: NDArray[Any]) -> NDArray[Any]:
        try:
            pixels = plain_array(pixels)
        except ValueError as error:  # rows of unequal length
            raise FrameError(f"pixels must be an array of {self.geometry.shape}: {error}") from error
        if pixels.shape != self.geometry.shape:
            raise FrameError(
                f"the frame has shape {pixels.shape}, but its geometry says {self.geometry.shape}; "
                "check which detector the geometry describes"
            )
        if pixels.dtype.kind not in COUNT_KINDS:
            raise FrameError(f"pixels must be integer or floating, not {pixels.dtype}")
        return pixels

    def _greatest(self, pixels: NDArray[Any], rules: InvalidPixels) -> Any:
        valid = rules.valid(pixels)
        if self._shown.mask is not None:
            valid &= self._shown.mask
        return np.max(pixels, where=valid, initial=0)


def _holds_scaled_markers(scale: CountScale, least: float) -> bool:
    """Whether the least value of a frame is -1 or -2 counts: marks of Pilatus that were scaled with the counts.

    From the counts of a frame that holds lesser values something was subtracted.
    """
    return (
        scale.unit != 1
        and scale.source in (ScaleSource.STEPS, ScaleSource.STATED)
        and any(math.isclose(least, marker * scale.unit, rel_tol=1e-4) for marker in PILATUS_MARKERS)
    )


class ViewResamplers:
    """Resamplers of the geometries seen last, bounded in bytes; safe to share between threads.

    Parameters
    ----------
    max_bytes
        Bound on the sum of `ViewResampler.nbytes`; the resampler asked for last is kept in any case. One takes half a
        megabyte and its geometry's mask, a byte for each pixel.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self._kept: BoundedCache[str, ViewResampler] = BoundedCache(max_bytes=max_bytes)

    def get(self, geometry: Geometry) -> ViewResampler:
        """Return the resampler of `geometry`."""
        return self._kept.get_or_make(
            geometry.digest, lambda: ViewResampler(geometry), n_bytes_of=lambda resampler: resampler.nbytes
        )


def counts_of(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean counts of the detector pixels under each pixel of views, of the shape given."""
    return np.asarray(np.expm1(images * np.float32(FULL_SCALE / MAXIMUM)))


def make_view(frame: Frame) -> View:
    """Return the view of one frame; for many of one geometry keep a `ViewResampler`.

    Raises
    ------
    FrameError
        As `ViewResampler.view`.
    """
    return ViewResampler(frame.geometry).view(frame.pixels)
