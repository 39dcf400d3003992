"""Adds up the pixels of a frame under each pixel of a view, and of a finer raster beneath it, reading them once.

Band by band of rows, pixels are converted, checked for values that are no counts, and added up while they are in a
core's cache; what is left has as many rows as the raster and is small. Frames of one detector mostly lack the same
pixels: those of the last frame that differed are left out at once, and only looked at to see that they still are
no counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.invalid_pixels import InvalidPixels
from dvfb_stream.view.bands import Areas, Band

LARGEST_FINITE = 0x7F7FFFFF
"""Bits of the greatest finite float32, as an unsigned integer. Those of negative numbers, infinities and NaN are
greater, those of other numbers in the order of the numbers: one maximum tells all."""

FRAMES_BEFORE_ANEW = 16
"""Frames that lack other pixels than expected until those of one of them are expected: preparing that takes as long
as a frame, so that at worst a frame in 16 takes twice its time."""

MOST_PLACES = 1 / 16
"""Share of the pixels that are expected to be no counts one by one, rows of gaps aside: 8 bytes each."""

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
class Coverages:
    """What is left of the view and of the finer raster beneath it."""

    view: Coverage
    fine: Coverage
    """The same one where the raster is no finer."""

    @classmethod
    def of(cls, valid: NDArray[np.float32], whole: NDArray[np.float32], finer: int) -> Coverages:
        """Return what valid pixels leave, given their area in each pixel of the finer raster and the frame's."""
        fine = Coverage.of(valid, whole)
        if finer == 1:
            return cls(fine, fine)
        return cls(Coverage.of(in_blocks(valid, finer), in_blocks(whole, finer)), fine)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.view.nbytes + (0 if self.fine is self.view else self.fine.nbytes)


