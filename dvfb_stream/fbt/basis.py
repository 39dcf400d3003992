"""The Fourier-Bessel basis (3)(4): eigenfunctions of the Laplacian on a disk that vanish on its rim.

    Ψ_nm(r, φ) = R_nm(r) Φ_m(φ),   Φ_m(φ) = exp(i m φ) / √(2π)                              (3)
    R_nm(r)    = J_m(x_nm r / a) / √N_nm,   N_nm = a² J²_{m+1}(x_nm) / 2   for r < a, else 0   (4)

with x_nm the n-th positive root of J_m. For a real image the exact model is Hermitian, so that the real
functions Ψ_n0, √2 Re Ψ_nm and √2 Im Ψ_nm (m > 0) are an orthonormal basis of all that m ≥ 0 can express.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.special import jn_zeros, jv, jvp

TABLE_STEP = 0.02
"""Spacing of the tables of J_m. A cubic Hermite interpolant errs by at most step⁴/384 · max|J_m''''| < 5e-10."""


@lru_cache(maxsize=256)
def bessel_zeros(order: int, count: int) -> NDArray[np.float64]:
    """Return x_nm, the first `count` positive roots of J_m for m = `order`, shape (count,)."""
    zeros = np.asarray(jn_zeros(order, count), dtype=np.float64)
    zeros.flags.writeable = False
    return zeros


@lru_cache(maxsize=256)
def _bessel_table(order: int, count: int) -> CubicHermiteSpline:
    """J_m on [0, x_{count,m}]: evaluating it once on a line spares evaluating it on every pixel."""
    end = bessel_zeros(order, count)[-1]
    nodes = np.linspace(0.0, end, int(np.ceil(end / TABLE_STEP)) + 1)
    return CubicHermiteSpline(nodes, jv(order, nodes), jvp(order, nodes))


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
    zeros = bessel_zeros(order, n_radial)
    norms = radius * np.abs(jv(order + 1, zeros)) / np.sqrt(2.0)
    inside = r < radius
    values = np.zeros((r.size, n_radial))
    values[inside] = _bessel_table(order, n_radial)(np.multiply.outer(r[inside] / radius, zeros)) / norms
    return values


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
    """
    # Pixels on a grid share radii; with a centred beam ten times fewer are distinct than there are pixels.
    distinct, inverse = np.unique(r, return_inverse=True)
    columns = []
    for order in orders:
        radial = radial_functions(distinct, radius=radius, order=order, n_radial=n_radial)[inverse]
        if order == 0:
            columns.append(radial / np.sqrt(2.0 * np.pi))
        else:
            columns.append(radial * (np.cos(order * azimuth) / np.sqrt(np.pi))[:, None])
            columns.append(radial * (np.sin(order * azimuth) / np.sqrt(np.pi))[:, None])
    return np.hstack(columns)
