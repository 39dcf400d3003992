"""What can be seen of each structure of a frame, by the definitions of docs/labels.md.

An implementation of its own. Unlike the simulator's, which knows the maxima it drew, this one finds maxima, widths
and orders of symmetry in noiseless tables, because sasmodels does not say where they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from dvfb_stream.reproduction.independent_sets.component import AZIMUTHS, Component, Table
from dvfb_stream.reproduction.independent_sets.setup import Setup

SECTORS = 72
"""Of 5°; in each of them contrast is judged."""
HALO_WIDTH = 0.3
"""Full width at half maximum over q from which a maximum is a halo."""
CONTRAST = {False: 0.05, True: 0.2}
"""Share of the rest by which a ring (False) or a halo (True) stands out in a sector, ..."""
DETECTION = {False: 9.0, True: 20.0}
"""... its signal to noise over all such sectors, ..."""
LEAST_SECTORS = 3
"""... and how many there must be; these, and what follows, are the numbers of docs/labels.md."""
FLANK = 0.4
MODULATION, DILUTED_MODULATION, MODULATION_DETECTION = 0.12, 0.06, 10.0
DIFFUSE_PIXELS, DIFFUSE_CONTRAST, DIFFUSE_DETECTION = 400.0, 0.25, math.sqrt(4000.0)
PERIOD_SEEN = 0.75
FOLD_RADII = 3.0
"""View pixels of radius over which a variation must be seen for its fold to be."""
DISTINCT = 1.2
LEAST_PROMINENCE = 0.02
"""Of a maximum's height: ripples below are the models' rounding."""
SAME = 0.05
"""Share of the azimuthal variance that a turn by 360°/k may change where the order is k."""
ORDERS = (12, 10, 9, 8, 6, 5, 4, 3, 2)
"""Tried in this sequence: the order is the largest that holds."""
ARC = 0.35
"""Share of the sectors above half of the maximum below which a textured ring has become arcs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something visible: a ring, a halo or diffuse scattering."""

    shape: str
    """``ring``, ``halo``, ``low_q`` or ``high_q``."""
    kind: str
    """Of its component."""
    grains: bool
    anisotropic: bool = False
    arcs: bool = False
    """Whether it is bright in a small part of the circle only."""
    order: int = 0
    """Of its symmetry, where it is anisotropic and enough of a period is seen; otherwise 0."""
    q: float = 0.0
    """1/Å, of a maximum."""
    width: float = 0.0
    """1/Å, full width at half maximum."""


class Counts:
    """Expected counts of a frame in sectors and columns, (SECTORS, q).

    Parameters
    ----------
    setup
        Of the frame.
    components
        All that is in it, tables in counts a pixel.
    speckle_modes
        Of the beam's coherence: a pixel of mean λ has the variance λ + λ²/modes.
    """

    def __init__(
        self, setup: Setup, components: Sequence[Component], speckle_modes: float = math.inf
    ) -> None:
        self.setup = setup
        self.modes = speckle_modes
        self.pixels = _sectors(setup.pixels)
        self.seen = _sectors(setup.seen)
        self.total = sum((self.of(component.table) for component in components), np.zeros_like(self.seen))
        rows, columns = setup.geometry.shape
        self.least_pixels = DIFFUSE_PIXELS * (max(rows, columns) / 256.0) ** 2

    def of(self, table: Table) -> NDArray[np.float64]:
        """Return expected counts of one table."""
        return _sectors(self.setup.seen * table)

    @cached_property
    def variance(self) -> NDArray[np.float64]:
        """(SECTORS, q): of the counts."""
        return self.total + self.total**2 / (np.maximum(self.pixels, 1.0) * self.modes) + 1e-12

    @cached_property
    def last(self) -> int:
        """Column beyond which 2 % of the pixels lie: where a frame's edge is."""
        share = np.cumsum(self.pixels.sum(axis=0))
        return int(np.searchsorted(share, 0.98 * share[-1]))


