"""Adds up the pixels of a frame under each pixel of a view, reading them once.

Band by band of rows, pixels are converted, checked for values that are no counts, and added up while they are in a
core's cache; what is left has as many rows as the view and is small. Frames of one detector mostly lack the same
pixels: those of the last frame that differed are left out at once, and only looked at to see that they still are
no counts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.invalid_pixels import InvalidPixels
from dvfb_stream.view.bands import Areas
from dvfb_stream.view.masking import BandMasking, Coverage, Masking, all_marked

LARGEST_FINITE = 0x7F7FFFFF
"""Bits of the greatest finite float32, as an unsigned integer. Those of negative numbers, infinities and NaN are
greater, those of other numbers in the order of the numbers: one maximum tells all."""

FRAMES_BEFORE_ANEW = 16
"""Frames that lack other pixels than expected until those of one of them are expected: preparing that takes as long
as a frame, so that at worst a frame in 16 takes twice its time."""

MOST_PLACES = 1 / 16
"""Share of the pixels that are expected to be no counts one by one, rows of gaps aside: 8 bytes each."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What the valid pixels of a frame add up to."""

    total: NDArray[np.float32]
    """(size, size) their integral over each view pixel: counts times shared area in detector pixels."""
    coverage: Coverage
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
        How pixels fall on view pixels.
    """

    def __init__(self, mask: NDArray[np.bool_] | None, areas: Areas) -> None:
        self._mask, self._areas = mask, areas
        self._whole = areas.of(np.ones(areas.shape))
        valid = self._whole if mask is None else areas.of(mask)
        self._certain = Masking.of(areas, mask, Coverage.of(valid, self._whole))
        self._expected = self._certain
        self._unexpected = 0
        self._spare: list[_Memory] = []

    @property
    def coverage(self) -> Coverage:
        """What the geometry's mask alone leaves of the view."""
        return self._certain.coverage

    @property
    def nbytes(self) -> int:
        """Bytes that it holds at most, the mask and the memory for one frame included."""
        rows, columns = self._areas.shape
        expected = int(rows * columns * (1 + 8 * MOST_PLACES)) + self.coverage.nbytes
        mask = 0 if self._mask is None else int(self._mask.nbytes)
        memory = 4 * columns * (self._areas.most_rows + self._areas.size)
        return mask + self._certain.nbytes + expected + memory + self._areas.nbytes + int(self._whole.nbytes)

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
                if self._as_expected(part, low, high, rules, masking, number):
                    n_valid += masking.n_valid
                else:
                    valid = differing[number] = self._valid(part, rules, number)
                    np.copyto(counts, part, casting="unsafe")
                    np.copyto(counts, 0, where=~valid)
                    low, high = _range(counts)
                    n_valid += int(np.count_nonzero(valid[band.own]))
                least, greatest = min(least, low), max(greatest, high)
                self._areas.add_rows(band, counts, memory.summed)
            total = self._areas.over_columns(memory.summed)
        self._spare.append(memory)
        coverage = self._coverage(differing, expected) if differing else expected.coverage
        return Sums(total, coverage, n_valid, least, greatest)

    def _as_expected(
        self,
        part: NDArray[Any],
        low: float,
        high: float,
        rules: InvalidPixels,
        masking: BandMasking,
        number: int,
    ) -> bool:
        """Whether a band holds counts from `low` to `high` where they are expected, and nowhere else."""
        lowest, highest = _believed(rules)
        certain = self._certain.bands[number]
        # No number lies between them where there is a NaN.
        return (
            lowest < low
            and high < highest
            and (masking is certain or all_marked(part, rules, masking, certain))
        )

    def _valid(self, part: NDArray[Any], rules: InvalidPixels, number: int) -> NDArray[np.bool_]:
        """Return which pixels of a band are in the mask and hold counts."""
        valid = rules.valid(part)
        mask = self._certain.bands[number].valid
        if mask is not None:
            valid &= mask
        return valid

    def _coverage(self, differing: dict[int, NDArray[np.bool_]], expected: Masking) -> Coverage:
        """Return what a frame leaves of the view, given the valid pixels of bands that are not as expected."""
        valid = np.ones(self._areas.shape, dtype=bool)
        for number, (band, masking) in enumerate(zip(self._areas.bands, expected.bands, strict=True)):
            if number in differing:
                valid[band.rows] = differing[number]
            elif masking.valid is not None:
                valid[band.rows] = masking.valid
        coverage = Coverage.of(self._areas.of(valid), self._whole)
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


@functools.lru_cache(maxsize=64)
def _believed(rules: InvalidPixels) -> tuple[float, float]:
    """Return numbers between which no value is marked, not even one that single precision rounds up or down."""
    with np.errstate(over="ignore"):
        bounds = rules.bounds.astype(np.float32)
    below = bounds[bounds[:, 0] <= 0, 1].max(initial=-np.inf)
    above = bounds[bounds[:, 0] > 0, 0].min(initial=np.inf)
    return float(below), float(above)


def _range(counts: NDArray[np.float32]) -> tuple[float, float]:
    """Return the least and the greatest of the numbers; 0 for the least where none is negative."""
    top = counts.view(np.uint32).max()
    if top <= LARGEST_FINITE:
        return 0.0, float(top.view(np.float32))
    return float(counts.min()), float(counts.max())
