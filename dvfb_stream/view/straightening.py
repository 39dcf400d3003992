"""Turns the view of a tilted detector into that of one across the beam, on which rings are circles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dvfb_stream.tilt import Tilt

NEGLIGIBLE_DEPARTURE = 8.0
"""View pixels that rings may depart from circles before a view is straightened. Models are fitted to tilted
detectors, too: up to here labels change as little without it, and interpolation blurs the noise."""

LEAST_WEIGHT = 0.5 - 1e-5
"""Share of the four neighbours, by their weights, that must be valid: half, so that masked areas keep their size."""


class Straightening:
    """Interpolates a view where its pixels would lie on a detector across the beam.

    Parameters
    ----------
    tilt
        Of the detector.
    center_x, center_y
        Direct beam in view pixels, which stays where it is.
    scale
        Widths of a detector's pixel in a view pixel.
    size
        Side of the view.
    """

    def __init__(self, tilt: Tilt, center_x: float, center_y: float, scale: float, size: int) -> None:
        self._size = size
        rows, columns = np.indices((size, size), dtype=float)
        x, y = tilt.tilted((columns - center_x) * scale, (rows - center_y) * scale)
        columns, rows = x.ravel() / scale + center_x, y.ravel() / scale + center_y
        left, top = np.floor(columns), np.floor(rows)
        across, down = columns - left, rows - top
        places, sources, weights = [], [], []
        for step_x, part_x in ((0, 1 - across), (1, across)):
            for step_y, part_y in ((0, 1 - down), (1, down)):
                column, row = left + step_x, top + step_y
                # Neither holds where a view pixel has no place on the detector.
                inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
                places.append(np.flatnonzero(inside))
                sources.append((row[inside] * size + column[inside]).astype(np.intp))
                weights.append((part_x * part_y)[inside])
        self._weights = csr_array(
            (np.concatenate(weights).astype(np.float32), (np.concatenate(places), np.concatenate(sources))),
            shape=(size * size, size * size),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        parts = (self._weights.data, self._weights.indices, self._weights.indptr)
        return sum(int(part.nbytes) for part in parts)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask of the straightened view, given that of the view."""
        return self._summed(mask) >= LEAST_WEIGHT

    def image(
        self, image: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return image and mask of the straightened view: means of the valid neighbours, 0 where there are too few.

        Parameters
        ----------
        image
            (size, size), 0 outside the mask.
        mask
            (size, size), True = valid.
        """
        weight = self._summed(mask)
        valid = weight >= LEAST_WEIGHT
        mean = np.divide(self._summed(image), weight, out=np.zeros_like(image), where=valid)
        return mean, valid

    def _summed(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        summed: NDArray[np.float32] = self._weights @ values.ravel().astype(np.float32)
        return summed.reshape(self._size, self._size)
