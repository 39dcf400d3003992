"""Even harmonics of each ring of a view, by least squares over the sectors that are seen, and what noise allows.

Intensity at small angles is centrosymmetric, I(q) = I(-q); what shadows, windows and the edges of a sample do is not.
So a harmonic is *verified* where it follows from sectors that are seen together with their opposites, and agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from dvfb_stream.azimuthal.polar_bins import AZIMUTHS, HALF, SECTORS, PolarBins
from dvfb_stream.azimuthal.sectors import Sectors

ORDERS = (2, 4, 6, 8)
"""Harmonics that are fitted; the eighth is there so that an eightfold ring is not taken for a fourfold one."""
PARTS = 1 + 2 * len(ORDERS)
LEAST_SEEN = 0.75
"""Share of half a circle: an order is known from three quarters of its period, as docs/labels.md has it."""
LEAST_PHOTONS = 30.0
"""Of a ring: below, a contrast of a half is within two standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Harmonics:
    """Of B views with R rings."""

    radii: NDArray[np.float64]
    """(R,) units of radius, as of `PolarBins`."""
    widths: NDArray[np.float64]
    """(R,) likewise."""
    mean: NDArray[np.float64]
    """(B, R) counts of a detector pixel: what is left when all harmonics are taken out."""
    amplitude: NDArray[np.complex128]
    """(B, R, 4) of `ORDERS`, over the mean: intensity is mean · (1 + Re Σ amplitude · exp(-i m azimuth)). 0 where it
    is not known."""
    deviation: NDArray[np.float64]
    """(B, R, 4) standard deviation of either part of the amplitude, of noise and roughness; infinite where it is
    not known."""
    significance: NDArray[np.float64]
    """(B, R, 4) standard normal where nothing but counting noise varies along the azimuth; 0 where not known."""
    odd: NDArray[np.float64]
    """(B, R) as of `Sectors`."""
    known: NDArray[np.bool_]
    """(B, R) whether enough is seen and counted."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Covariance of the two parts of each harmonic, (R, 4) each, for noise 1."""

    cos: NDArray[np.float64]
    sin: NDArray[np.float64]
    mixed: NDArray[np.float64]
    variance: NDArray[np.float64]
    """Mean of the two."""
    determinant: NDArray[np.float64]

    @classmethod
    def of(cls, covariance: NDArray[np.float64]) -> _Pairs:
        """Take them out of the covariance of all parts, (R, parts, parts)."""
        variances = np.diagonal(covariance, axis1=1, axis2=2)
        cos, sin = (np.ascontiguousarray(variances[:, first::2]) for first in (1, 2))
        mixed = np.diagonal(covariance, offset=1, axis1=1, axis2=2)[:, 1::2].copy()
        return cls(cos, sin, mixed, (cos + sin) / 2, cos * sin - mixed**2)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 5 * self.cos.nbytes


class HarmonicFit:
    """Fits harmonics to the sectors of one geometry.

    Parameters
    ----------
    bins
        Its rings and sectors.
    verified
        Whether sectors count only together with their opposites.
    """

    def __init__(self, bins: PolarBins, *, verified: bool) -> None:
        self._radii, self._widths = bins.radii, bins.widths
        seen = bins.pixels > 0
        used = seen & np.roll(seen, HALF, axis=1) if verified else seen
        pixels = np.where(used, bins.pixels, 0.0)
        self._used, self._pixels = used, pixels.sum(axis=1)
        # A sector's mean of a wave is less than the wave at its middle, by a sinc.
        waves = (np.sinc(m / SECTORS) * wave(m * AZIMUTHS) for m in ORDERS for wave in (np.cos, np.sin))
        basis = np.stack([np.ones(SECTORS), *waves], axis=1)
        self._enough = _share_seen(used) >= LEAST_SEEN
        gram = np.einsum("rs,sp,sq->rpq", pixels, basis, basis)
        covariance = np.zeros_like(gram)
        covariance[self._enough] = np.linalg.inv(gram[self._enough])
        self._solve = np.ascontiguousarray(
            np.einsum("rpq,sq,rs->rsp", covariance, basis, pixels, optimize=True)
        )
        self._basis = np.ascontiguousarray(basis.T)
        self._pairs = _Pairs.of(covariance)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._solve.nbytes + self._basis.nbytes + self._pairs.nbytes + self._used.nbytes

    def fit(self, sectors: Sectors, area: float) -> Harmonics:
        """Return the harmonics of B views.

        Parameters
        ----------
        sectors
            Of this geometry.
        area
            Detector pixels under a pixel of the raster.
        """
        values, spoilt = sectors.values.swapaxes(0, 1), (sectors.one_sided & self._used).swapaxes(0, 1)
        parts = values @ self._solve  # (R, B, parts)
        rings = np.flatnonzero(spoilt.any(axis=(1, 2)))
        if len(rings):  # spoilt sectors, few as they are, become what the others say
            few, spoilt, solve = values[rings], spoilt[rings], self._solve[rings]
            for _ in range(2):
                parts[rings] = np.where(spoilt, parts[rings] @ self._basis, few) @ solve
        parts = parts.swapaxes(0, 1)
        known = self._enough & (_share_seen(self._used & ~sectors.one_sided) >= LEAST_SEEN)
        known &= sectors.mean * area * self._pixels >= LEAST_PHOTONS * sectors.worth[:, None]
        # A fit that is negative on average has gone astray in a gap.
        mean = np.where(known & (parts[:, :, 0] > 0.05 * sectors.mean), parts[:, :, 0], sectors.mean)
        known &= mean > 0
        pairs = parts[:, :, 1:].reshape(*mean.shape, len(ORDERS), 2)
        over = 1 / np.where(known, mean, np.inf)
        variance = sectors.noise[:, :, None] * self._pairs.variance
        return Harmonics(
            radii=self._radii,
            widths=self._widths,
            mean=mean,
            amplitude=(pairs[..., 0] + 1j * pairs[..., 1]) * over[:, :, None],
            deviation=np.where(known[:, :, None], np.sqrt(variance) * over[:, :, None], np.inf),
            significance=np.where(known[:, :, None], _significance(pairs, self._pairs, sectors.noise), 0.0),
            odd=sectors.odd,
            known=known,
        )


def _significance(
    pairs: NDArray[np.float64], covariance: _Pairs, noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the normal deviate as improbable as chi squared, with two degrees of freedom, of pairs (B, R, 4, 2)."""
    cos, sin = pairs[..., 0], pairs[..., 1]
    determinant = covariance.determinant * noise[:, :, None]
    square = np.divide(
        covariance.sin * cos**2 + covariance.cos * sin**2 - 2 * covariance.mixed * cos * sin,
        determinant,
        out=np.zeros_like(cos),
        where=determinant > 0,
    )
    return np.asarray(-ndtri_exp(-np.maximum(square, np.finfo(float).tiny) / 2))


def _share_seen(used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of half a circle that is seen on either side, of (..., 72)."""
    return np.asarray((used[..., :HALF] | used[..., HALF:]).mean(axis=-1))
