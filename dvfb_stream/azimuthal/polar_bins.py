"""Pixels of a view's finer raster gathered into sectors of rings around the beam.

Radii are in units of which the detector's span has 256: view pixels, were the detector as wide as it is long and not
turned. So a pattern lies at the same radii however the detector is turned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

SECTORS = 72
"""Of 5 degrees, the first around azimuth 0: no flip or quarter turn cuts one, and twelve harmonics are told apart."""
HALF = SECTORS // 2
AZIMUTHS = np.arange(SECTORS) * (2 * np.pi / SECTORS)
"""Middles of the sectors."""
RING_WIDTH = 2.0
"""Units: from 6 on each sector of a ring holds a pixel that is as large as a unit."""
NARROW_WIDTH = 1.0
"""Of rings within `NARROW_WITHIN`, where the raster's pixels are at most `FINE` units: reflections near the beam are
narrower than a view pixel. Farther out, haloes and rings of powders are wide, and there is more to count."""
NARROW_WITHIN = 64.0
FINE = 0.75
STEEPEST = 0.7
"""Slope of the logarithm over a unit: a power law of exponent -4 at 6 units."""


class PolarBins:
    """The sectors of one geometry's views.

    Parameters
    ----------
    mask
        (rows, columns) of the raster, True = valid.
    center_x, center_y
        Direct beam in its pixels; pixel centres at integers.
    step
        Units along the side of a pixel.

    Attributes
    ----------
    radii
        (R,) mean radius of each ring's valid pixels in units, ascending.
    widths
        (R,) of the rings.
    pixels
        (R, 72) valid pixels in each sector.
    """

    def __init__(
        self, mask: NDArray[np.bool_], center_x: float, center_y: float, *, step: float = 1.0
    ) -> None:
        rows, columns = mask.shape
        y, x = np.arange(rows)[:, None], np.arange(columns)
        radius = np.hypot(x - center_x, y - center_y)[mask] * step
        azimuth = np.arctan2(y - center_y, x - center_x)[mask]
        ring = (radius / RING_WIDTH).astype(int)
        if step <= FINE:
            narrow = radius < NARROW_WITHIN
            ring[narrow] = radius[narrow] / NARROW_WIDTH
            ring[~narrow] += int(NARROW_WITHIN / NARROW_WIDTH - NARROW_WITHIN / RING_WIDTH)
        _, ring = np.unique(ring, return_inverse=True)
        rings = int(ring.max()) + 1
        sector = np.rint(azimuth * (SECTORS / (2 * np.pi))).astype(int) % SECTORS
        bins = ring * SECTORS + sector
        shape = (rings, SECTORS)
        self.pixels = np.bincount(bins, minlength=rings * SECTORS).reshape(shape).astype(float)
        sums = np.bincount(bins, weights=radius, minlength=rings * SECTORS).reshape(shape)
        self.radii = sums.sum(axis=1) / self.pixels.sum(axis=1)
        narrowest = NARROW_WIDTH if step <= FINE else RING_WIDTH
        self.widths = np.where(self.radii < NARROW_WITHIN, narrowest, RING_WIDTH)
        seen = self.pixels > 0
        means = np.divide(sums, self.pixels, out=np.zeros(shape), where=seen)
        self._off = np.where(seen, means - self.radii[:, None], 0.0).astype(np.float32)
        self._per_pixel = np.divide(1, self.pixels, out=np.zeros(shape), where=seen).astype(np.float32)
        self._gather = csr_array(
            (np.ones(len(bins), np.float32), (bins, np.flatnonzero(mask))), shape=(rings * SECTORS, mask.size)
        )

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        gather = self._gather
        arrays = (
            self.pixels,
            self.radii,
            self._off,
            self._per_pixel,
            gather.data,
            gather.indices,
            gather.indptr,
        )
        return sum(array.nbytes for array in arrays)

    def means(self, counts: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the mean of each ring and of each sector.

        A sector's pixels lie somewhat nearer to the beam or farther from it than the ring's do; where intensity falls
        steeply that alone would look like anisotropy, and is taken out by the slope between rings.

        Parameters
        ----------
        counts
            B of (rows, columns), anything where the mask is False.

        Returns
        -------
        tuple
            (B, R), (B, R, 72); 0 where no pixel is valid.
        """
        # One by one: side by side they would have to be transposed, which takes longer.
        sums = np.stack([self._gather @ one.ravel() for one in counts]).reshape(-1, *self.pixels.shape)
        ring = sums.sum(axis=2, dtype=float) / self.pixels.sum(axis=1)
        steepness = slopes(ring, self.radii).astype(np.float32)
        return ring, sums * self._per_pixel * np.exp(-steepness[:, :, None] * self._off)


def slopes(ring: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d ln I / d r of the means of rings, (B, R); 0 where nothing was counted."""
    if len(radii) < 3:
        return np.zeros_like(ring)
    logarithm = np.log(np.maximum(ring, np.finfo(float).tiny))
    found = np.empty_like(ring)
    found[:, 1:-1] = (logarithm[:, 2:] - logarithm[:, :-2]) / (radii[2:] - radii[:-2])
    found[:, 0] = (logarithm[:, 1] - logarithm[:, 0]) / (radii[1] - radii[0])
    found[:, -1] = (logarithm[:, -1] - logarithm[:, -2]) / (radii[-1] - radii[-2])
    np.clip(found, -STEEPEST, STEEPEST, out=found)
    found[ring <= 0] = 0
    return found
