"""Order and contrast of what views of one geometry show, measured without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.evidence import RINGS_TOGETHER, Evidence, evidence
from dvfb_stream.azimuthal.harmonics import HarmonicFit, Harmonics
from dvfb_stream.azimuthal.polar_bins import PolarBins
from dvfb_stream.azimuthal.ring_statistics import RingStatistics
from dvfb_stream.azimuthal.sectors import LARGEST_SHIFT, Sectors, gather
from dvfb_stream.bounded_cache import BoundedCache

FRAMES_TOGETHER = 8
"""Their sectors stay in a processor's cache; more at a time take longer for each."""

FEWEST_RINGS = RINGS_TOGETHER
"""Verified, for a fold to be known."""

GRID = 0.25
"""Units of radius between the centres that views are measured about: a pixel of a detector with 1024."""

STEPS_TO_THE_CENTRE = 2
"""From one centre to the next nearer one: shifts of several units are told to a quarter of their length."""

MOST_CENTRES = 4
"""Of a geometry that are kept besides the stated one: a run has one, which rounding makes two or four."""

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
    variation: float
    """By which share the brightest sector exceeds the darkest one; infinite where the darkest has no counts."""
    shift_x: float
    """Units of radius, of which the detector's span has 256, from the stated centre to the one about which odd
    harmonics vanish; 0 where they tell none."""
    shift_y: float