def features(component: Component, counts: Counts) -> list[Feature]:
    """Return all that is visible of a component."""
    view = _View(component, counts)
    found = [feature for peak in _peaks(view.profile) if (feature := view.maximum(*peak))]
    return found + [feature for feature in (view.low_q(), view.high_q()) if feature]


def visible_order(component: Component, counts: Counts) -> int:
    """Return the order of the symmetry that the contrast along the azimuth shows, 0 where it shows none.

    Whatever else is seen of the component: this is how docs/labels.md judges a fold, where it is judged by contrast.
    """
    return _View(component, counts).varying_order()


def symmetry_order(table: Table) -> int:
    """Return the largest k for which a turn by 360°/k changes nothing; 1 where none does, 0 where all do."""
    deviation = table - table.mean(axis=0)
    variance = float((deviation**2).sum())
    if variance <= 1e-6 * float((table**2).sum()):
        return 0
    for order in ORDERS:
        # An order of which 360 is no multiple would need other rows.
        change = np.roll(deviation, AZIMUTHS // order, axis=0) - deviation
        if float((change**2).sum()) < 2.0 * SAME * variance:
            return order
    return 1


class _View:
    """One component among all counts of its frame."""

    def __init__(self, component: Component, counts: Counts) -> None:
        self.component, self.counts = component, counts
        self.own = counts.of(component.table)
        self.profile = component.table.mean(axis=0)
        self.even = counts.seen * self.profile
        """Counts if it did not vary along the azimuth."""

    def maximum(self, peak: int, low: int, high: int, baseline: NDArray[np.float64]) -> Feature | None:
        """Return a maximum between its half heights `low` and `high` as a feature, if it is visible."""
        counts, q = self.counts, self.counts.setup.q
        middle = min(max(peak, low + 1), high - 1)
        width = float(q[1] - q[0]) * (high - low)
        halo = width >= HALO_WIDTH * q[peak]
        covered = self._covered(low, middle) & self._covered(middle, high)
        band = slice(low, high)
        share = 1.0 - baseline[band] / np.maximum(self.profile[band], 1e-300)
        signal, total = (self.own[:, band] @ share), counts.total[:, band].sum(axis=1)
        variance = counts.variance[:, band].sum(axis=1)
        stands_out = covered & self._peaked(low, high) & (signal > CONTRAST[halo] * (total - signal))
        detection = math.sqrt(float((signal**2 / variance)[stands_out].sum()))
        if stands_out.sum() < LEAST_SECTORS or detection < DETECTION[halo]:
            return None
        even = self.even[:, band] @ share
        anisotropic = _varies([signal, even, total, variance], covered)
        level = signal / np.maximum(even, 1e-12) * covered
        return Feature(
            shape="halo" if halo else "ring",
            kind=self.component.kind,
            grains=self.component.grains,
            anisotropic=anisotropic,
            arcs=anisotropic and bool((level > 0.5 * level.max()).sum() < ARC * covered.sum()),
            order=self._order(band, covered) if anisotropic else 0,
            q=float(q[peak]),
            width=width,
        )

    def low_q(self) -> Feature | None:
        """Return what falls outwards from the beam, above the level to which it falls, if it is visible."""
        falling = _first_rise(self.profile)
        if falling < 2:
            return None
        band, counts = slice(0, falling), self.counts
        share = 1.0 - self.profile[falling] / np.maximum(self.profile[band], 1e-300)
        bright = self._stands_out(self.own[:, band] * share, band)
        if bright is None:
            return None
        signal = self.own[:, band] * share
        # Its anisotropy shows where a third of the sectors see it.
        shown = bright.sum(axis=0) * 3 >= np.maximum((counts.pixels[:, band] > 0).sum(axis=0), 1)
        covered = counts.pixels[:, band][:, shown].sum(axis=1) > 0
        shown_counts = [
            part[:, shown].sum(axis=1)
            for part in (signal, self.even[:, band] * share, counts.total[:, band], counts.variance[:, band])
        ]
        anisotropic = bool(shown.any()) and _varies(shown_counts, covered)
        order = self._order(np.flatnonzero(shown), covered) if anisotropic else 0
        return Feature(
            shape="low_q",
            kind=self.component.kind,
            grains=self.component.grains,
            anisotropic=anisotropic,
            order=order,
        )

    def varying_order(self) -> int:
        """Return the order of what varies visibly along the azimuth, over enough of the radius and of a period."""
        counts, setup = self.counts, self.counts.setup
        seen = counts.pixels > 0
        number = np.maximum(seen.sum(axis=0), 1)
        rate = _sectors(self.component.table) / (AZIMUTHS // SECTORS)
        rate, each = (
            np.where(seen, rate, 0.0),
            np.where(seen, counts.seen / np.maximum(counts.pixels, 1.0), 0.0),
        )
        level = np.where(seen, counts.total / np.maximum(counts.pixels, 1.0), 0.0).sum(axis=0) / number
        mean = rate.sum(axis=0) / number
        spread = np.sqrt((seen * (rate - mean) ** 2).sum(axis=0) / number)
        band = (
            (number >= PERIOD_SEEN * SECTORS / 2.0)
            & (spread >= MODULATION * mean)
            & (spread * each.sum(axis=0) / number >= DILUTED_MODULATION * level)
            & (mean > 0.0)
        )
        view_pixel = max(setup.geometry.shape) / 256.0 * setup.pixel / setup.pose.distance
        if band.sum() * float(setup.q[1] - setup.q[0]) < FOLD_RADII * view_pixel * setup.wave_number:
            return 0
        pixels = counts.pixels[:, band].sum(axis=1)
        covered = pixels > 0.15 * pixels.max()
        summed = [part[:, band].sum(axis=1) for part in (self.own, self.even, counts.total, counts.variance)]
        return self._order(np.flatnonzero(band), covered) if _varies(summed, covered) else 0

    def high_q(self) -> Feature | None:
        """Return what rises away from the beam and stays up to the edge, if it and its hole are visible."""
        counts, last = self.counts, self.counts.last
        profile = self.profile[: last + 1]
        bottom = int(np.argmin(profile))
        top = float(profile.max())
        if self.profile[last] < 0.85 * top or profile[bottom] > 0.5 * top:
            return None
        band = slice(bottom, last + 1)
        if self._stands_out(self.own[:, band] * (self.profile[band] > 0.7 * top), band) is None:
            return None
        lacking = counts.seen[:, band] * (top - self.profile[band])
        dark = (self.profile[band] < 0.5 * top) & (lacking > DIFFUSE_CONTRAST * counts.total[:, band])
        detection2 = float((lacking**2 / (counts.variance[:, band] + lacking) * dark).sum())
        if (counts.pixels[:, band] * dark).sum() < counts.least_pixels or detection2 < DETECTION[True] ** 2:
            return None
        return Feature(shape="high_q", kind=self.component.kind, grains=self.component.grains)

    def _stands_out(self, signal: NDArray[np.float64], band: slice) -> NDArray[np.bool_] | None:
        """Return where diffuse `signal` stands out, or None where that is not enough to see it."""
        counts = self.counts
        bright: NDArray[np.bool_] = (signal > 0) & (
            signal > DIFFUSE_CONTRAST * (counts.total[:, band] - signal)
        )
        if (counts.pixels[:, band] * bright).sum() < counts.least_pixels:
            return None
        detection2 = float((signal**2 / counts.variance[:, band] * bright).sum())
        return bright if detection2 >= DIFFUSE_DETECTION**2 else None

    def _peaked(self, low: int, high: int) -> NDArray[np.bool_]:
        """Return the sectors that have a maximum of their own between two columns.

        The mean of slopes that differ from sector to sector, as of a rod's pattern, can have one that no sector has.
        """
        rate = _sectors(self.component.table[:, max(low - 1, 0) : high + 1])
        peaked: NDArray[np.bool_] = rate[:, 1:-1].max(axis=1) > np.maximum(rate[:, 0], rate[:, -1])
        return peaked

    def _covered(self, low: int, high: int) -> NDArray[np.bool_]:
        """Return the sectors in which enough of the columns is seen."""
        whole = self.counts.setup.expected[low:high].sum() * (AZIMUTHS // SECTORS)
        covered: NDArray[np.bool_] = self.counts.pixels[:, low:high].sum(axis=1) >= FLANK * whole
        return covered

    def _order(self, columns: slice | NDArray[np.int_], covered: NDArray[np.bool_]) -> int:
        """Return the order of the symmetry in some columns, 0 where too little of a period is seen."""
        order = symmetry_order(self.component.table[:, columns])
        period = SECTORS / max(order, 1)
        phase = np.floor((np.flatnonzero(covered) + 0.5) % period)
        return order if len(np.unique(phase)) >= PERIOD_SEEN * period else 0


def _sectors(table: Table) -> NDArray[np.float64]:
    summed: NDArray[np.float64] = table.reshape(SECTORS, AZIMUTHS // SECTORS, -1).sum(axis=1)
    return summed


def _varies(counts: Sequence[NDArray[np.float64]], covered: NDArray[np.bool_]) -> bool:
    """Return whether a signal visibly varies along the azimuth.

    `counts` are the signal's, those of an even one, of all there is, and their variance, (SECTORS,) each.
    """
    signal, even, total, variance = counts
    covered = covered & (even > 0)
    if covered.sum() < LEAST_SECTORS:
        return False
    signal, even, total, variance = (part[covered] for part in (signal, even, total, variance))
    deviation = signal - even * (signal.sum() / even.sum())
    return bool(
        np.std(deviation / even) >= MODULATION * signal.sum() / even.sum()
        and np.std(deviation / total) >= DILUTED_MODULATION
        and math.sqrt(float((deviation**2 / variance).sum())) >= MODULATION_DETECTION
    )


def _first_rise(profile: NDArray[np.float64]) -> int:
    """Return the column up to which a profile falls, ripples of the models' rounding aside."""
    lowest = np.minimum.accumulate(profile)
    rises = np.flatnonzero(profile > (1.0 + LEAST_PROMINENCE) * lowest)
    end = int(rises[0]) if len(rises) else len(profile) - 1
    return int(np.argmin(profile[: end + 1]))


def _peaks(profile: NDArray[np.float64]) -> list[tuple[int, int, int, NDArray[np.float64]]]:
    """Return maxima as (column, first and last column of the half height, line between the minima)."""
    tops = find_peaks(profile, prominence=1e-9 * profile.max())[0]
    tops, valleys = _prominent(profile, [int(top) for top in tops])
    found = []
    for number, top in enumerate(tops):
        left, right = valleys[number], valleys[number + 1]
        baseline = np.minimum(np.interp(np.arange(len(profile)), valleys, profile[valleys]), profile)
        above = (profile - baseline)[left : right + 1] >= 0.5 * (profile - baseline)[top]
        below_left = np.flatnonzero(~above[: top - left])
        below_right = np.flatnonzero(~above[top - left :])
        low = left + (int(below_left[-1]) + 1 if len(below_left) else 0)
        high = top + (int(below_right[0]) if len(below_right) else right - top)
        if high - low < 2:  # a table's column is wider than it
            low, high = max(top - 1, 0), min(top + 2, len(profile))
        found.append((top, low, high, baseline))
    return found


def _prominent(profile: NDArray[np.float64], tops: list[int]) -> tuple[list[int], list[int]]:
    """Return the maxima that rise above both their minima, and those minima, one more than maxima."""
    while True:
        ends = [0, *tops, len(profile) - 1]
        valleys = [a + int(np.argmin(profile[a : b + 1])) for a, b in itertools.pairwise(ends)]
        rise = [
            1.0 - max(profile[valleys[i]], profile[valleys[i + 1]]) / profile[top]
            for i, top in enumerate(tops)
        ]
        if not tops or min(rise) >= LEAST_PROMINENCE:
            return tops, valleys
        tops = tops[: (least := int(np.argmin(rise)))] + tops[least + 1 :]
