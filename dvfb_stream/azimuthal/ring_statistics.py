"""What is known of each ring of a view, on a logarithmic radius: what the ring network sees in place of an image.

No turn of a frame about its beam and no mirror image changes it, and another scale only moves it along the radius.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dvfb_stream.azimuthal.harmonics import ORDERS, Harmonics
from dvfb_stream.azimuthal.polar_bins import HALF, PolarBins
from dvfb_stream.azimuthal.sectors import LARGEST_SHIFT, Sectors, middle

VERSION = 2
"""Of what the numbers mean: a network judges only those of the version that it was trained on. 1, up to 0.4, was
measured on the view itself, about the stated centre."""
PER_OCTAVE = 40
"""Bins of radius: a ring of the least width that is resolved fills one at 58 units, and at 115 beyond 64."""
INNERMOST, OUTERMOST = 2.0, 363.0
"""Units of radius, of which a detector's span has 256: a beamstop hides what is nearer. Nothing of a square detector
is farther from its own corner; of one whose beam lies off the detector, what is farther is not looked at."""
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
    "shift",
)


class RingStatistics:
    """Brings what is known of a geometry's rings onto the logarithmic radius.

    Parameters
    ----------
    bins
        Rings and sectors of the geometry.
    area
        Detector pixels under a pixel of the raster.
    """

    def __init__(self, bins: PolarBins, area: float) -> None:
        self._pixels, self._area = bins.pixels, area
        self._seen = bins.pixels > 0
        # Between rings linearly where bins are narrower than they, else over all rings in a bin.
        width = np.interp(MIDDLES, bins.radii, bins.widths)
        reach = np.maximum(EDGES[1:] - EDGES[:-1], width)
        share = np.maximum(1 - np.abs(bins.radii[:, None] - MIDDLES) / reach, 0.0)
        whole = share.sum(axis=0)
        # Of each bin, sparse: a dense product would wake the threads of numpy's library, which burn a core each.
        self._share = sparse.csr_array((share / np.maximum(whole, 1e-12)).T.astype(np.float32))
        self._there = np.minimum(whole * width / reach, 1.0).astype(np.float32)
        number = self._seen.sum(axis=1)
        self._coverage = number / self._seen.shape[1]

    def of(
        self, sectors: Sectors, verified: Harmonics, all_seen: Harmonics, shift: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return the statistics of B views, (B, channels, `BINS`), in the order of `CHANNELS`; 0 where nothing is.

        `shift`, (B, 2), is by how much the stated centre is off.
        """
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
            np.broadcast_to(np.hypot(*shift.T)[:, None] / LARGEST_SHIFT, mean.shape),
        ]
        statistics = np.stack(rings, axis=1).astype(np.float32)
        binned = (self._share @ statistics.reshape(-1, statistics.shape[2]).T).T
        binned = binned.reshape(*statistics.shape[:2], BINS)
        there = np.broadcast_to(self._there, (len(mean), 1, BINS))
        return np.concatenate([there, binned * (there > 0)], axis=1)


def _quiet(sectors: Sectors, area: float) -> NDArray[np.float64]:
    """Return the noise of counting alone, (B, R)."""
    return np.maximum(sectors.mean, 0) * sectors.worth[:, None] / area


def _of_harmonics(harmonics: Harmonics) -> list[NDArray[np.float64]]:
    contrast = np.abs(harmonics.amplitude).clip(0, 2)
    significance = np.tanh(harmonics.significance.clip(0, None) / 8)
    return [*np.moveaxis(contrast, 2, 0), *np.moveaxis(significance, 2, 0)]
