"""What the networks see of a frame: a square log-intensity image with its own mask and beam centre.

Any detector becomes one size: the frame is scaled, keeping its proportions, until its longer side fills the view,
and laid in the middle; what it does not cover is invalid. Each view pixel is the mean of the valid detector pixels
under it, weighted by the area they share with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import COUNT_KINDS, Frame, Geometry
from dvfb_stream.invalid_pixels import invalid_pixels

VIEW_SIZE = 256
"""Side of the view in pixels, the paper's."""

FULL_SCALE = math.log1p(65535.0)
"""log(1 + I) of a 16-bit detector's maximum: the authors' normalisation."""

MAXIMUM = 255.0
"""Image value of that maximum; the scale on which the penalty of (9) is stated."""

LEAST_COVERAGE = 0.25
"""Share of the frame's area under a view pixel that must be valid. Scattered dead pixels leave more, so that frames
of one geometry keep one mask; of a gap seven pixels wide between two modules of a 1-megapixel detector at least one
view pixel across keeps less, so that the gap stays visible."""

ROUNDING = 1e-5
"""Of the overlaps in float32: exactly a quarter is enough, and touching is not overlapping."""


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
    masked_pixels: int = 0
    """Detector pixels that are not in it: those of the geometry's mask, and those marked by their value."""


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
    scale
        Detector pixels per view pixel, along either axis.
    """

    def __init__(self, geometry: Geometry, size: int = VIEW_SIZE) -> None:
        self.geometry = geometry
        self.size = size
        rows, columns = geometry.shape
        self.scale = max(rows, columns) / size
        top, left = (size - rows / self.scale) / 2, (size - columns / self.scale) / 2
        # Edges, not centres, are what scaling keeps in place: the first pixel's edge lies at -1/2.
        self.center_x = (geometry.center_x + 0.5) / self.scale + left - 0.5
        self.center_y = (geometry.center_y + 0.5) / self.scale + top - 0.5
        self._down = _overlap(rows, self.scale, top, size)
        self._across = _overlap(columns, self.scale, left, size)
        self._area = self._sum(np.ones(geometry.shape, dtype=np.float32))

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, its geometry's mask and what it will have computed included."""
        mask = self.geometry.mask
        overlaps: int = sum(
            part.nbytes for overlap in (self._down, self._across) for part in (overlap.data, overlap.indices)
        )
        return (
            2 * int(self._area.nbytes)
            + self.size**2
            + overlaps
            + (0 if mask is None else int(mask.nbytes + self._masked.nbytes))
        )

    @cached_property
    def _masked(self) -> NDArray[np.intp]:
        """Places, in C order, of the pixels outside the geometry's mask."""
        mask = self.geometry.mask
        return np.empty(0, np.intp) if mask is None else np.flatnonzero(~mask)

    @cached_property
    def _coverage(self) -> NDArray[np.float32]:
        """Detector pixels' worth of valid area under each view pixel, for the geometry's mask alone."""
        return self._sum(self._static_validity.astype(np.float32))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(size, size), True = valid under the geometry's mask; a single frame may lose more."""
        return self._covered(self._coverage)

    def _covered(self, coverage: NDArray[np.float32]) -> NDArray[np.bool_]:
        covered: NDArray[np.bool_] = coverage > (LEAST_COVERAGE - ROUNDING) * self._area
        return covered & (self._area > ROUNDING)

    @property
    def _static_validity(self) -> NDArray[np.bool_]:
        mask = self.geometry.mask
        return np.ones(self.geometry.shape, dtype=bool) if mask is None else mask

    def _sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Integrate (rows, columns) over the area of each view pixel."""
        across: NDArray[np.float32] = (self._across @ (self._down @ values).T).T
        return across

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
        try:
            pixels = np.asarray(pixels)
        except ValueError as error:  # rows of unequal length
            raise FrameError(f"pixels must be an array of {self.geometry.shape}: {error}") from error
        if pixels.shape != self.geometry.shape:
            raise FrameError(
                f"the frame has shape {pixels.shape}, but its geometry says {self.geometry.shape}; "
                "check which detector the geometry describes"
            )
        if pixels.dtype.kind not in COUNT_KINDS:
            raise FrameError(f"pixels must be integer or floating, not {pixels.dtype}")
        counts = self._as_counts(pixels)
        rules = invalid_pixels(pixels.dtype, self.geometry.invalid_values)
        least, greatest = float(counts.min()), float(counts.max())
        if not rules.may_hold(least, greatest) and rules.reconsidered(least, greatest) is None:
            valid, coverage, mask = self._static_validity, self._coverage, self.mask
        else:
            valid = self._static_validity & rules.valid(pixels)
            again = rules.reconsidered(*_range(counts, valid))
            if again is not None:
                valid = self._static_validity & again.valid(pixels)
            coverage = self._sum(valid.astype(np.float32))
            mask = self._covered(coverage)
            counts[~valid] = 0
        masked = pixels.size - int(np.count_nonzero(valid))
        if not mask.any():
            raise FrameError(
                f"no valid pixel is left: {masked} of {pixels.size} are masked or invalid by their value; check "
                "the mask (in a mask file 1 means masked, in Geometry(mask=) True means valid) and what the detector "
                "writes where there is no count (--dummy, invalid_values)"
            )
        mean = self._sum(counts)
        if not np.isfinite(mean).all():
            raise FrameError(
                f"pixels reach {np.max(pixels, where=valid, initial=0):g}, too large for counts; "
                "check the type and byte order of the file"
            )
        np.divide(mean, coverage, out=mean, where=mask)
        image = np.where(mask, np.log1p(np.maximum(mean, 0)) * (MAXIMUM / FULL_SCALE), np.float32(0)).astype(
            np.float32
        )
        return View(image, mask, self.center_x, self.center_y, masked)

    def _as_counts(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return pixels as they are, those outside the mask 0; four times as fast as a choice pixel by pixel."""
        counts = np.empty(pixels.shape, np.float32)
        # What is too large is told apart later, with a reason for the frame's row.
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(counts, pixels, casting="unsafe")
        counts.reshape(-1)[self._masked] = 0
        return counts


def _range(counts: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the least and the greatest of the valid values, and of 0."""
    values = np.where(valid, counts, np.float32(0))
    return float(values.min()), float(values.max())


def _overlap(length: int, scale: float, offset: float, size: int) -> csr_array:
    """Length that each of `length` pixels shares with each of `size` view pixels, in detector pixels."""
    starts = (np.arange(size) - offset) * scale
    first = np.clip(np.floor(starts), 0, length).astype(int)
    last = np.clip(np.ceil(starts + scale), 0, length).astype(int)
    view_index = np.repeat(np.arange(size), last - first)
    pixel_index = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    shared = np.minimum(pixel_index + 1, starts[view_index] + scale) - np.maximum(
        pixel_index, starts[view_index]
    )
    return csr_array(
        (np.clip(shared, 0, None).astype(np.float32), (view_index, pixel_index)), shape=(size, length)
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
        self._kept: BoundedCache[Geometry, ViewResampler] = BoundedCache(max_bytes=max_bytes)

    def get(self, geometry: Geometry) -> ViewResampler:
        """Return the resampler of `geometry`."""
        return self._kept.get_or_make(
            geometry, lambda: ViewResampler(geometry), n_bytes_of=lambda resampler: resampler.nbytes
        )


def make_view(frame: Frame) -> View:
    """Return the view of one frame; for many of one geometry keep a `ViewResampler`.

    Raises
    ------
    FrameError
        As `ViewResampler.view`.
    """
    return ViewResampler(frame.geometry).view(frame.pixels)
