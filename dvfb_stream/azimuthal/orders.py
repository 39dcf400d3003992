"""Order and contrast of what views of one geometry show, measured without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.evidence import RINGS_TOGETHER, Evidence, evidence
from dvfb_stream.azimuthal.harmonics import HarmonicFit, Harmonics
from dvfb_stream.azimuthal.polar_bins import PolarBins
from dvfb_stream.azimuthal.ring_statistics import RingStatistics
from dvfb_stream.azimuthal.sectors import Sectors, gather

FRAMES_TOGETHER = 8
"""Their sectors stay in a processor's cache; more at a time take longer for each."""

FEWEST_RINGS = RINGS_TOGETHER
"""Verified, for a fold to be known."""

LARGEST = 1e9
"""Counts: a frame with larger ones is scaled to it, for squares of its sectors to be finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOrders:
    """Of one view."""

    verified: Evidence
    """From sectors that are seen together with their opposites, and agree: what decides."""
    seen: Evidence | None
    """From all sectors, where fewer than four rings are verified: what a shadow or a window may have made, too."""
    worth: float
    """Counts that one photon gives: 1 of a counting detector."""
    shift_x: float
    """View pixels from the stated centre to the one about which odd harmonics vanish; 0 where they tell none."""
    shift_y: float


class AzimuthalOrders:
    """Measures views of one geometry.

    Parameters
    ----------
    mask
        (rows, columns) of the view, True = valid; at least one pixel is.
    center_x, center_y
        Direct beam in view pixels; pixel centres at integers.
    area
        Detector pixels under a view pixel: with them a view pixel's mean becomes photons.
    """

    def __init__(self, mask: NDArray[np.bool_], center_x: float, center_y: float, area: float) -> None:
        self._bins = PolarBins(mask, center_x, center_y)
        self._area, self._mask = area, mask
        self._verified = HarmonicFit(self._bins, verified=True)
        self._seen = HarmonicFit(self._bins, verified=False)
        self._rings = RingStatistics(self._bins, area)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._bins.nbytes + self._verified.nbytes + self._seen.nbytes + self._mask.nbytes

    def harmonics(self, counts: NDArray[np.float32]) -> tuple[Harmonics, Harmonics]:
        """Return the verified harmonics of views, and those of all sectors, for figures; see `measure`."""
        sectors = gather(self._bins, counts, self._area)
        return self._verified.fit(sectors, self._area), self._seen.fit(sectors, self._area)

    def measure(self, counts: NDArray[np.float32]) -> list[MeasuredOrders]:
        """Return what is measured of each view.

        Parameters
        ----------
        counts
            (B, rows, columns) mean counts of the detector pixels under each view pixel; anything where the mask is
            False. The unit does not matter: what a photon is worth is estimated.
        """
        return [one for some in self._some(counts) for one in self._measured(*some)]

    def statistics(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the ring network sees of each view, (B, channels, `BINS`); see `RingStatistics`."""
        return np.concatenate([self._rings.of(*some) for some in self._some(counts)])

    def examine(self, counts: NDArray[np.float32]) -> tuple[list[MeasuredOrders], NDArray[np.float32]]:
        """Return what `measure` and `statistics` return, for less than both take."""
        measured, statistics = [], []
        for some in self._some(counts):
            measured += self._measured(*some)
            statistics.append(self._rings.of(*some))
        return measured, np.concatenate(statistics)

    def _some(self, counts: NDArray[np.float32]) -> Iterator[tuple[Sectors, Harmonics, Harmonics]]:
        for start in range(0, len(counts), FRAMES_TOGETHER):
            some = counts[start : start + FRAMES_TOGETHER]
            if not some.max() <= LARGEST:  # or what is masked is not finite
                largest = np.where(self._mask, some, 0).max(axis=(1, 2), keepdims=True)
                some = some * np.minimum(LARGEST / np.maximum(largest, 1.0), 1.0).astype(np.float32)
            sectors = gather(self._bins, some, self._area)
            yield sectors, self._verified.fit(sectors, self._area), self._seen.fit(sectors, self._area)

    @staticmethod
    def _measured(sectors: Sectors, verified: Harmonics, all_seen: Harmonics) -> list[MeasuredOrders]:
        known = evidence(verified)
        seen: list[Evidence | None] = [None] * len(known)
        if any(one.rings_known < FEWEST_RINGS for one in known):
            seen = [
                other if one.rings_known < FEWEST_RINGS else None
                for one, other in zip(known, evidence(all_seen), strict=True)
            ]
        return [
            MeasuredOrders(
                verified=one, seen=other, worth=float(worth), shift_x=float(shift[0]), shift_y=float(shift[1])
            )
            for one, other, worth, shift in zip(known, seen, sectors.worth, sectors.shift, strict=True)
        ]
