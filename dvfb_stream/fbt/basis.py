"""The Fourier-Bessel basis (3)(4): eigenfunctions of the Laplacian on a disk that vanish on its rim.

    Ψ_nm(r, φ) = R_nm(r) Φ_m(φ),   Φ_m(φ) = exp(i m φ) / √(2π)                              (3)
    R_nm(r)    = J_m(x_nm r / a) / √N_nm,   N_nm = a² J²_{m+1}(x_nm) / 2   for r < a, else 0   (4)

with x_nm the n-th positive root of J_m. For a real image the exact model is Hermitian, so that the real
functions Ψ_n0, √2 Re Ψ_nm and √2 Im Ψ_nm (m > 0) are an orthonormal basis of all that m ≥ 0 can express.

Without the cut at r = a these are entire functions of the plane, superpositions of waves whose wavenumber is
x_nm / a: band-limited, which is what makes their projections cheap (`dvfb_stream.fbt.projection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import jn_zeros, jv, jvp

TABLE_STEP = 0.03
"""Spacing of the tables of J_m. A quintic Hermite interpolant errs by at most step⁶/46080 · max|J_m⁽⁶⁾| < 2e-14."""


@lru_cache(maxsize=256)
def bessel_zeros(order: int, count: int) -> NDArray[np.float64]:
    """Return x_nm, the first `count` positive roots of J_m for m = `order`, shape (count,)."""
    zeros = np.asarray(jn_zeros(order, count), dtype=np.float64)
    zeros.flags.writeable = False
    return zeros


def largest_wavenumber(*, radius: float, n_radial: int, orders: tuple[int, ...]) -> float:
    """Return max x_nm / a, radians per unit of `radius`: the band limit of the basis."""
    return float(max(bessel_zeros(order, n_radial)[-1] for order in orders)) / radius


def radial_functions(
    r: NDArray[np.float64], *, radius: float, order: int, n_radial: int
) -> NDArray[np.float64]:
    """Return R_nm(r) of (4) for n = 1..n_radial.

    Parameters
    ----------
    r
        (P,) distances from the beam centre, in the unit of `radius`.
    radius
        a, the radius of the disk.
    order
        m, not negative.
    n_radial
        How many radial indices.

    Returns
    -------
    ndarray of shape (P, n_radial)
        Zero where r >= a.
    """
    values = np.zeros((r.size, n_radial))
    inside = r < radius
    values[inside] = continued_radial_functions(r[inside], radius=radius, order=order, n_radial=n_radial)
    return values


def continued_radial_functions(
    r: NDArray[np.float64], *, radius: float, order: int, n_radial: int
) -> NDArray[np.float64]:
    """Return J_m(x_nm r / a) / √N_nm for any r >= 0: (4) without its cut at r = a, (P, n_radial)."""
    zeros = bessel_zeros(order, n_radial)
    norms = radius * np.abs(jv(order + 1, zeros)) / np.sqrt(2.0)
    arguments = np.multiply.outer(r / radius, zeros)
    # Tables end at the rim, or at a multiple of it that grows by octaves: few lengths, hence few tables.
    beyond = max(1.0, float(arguments.max(initial=0.0)) / zeros[-1])
    octaves = int(np.ceil(np.log2(beyond)))
    values: NDArray[np.float64] = _bessel_table(order, n_radial, octaves)(arguments) / norms
    return values


@dataclass(frozen=True, slots=True, eq=False)
class _Quintics:
    """A polynomial on each of the intervals [0, step], [step, 2 step], ...

    As fast as SciPy's PPoly, whose import takes as long as a frame's estimate.
    """

    step: float
    coefficients: NDArray[np.float64]
    """(K, 6), the highest power first, of the distance from the interval's left end."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        interval = np.minimum((x / self.step).astype(np.intp), len(self.coefficients) - 1)
        distance = x - interval * self.step
        powers = np.take(self.coefficients, interval, axis=0)
        values: NDArray[np.float64] = powers[..., 0].copy()
        for k in range(1, powers.shape[-1]):
            values *= distance
            values += powers[..., k]
        return values


@lru_cache(maxsize=256)
def _bessel_table(order: int, count: int, octaves: int) -> _Quintics:
    """J_m on [0, 2^octaves x_{count,m}]: evaluating it once on a line spares evaluating it on every pixel."""
    end = bessel_zeros(order, count)[-1] * 2.0**octaves
    nodes, h = np.linspace(0.0, end, int(np.ceil(end / TABLE_STEP)) + 1, retstep=True)
    value, slope, bend = jv(order, nodes), np.empty_like(nodes), np.empty_like(nodes)
    slope[0], bend[0] = jvp(order, 0.0), jvp(order, 0.0, 2)
    # Elsewhere by the recurrence of J_m' and by Bessel's equation: SciPy's own takes four more J's.
    x = nodes[1:]
    slope[1:] = order / x * value[1:] - jv(order + 1, x)
    bend[1:] = (order**2 / x**2 - 1) * value[1:] - slope[1:] / x
    # What the Taylor polynomial at the left node misses at the right one, in value, slope and bend.
    misses = np.diff(value) - slope[:-1] * h - bend[:-1] * h**2 / 2
    slope_misses = np.diff(slope) - bend[:-1] * h
    bend_misses = np.diff(bend)
    return _Quintics(
        float(h),
        np.stack(
            [
                6 * misses / h**5 - 3 * slope_misses / h**4 + bend_misses / (2 * h**3),
                -15 * misses / h**4 + 7 * slope_misses / h**3 - bend_misses / h**2,
                10 * misses / h**3 - 4 * slope_misses / h**2 + bend_misses / (2 * h),
                bend[:-1] / 2,
                slope[:-1],
                value[:-1],
            ],
            axis=1,
        ),
    )


def real_basis(
    r: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    *,
    radius: float,
    n_radial: int,
    orders: tuple[int, ...],
) -> NDArray[np.float64]:
    """Return the orthonormal real basis at the given points.

    Parameters
    ----------
    r, azimuth
        (P,) polar coordinates about the beam centre; azimuth = atan2(y - center_y, x - center_x).
    radius, n_radial
        a and the number of radial indices.
    orders
        Angular orders m >= 0, each once.

    Returns
    -------
    ndarray of shape (P, unknowns), float64
        Columns order by order: n = 1..n_radial of Ψ_n0 for m = 0, of √2 Re Ψ_nm and then of √2 Im Ψ_nm above.
        Zero where r >= a.
    """
    # Pixels on a grid share radii; with a centred beam ten times fewer are distinct than there are pixels.
    distinct, inverse = np.unique(r, return_inverse=True)
    columns = []
    for order in orders:
        radial = radial_functions(distinct, radius=radius, order=order, n_radial=n_radial)[inverse]
        columns += [radial * factor[:, None] for factor in angular_functions(azimuth, order)]
    return np.hstack(columns)


def angular_functions(azimuth: NDArray[np.float64], order: int) -> list[NDArray[np.float64]]:
    """Return the real orthonormal Φ of (3): 1/√(2π) for m = 0, [cos(mφ), sin(mφ)] / √π above, (P,) each."""
    if order == 0:
        return [np.full_like(azimuth, 1.0 / np.sqrt(2.0 * np.pi))]
    return [np.cos(order * azimuth) / np.sqrt(np.pi), np.sin(order * azimuth) / np.sqrt(np.pi)]
