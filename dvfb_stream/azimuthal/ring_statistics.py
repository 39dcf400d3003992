"""What is known of each ring of a view, on a logarithmic radius: what the ring network sees in place of an image.

No turn of a frame about its beam and no mirror image changes it, and another scale only moves it along the radius.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.harmonics import ORDERS, Harmonics
from dvfb_stream.azimuthal.polar_bins import HALF, RING_WIDTH, PolarBins
from dvfb_stream.azimuthal.sectors import Sectors, middle

PER_OCTAVE = 40
"""Bins of radius: a ring of the least width that a view resolves, two pixels, fills one at 115 pixels."""
INNERMOST, OUTERMOST = 3.0, 363.0
"""View pixels: a beamstop hides what is nearer. Nothing of a view is farther from its own corner; of one whose beam
lies off the detector, what is farther is not looked at."""
BINS = int(np.ceil(PER_OCTAVE * np.log2(OUTERMOST / INNERMOST)))
EDGES = INNERMOST * 2.0 ** (np.arange(BINS + 1) / PER_OCTAVE)
TINY = 1e-30
MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2

CHANNELS = (
    "seen",
    "level",
    "photons",
    "coverage",
    "verified",
    *(f"{what}_{order}" for what in ("contrast", "significance") for order in ORDERS),
    *(f"{what}_{order}_of_all" for what in ("contrast", "significance") for order in ORDERS),
    "odd",
    "roughness",
    "middle",
    "brightest",
)


class RingStatistics:
    """Brings what is known of a geometry's rings onto the logarithmic radius.

    Parameters
    ----------
    bins
        Rings and sectors of the geometry.
    area
        Detector pixels under a view pixel.
    """

    def __init__(self, bins: PolarBins, area: float) -> None:
        self._pixels, self._area = bins.pixels, area
        self._seen = bins.pixels > 0
        # Between rings linearly where bins are narrower than they, else over all rings in a bin.
        reach = np.maximum(EDGES[1:] - EDGES[:-1], RING_WIDTH)
        share = np.maximum(1 - np.abs(bins.radii[:, None] - MIDDLES) / reach, 0.0)
        whole = share.sum(axis=0)
        self._share = (share / np.maximum(whole, 1e-12)).astype(np.float32)
        self._there = np.minimum(whole * RING_WIDTH / reach, 1.0).astype(np.float32)
        number = self._seen.sum(axis=1)
        self._coverage = number / self._seen.shape[1]

    def of(self, sectors: Sectors, verified: Harmonics, all_seen: Harmonics) -> NDArray[np.float32]:
        """Return the statistics of B views, (B, channels, `BINS`), in the order of `CHANNELS`; 0 where nothing is."""
        mean, number = sectors.mean, self._pixels.sum(axis=1)
        photon = sectors.worth[:, None] / (self._area * number)  # one in the whole ring, as a mean
        logarithm = np.log(np.maximum(mean, 0.5 * photon))
        median = middle(sectors.values, self._seen)
        brightest = np.where(self._seen, sectors.values, 0).max(axis=2)
        agree = self._seen & np.roll(self._seen, HALF, axis=1) & ~sectors.one_sided
        floor = np.maximum(mean, 0.5 * photon)
        rings = [
            logarithm,
            np.log10(1 + np.maximum(mean, 0) / photon) / 4,
            np.broadcast_to(self._coverage, mean.shape),
            agree.mean(axis=2),
            *_of_harmonics(verified),
            *_of_harmonics(all_seen),
            np.sqrt(np.clip(sectors.odd, 0, 4)),
            np.log(np.maximum(sectors.noise, TINY) / np.maximum(_quiet(sectors, self._area), TINY)).clip(0, 8)
            / 4,
            np.log(np.maximum(median, 0.05 * floor) / floor).clip(-3, 1),
            np.log(np.maximum(brightest, floor) / floor).clip(0, 5) / 2,
        ]
        binned = np.stack(rings, axis=1).astype(np.float32) @ self._share
        there = np.broadcast_to(self._there, (len(mean), 1, BINS))
        return np.concatenate([there, binned * (there > 0)], axis=1)


def _quiet(sectors: Sectors, area: float) -> NDArray[np.float64]:
    """Return the noise of counting alone, (B, R)."""
    return np.maximum(sectors.mean, 0) * sectors.worth[:, None] / area


def _of_harmonics(harmonics: Harmonics) -> list[NDArray[np.float64]]:
    contrast = np.abs(harmonics.amplitude).clip(0, 2)
    significance = np.tanh(harmonics.significance.clip(0, None) / 8)
    return [*np.moveaxis(contrast, 2, 0), *np.moveaxis(significance, 2, 0)]
