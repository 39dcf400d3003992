"""Which pixels of a frame are left out, prepared so that leaving them out takes next to no time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.invalid_pixels import InvalidPixels
from dvfb_stream.view.bands import Areas, Band

LEAST_COVERAGE = 0.25
"""Share of the frame's area under a view pixel that must be valid. Scattered dead pixels leave more, so that frames
of one geometry keep one mask; of a gap seven pixels wide between two modules of a 1-megapixel detector at least one
view pixel across keeps less, so that the gap stays visible."""

ROUNDING = 1e-5
"""Of the overlaps in float32, as a share: exactly a quarter is enough, and touching is not overlapping."""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What is left of the view under some valid pixels."""

    mask: NDArray[np.bool_]
    """(size, size), True = valid."""
    area: NDArray[np.float32]
    """(size, size), of the valid pixels under each view pixel, in detector pixels; infinite outside the mask, so that
    a mean is 0 there."""

    @classmethod
    def of(cls, valid: NDArray[np.float32], whole: NDArray[np.float32]) -> Coverage:
        """Return what valid pixels leave, given their area in each view pixel and the frame's."""
        covered = (valid > (LEAST_COVERAGE - ROUNDING) * whole) & (whole > ROUNDING * whole.max())
        mask = np.ascontiguousarray(covered)
        area = np.full(valid.shape, np.inf, np.float32)
        np.copyto(area, valid, where=covered)
        return cls(mask, area)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.mask.nbytes + self.area.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class BandMasking:
    """Which pixels of a band are left out."""

    valid: NDArray[np.bool_] | None
    """(rows, columns); None: all are."""
    rows: tuple[slice, ...]
    """Runs of rows of which none is valid."""
    places: NDArray[np.intp]
    """In C order, of the other pixels that are not valid."""
    n_valid: int
    """Valid pixels of the band's own rows."""

    @classmethod
    def of(cls, band: Band, valid: NDArray[np.bool_] | None, columns: int) -> BandMasking:
        """Prepare the masking of a band by (rows, columns) of a whole frame; None: all are valid."""
        if valid is None:
            return cls(None, (), np.empty(0, np.intp), (band.own.stop - band.own.start) * columns)
        valid = valid[band.rows]
        empty = ~valid.any(axis=1)
        edges = np.flatnonzero(np.diff(empty, prepend=False, append=False))
        runs = tuple(slice(int(first), int(last)) for first, last in edges.reshape(-1, 2))
        places = np.flatnonzero(~(valid | empty[:, None]))
        return cls(valid, runs, places, int(np.count_nonzero(valid[band.own])))

    def clear(self, counts: NDArray[np.float32]) -> None:
        """Set what is left out to 0: the gaps between modules row by row, other pixels one by one."""
        for run in self.rows:
            counts[run] = 0
        counts.reshape(-1)[self.places] = 0


@dataclass(frozen=True, slots=True, eq=False)
class Masking:
    """Which pixels of a frame are left out, band by band, and what that leaves of the view."""

    bands: tuple[BandMasking, ...]
    coverage: Coverage

    @classmethod
    def of(cls, areas: Areas, valid: NDArray[np.bool_] | None, coverage: Coverage) -> Masking:
        """Prepare the masking by (rows, columns) of a frame; None: all pixels are valid."""
        columns = areas.shape[1]
        return cls(tuple(BandMasking.of(band, valid, columns) for band in areas.bands), coverage)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, but for the mask it was made of."""
        return self.coverage.nbytes + sum(int(band.places.nbytes) for band in self.bands)


def all_marked(
    part: NDArray[np.generic],
    rules: InvalidPixels,
    guess: BandMasking,
    certain: BandMasking,
) -> bool:
    """Return whether the pixels that one masking leaves out and another does not hold no counts, all of them.

    Parameters
    ----------
    part
        (rows, columns) of the band, as they came.
    rules
        Which values are no counts.
    guess, certain
        What is left out of the band: because earlier frames held no counts there, and because the geometry says so.
    """
    for run in guess.rows:
        if rules.marks_all(part[run].min(), part[run].max()):
            continue
        counts = rules.valid(part[run])
        if certain.valid is not None:
            counts &= certain.valid[run]
        if counts.any():
            return False
    if not len(guess.places):
        return True
    counts = rules.valid(part.reshape(-1)[guess.places])
    if certain.valid is not None:
        counts &= certain.valid.reshape(-1)[guess.places]
    return not counts.any()