def in_blocks(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the sums over blocks of side x side."""
    rows = sum((values[start::side] for start in range(1, side)), values[::side])
    # Strided sums: to reduce over axes as short as these takes ten times as long.
    return np.asarray(sum((rows[:, start::side] for start in range(1, side)), rows[:, ::side]))


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
        empty = np.logical_not(valid.any(axis=1))
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
    coverage: Coverages

    @classmethod
    def of(cls, areas: Areas, valid: NDArray[np.bool_] | None, coverage: Coverages) -> Masking:
        """Prepare the masking by (rows, columns) of a frame; None: all pixels are valid."""
        columns = areas.shape[1]
        return cls(tuple(BandMasking.of(band, valid, columns) for band in areas.bands), coverage)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, but for the mask it was made of."""
        return self.coverage.nbytes + sum(int(band.places.nbytes) for band in self.bands)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What the valid pixels of a frame add up to."""

    fine: NDArray[np.float32]
    """(finer size, finer size) their integral over each pixel of the finer raster: counts times shared area in
    detector pixels."""
    total: NDArray[np.float32]
    """(size, size) the same of the view; not the same array."""
    coverage: Coverages
    n_valid: int
    """How many they are."""
    least: float
    """Of their values and 0."""
    greatest: float


class FrameSums:
    """Adds up frames of one geometry; safe to share between threads.

    Parameters
    ----------
    mask
        Boolean, True = valid; None: all are. It is not copied.
    areas
        How pixels fall on those of a raster as fine as the view, or finer.
    finer
        Pixels of that raster along the side of a view pixel.
    """

    def __init__(self, mask: NDArray[np.bool_] | None, areas: Areas, *, finer: int = 1) -> None:
        self._mask, self._areas, self._finer = mask, areas, finer
        self._whole = areas.of(np.ones(areas.shape))
        valid = self._whole if mask is None else areas.of(mask)
        self._certain = Masking.of(areas, mask, Coverages.of(valid, self._whole, finer))
        self._expected = self._certain
        self._unexpected = 0
        self._spare: list[_Memory] = []

    @property
    def coverage(self) -> Coverages:
        """What the geometry's mask alone leaves."""
        return self._certain.coverage

    @property
    def nbytes(self) -> int:
        """Bytes that it holds at most, the mask and the memory for one frame included."""
        rows, columns = self._areas.shape
        expected = int(rows * columns * (1 + 8 * MOST_PLACES)) + self.coverage.nbytes
        mask = 0 if self._mask is None else int(self._mask.nbytes)
        memory = 4 * columns * (self._areas.most_rows + self._areas.size)
        return int(mask + self._certain.nbytes + expected + memory + self._areas.nbytes + self._whole.nbytes)

    def of(self, pixels: NDArray[Any], rules: InvalidPixels) -> Sums:
        """Add up the pixels of a frame that are in the mask and hold counts.

        Parameters
        ----------
        pixels
            (rows, columns), integer or floating, of any byte order and layout. What is too large for single
            precision counts as infinite.
        rules
            Which values are no counts.
        """
        expected = self._expected
        lowest, highest = rules.unmarked()
        n_valid, least, greatest = 0, 0.0, 0.0
        differing: dict[int, NDArray[np.bool_]] = {}
        memory = self._spare.pop() if self._spare else _Memory.of(self._areas)
        # Infinities are told apart where there is a reason for the frame's row to be given.
        with np.errstate(over="ignore", invalid="ignore"):
            for number, band in enumerate(self._areas.bands):
                part = pixels[band.rows]
                counts = memory.band[: len(part)]
                masking = expected.bands[number]
                np.copyto(counts, part, casting="unsafe")
                masking.clear(counts)
                low, high = _range(counts)
                # No number lies between them where there is a NaN.
                if lowest < low and high < highest and self._as_expected(part, rules, masking, number):
                    n_valid += masking.n_valid
                else:
                    valid = differing[number] = self._valid(part, rules, number)
                    np.copyto(counts, part, casting="unsafe")
                    np.copyto(counts, 0, where=~valid)
                    low, high = _range(counts)
                    n_valid += int(np.count_nonzero(valid[band.own]))
                least, greatest = min(least, low), max(greatest, high)
                for block in band.blocks:
                    np.matmul(block.lengths, counts[block.pixels], out=memory.summed[block.view])
            fine = self._areas.over_columns(memory.summed)
            total = fine.copy() if self._finer == 1 else in_blocks(fine, self._finer)
        self._spare.append(memory)
        coverage = self._coverage(differing, expected) if differing else expected.coverage
        return Sums(fine, total, coverage, n_valid, least, greatest)

    def _as_expected(
        self, part: NDArray[Any], rules: InvalidPixels, masking: BandMasking, number: int
    ) -> bool:
        """Whether what is left out of a band, of which the rest holds counts, holds none."""
        certain = self._certain.bands[number]
        return masking is certain or _all_marked(part, rules, masking, certain)

    def _valid(self, part: NDArray[Any], rules: InvalidPixels, number: int) -> NDArray[np.bool_]:
        """Return which pixels of a band are in the mask and hold counts."""
        valid = rules.valid(part)
        mask = self._certain.bands[number].valid
        if mask is not None:
            valid &= mask
        return valid

    def _coverage(self, differing: dict[int, NDArray[np.bool_]], expected: Masking) -> Coverages:
        """Return what a frame leaves, given the valid pixels of bands that are not as expected."""
        valid = np.ones(self._areas.shape, dtype=bool)
        for number, (band, masking) in enumerate(zip(self._areas.bands, expected.bands, strict=True)):
            if number in differing:
                valid[band.rows] = differing[number]
            elif masking.valid is not None:
                valid[band.rows] = masking.valid
        coverage = Coverages.of(self._areas.of(valid), self._whole, self._finer)
        if self._unexpected % FRAMES_BEFORE_ANEW == 0:
            anew = Masking.of(self._areas, valid, coverage)
            if sum(len(band.places) for band in anew.bands) <= MOST_PLACES * valid.size:
                self._expected = anew
        self._unexpected += 1
        return coverage


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """What one frame needs while it is added up; kept for the next."""

    band: NDArray[np.float32]
    """(most rows of a band, columns)."""
    summed: NDArray[np.float32]
    """(size, columns); what no band writes to stays 0."""

    @classmethod
    def of(cls, areas: Areas) -> _Memory:
        columns = areas.shape[1]
        return cls(
            np.empty((areas.most_rows, columns), np.float32), np.zeros((areas.size, columns), np.float32)
        )


def _range(counts: NDArray[np.float32]) -> tuple[float, float]:
    """Return the least and the greatest of the numbers; 0 for the least where none is negative."""
    top = counts.view(np.uint32).max()
    if top <= LARGEST_FINITE:
        return 0.0, float(top.view(np.float32))
    return float(counts.min()), float(counts.max())


def _all_marked(
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
