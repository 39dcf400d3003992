"""What one structure of a sample scatters, as a polar table; textures and smearing of such tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

AZIMUTHS = 360
"""Rows of a table, 1° each: a spot of 2° is sampled, and 360 is divisible by every order that occurs."""
AZIMUTH: NDArray[np.float64] = np.arange(AZIMUTHS, dtype=np.float64) * (2.0 * math.pi / AZIMUTHS)
"""Azimuth of each row, radians."""

Table = NDArray[np.float64]
"""(AZIMUTHS, q): intensity."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """Noiseless intensity of one structure, or of what surrounds the sample."""

    kind: str
    """``lamellar``, ``powder``, ``mesophase``, ``form_factor``, ``lattice``, ``diffuse``, ``surroundings``."""
    table: Table
    """Intensity over azimuth and q, in counts a pixel once it is in a frame; arbitrary before."""
    grains: bool = False
    """Whether single grains make its spots; what they draw is spotted and not textured."""


def textured(
    order: int, azimuth: NDArray[np.float64], *, strength: float, phase: float
) -> NDArray[np.float64]:
    """Return a von Mises distribution of `order` maxima around the circle, of mean 1.

    exp(κ cos k(χ - χ0)) / I0(κ) with κ = `strength`.
    """
    return np.exp(strength * np.cos(order * (azimuth - phase))) / np.i0(strength)


def march_dollase(azimuth: NDArray[np.float64], *, compression: float, phase: float) -> NDArray[np.float64]:
    """Return the March-Dollase distribution of plates or needles about an axis in the detector's plane, of mean 1.

    (r² cos²α + sin²α / r)^(-3/2), Dollase, J. Appl. Cryst. 19 (1986) 267; two-fold.
    """
    cosine2 = np.cos(azimuth - phase) ** 2
    pole = (compression**2 * cosine2 + (1.0 - cosine2) / compression) ** -1.5
    return np.asarray(pole / pole.mean())


def smeared(table: Table, *, azimuth: float, q: float) -> Table:
    """Return a table convolved with Gaussians of standard deviations `azimuth` rows and `q` columns."""
    around = gaussian_filter1d(table, azimuth, axis=0, mode="wrap") if azimuth else table
    return gaussian_filter1d(around, q, axis=1, mode="nearest") if q else around


def turned(table: Table, degrees: int) -> Table:
    """Return a table turned about the beam."""
    return np.roll(table, degrees * AZIMUTHS // 360, axis=0)