class AzimuthalOrders:
    """Measures views of one geometry, each about the centre that its own pattern has.

    A stated centre is off by a pixel or more on most beamlines, which smears narrow rings and feigns twofold ones.
    What is left over between a frame's own centre and the nearest of a grid is taken out by the slope of the profile.

    Parameters
    ----------
    mask
        (rows, columns) of the raster, True = valid; at least one pixel is.
    center_x, center_y
        Direct beam in its pixels; pixel centres at integers.
    area
        Detector pixels under a pixel of it: with them a mean becomes photons.
    step
        Units of radius along the side of a pixel; see `dvfb_stream.azimuthal.polar_bins`.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_],
        center_x: float,
        center_y: float,
        area: float,
        *,
        step: float = 1.0,
    ) -> None:
        self._mask, self._center, self._area, self._step = mask, (center_x, center_y), area, step
        self._as_stated = _About(mask, center_x, center_y, area, step)
        self._elsewhere: BoundedCache[tuple[int, int], _About] = BoundedCache(MOST_CENTRES)

    @property
    def nbytes(self) -> int:
        """Bytes held at most."""
        return self._mask.nbytes + (1 + MOST_CENTRES) * self._as_stated.nbytes

    def harmonics(self, counts: Sequence[NDArray[np.float32]]) -> tuple[Harmonics, Harmonics]:
        """Return the verified harmonics of one view, and those of all its sectors, for figures; see `measure`."""
        ((_, one),) = self._some(counts)
        return one.verified, one.all_seen

    def measure(self, counts: Sequence[NDArray[np.float32]]) -> list[MeasuredOrders]:
        """Return what is measured of each view.

        Parameters
        ----------
        counts
            B of (rows, columns): mean counts of the detector pixels under each pixel of the raster; anything where
            the mask is False. The unit does not matter: what a photon is worth is estimated.
        """
        return _in_order(((places, _measured(some)) for places, some in self._some(counts)), len(counts))

    def statistics(self, counts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return what the ring network sees of each view, (B, channels, `BINS`); see `RingStatistics`."""
        return np.stack(
            _in_order(((places, some.statistics()) for places, some in self._some(counts)), len(counts))
        )

    def examine(
        self, counts: Sequence[NDArray[np.float32]]
    ) -> tuple[list[MeasuredOrders], NDArray[np.float32]]:
        """Return what `measure` and `statistics` return, for less than both take."""
        both = (
            (places, list(zip(_measured(some), some.statistics(), strict=True)))
            for places, some in self._some(counts)
        )
        measured, statistics = zip(*_in_order(both, len(counts)), strict=True)
        return list(measured), np.stack(statistics)

    def _some(self, counts: Sequence[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.intp], _Seen]]:
        """Yield the places of some views, and what is seen of these, until all have been."""
        for start in range(0, len(counts), FRAMES_TOGETHER):
            some = [self._bounded(one) for one in counts[start : start + FRAMES_TOGETHER]]
            waiting = {(0, 0): np.arange(len(some))}
            for step in range(STEPS_TO_THE_CENTRE + 1):
                nearer: dict[tuple[int, int], list[NDArray[np.intp]]] = {}
                for cell, places in waiting.items():
                    about = self._about(cell)
                    sectors = gather(about.bins, [some[place] for place in places], self._area)
                    cells = self._nearest(cell, sectors) if step < STEPS_TO_THE_CENTRE else np.array([cell])
                    there = np.broadcast_to((cells == cell).all(axis=1), len(places))
                    if there.any():
                        yield start + places[there], about.seen(sectors.of(there), GRID * np.array(cell))
                    for x, y in {(int(x), int(y)) for x, y in cells if (x, y) != cell}:
                        nearer.setdefault((x, y), []).append(places[(cells == (x, y)).all(axis=1)])
                waiting = {cell: np.concatenate(parts) for cell, parts in nearer.items()}

    def _bounded(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        if counts.max() <= LARGEST:
            return counts
        largest = np.where(self._mask, counts, 0).max()  # or what is masked is not finite
        return counts * np.float32(min(LARGEST / max(largest, 1.0), 1.0))

    @staticmethod
    def _nearest(cell: tuple[int, int], sectors: Sectors) -> NDArray[np.intp]:
        """Return the cells of the grid, (B, 2), nearest to the centres of views, given their sectors about one."""
        steps = np.rint(sectors.shift / GRID).astype(np.intp) * sectors.told[:, None]
        cells = np.array(cell) + steps
        within = np.hypot(*cells.T) * GRID <= LARGEST_SHIFT
        return np.where(within[:, None], cells, cell)

    def _about(self, cell: tuple[int, int]) -> _About:
        """Return what measures about a centre of the grid."""
        if cell == (0, 0):
            return self._as_stated
        x, y = (at + GRID * by / self._step for at, by in zip(self._center, cell, strict=True))
        return self._elsewhere.get_or_make(cell, lambda: _About(self._mask, x, y, self._area, self._step))


class _About:
    """Measures about one centre; the parameters are those of `AzimuthalOrders`."""

    def __init__(
        self, mask: NDArray[np.bool_], center_x: float, center_y: float, area: float, step: float
    ) -> None:
        self.bins, self._area = PolarBins(mask, center_x, center_y, step=step), area
        self._verified = HarmonicFit(self.bins, verified=True)
        self._seen = HarmonicFit(self.bins, verified=False)
        self._rings = RingStatistics(self.bins, area)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.bins.nbytes + self._verified.nbytes + self._seen.nbytes

    def seen(self, sectors: Sectors, off: NDArray[np.float64]) -> _Seen:
        """Return what is seen of views, given their sectors and how far, (2,), this centre is from the stated one."""
        return _Seen(
            sectors,
            self._verified.fit(sectors, self._area),
            self._seen.fit(sectors, self._area),
            off + sectors.shift,
            self._rings,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What is seen of B views."""

    sectors: Sectors
    verified: Harmonics
    all_seen: Harmonics
    shift: NDArray[np.float64]
    """(B, 2) from the stated centre."""
    rings: RingStatistics

    def statistics(self) -> NDArray[np.float32]:
        return self.rings.of(self.sectors, self.verified, self.all_seen, self.shift)


_Item = TypeVar("_Item")


def _in_order(parts: Iterable[tuple[NDArray[np.intp], Iterable[_Item]]], number: int) -> list[_Item]:
    """Return the items of parts in the order of their places."""
    found: dict[int, _Item] = {}
    for places, items in parts:
        found.update(zip(places.tolist(), items, strict=True))
    return [found[place] for place in range(number)]


def _measured(some: _Seen) -> list[MeasuredOrders]:
    known = evidence(some.verified)
    seen: list[Evidence | None] = [None] * len(known)
    if any(one.rings_known < FEWEST_RINGS for one in known):
        seen = [
            other if one.rings_known < FEWEST_RINGS else None
            for one, other in zip(known, evidence(some.all_seen), strict=True)
        ]
    return [
        MeasuredOrders(
            verified=one, seen=other, worth=float(worth), variation=float(variation),
            shift_x=float(shift[0]), shift_y=float(shift[1]),
        )
        for one, other, worth, variation, shift in zip(
            known, seen, some.sectors.worth, some.sectors.variation, some.shift, strict=True
        )
    ]  # fmt: skip
