"""The Gram matrix UᵀU from moments of the pixels, without a row of U.

An entry of UᵀU is a sum over pixels of R_nm(r) R_n'm'(r) times the product of two angular functions. Products of
cosines and sines are cosines and sines of m ± m', and the product of two radial functions is band-limited, hence
fixed by its values at Chebyshev nodes ρ_k. So

    (UᵀU)_{nm,n'm'} = Σ_k R_nm(ρ_k) R_n'm'(ρ_k) h_k,    h_k = Σ_pixels ℓ_k(r) cos or sin((m ± m') φ)

with ℓ_k the Lagrange functions of the nodes: some hundred radial by forty angular moments stand for the mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.fbt.basis import continued_radial_functions, largest_wavenumber, real_basis

FEW_PIXELS = 300
"""Up to so many pixels the product of their rows of U is the cheaper way."""

PIXELS_AT_ONCE = 1 << 15
"""Pixels whose polynomials are held at a time: some 100 MB."""


def gram_matrix(
    r: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    *,
    radius: float,
    n_radial: int,
    orders: tuple[int, ...],
) -> NDArray[np.float64]:
    """Return UᵀU over the given points.

    Parameters
    ----------
    r, azimuth
        (P,) polar coordinates of the points; those with r >= a count for nothing.
    radius, n_radial, orders
        As in `dvfb_stream.fbt.basis.real_basis`, which fixes the order of rows and columns.

    Returns
    -------
    ndarray of shape (J, J), float64
        Symmetric; right to some 1e-13 of its largest entry.
    """
    inside = r < radius
    r, azimuth = r[inside], azimuth[inside]
    if r.size <= FEW_PIXELS:
        basis = real_basis(r, azimuth, radius=radius, n_radial=n_radial, orders=orders)
        return np.asarray(basis.T @ basis)
    band = largest_wavenumber(radius=radius, n_radial=n_radial, orders=orders)
    nodes, cosines, sines = _moments(r, azimuth, band=band, highest=2 * max(orders))
    radial = [
        continued_radial_functions(nodes, radius=radius, order=order, n_radial=n_radial) for order in orders
    ]
    # Place of each order's cosine block; its sine block follows, but for m = 0, which has none.
    starts = np.cumsum([0] + [n_radial * (1 if order == 0 else 2) for order in orders])
    gram = np.zeros((starts[-1], starts[-1]))
    for i, m in enumerate(orders):
        for j, other in enumerate(orders[: i + 1]):
            rows, columns = starts[i], starts[j]
            for row_sine in range(1 if m == 0 else 2):
                for column_sine in range(1 if other == 0 else 2):
                    weights = _angular_moment(cosines, sines, m, other, row_sine, column_sine)
                    block = (radial[i] * weights[:, None]).T @ radial[j]
                    at = (
                        slice(rows + row_sine * n_radial, rows + (row_sine + 1) * n_radial),
                        slice(columns + column_sine * n_radial, columns + (column_sine + 1) * n_radial),
                    )
                    gram[at] = block
                    gram[at[::-1]] = block.T
    # Products may round differently on both sides of the diagonal.
    return 0.5 * (gram + gram.T)


def _moments(
    r: NDArray[np.float64], azimuth: NDArray[np.float64], *, band: float, highest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Chebyshev nodes and h_k of cos(lφ) and sin(lφ) for l = 0..highest, (nodes,) and (nodes, highest + 1) each."""
    begin, length = float(r.min()), float(np.ptp(r))
    # A function of band 2K on a line of that length is a Chebyshev series of degree K·length; past that it falls
    # like an Airy function, below 1e-16 within some twelve times the cube root.
    degree = band * length
    count = int(np.ceil(degree + 12 * np.cbrt(degree) + 10))
    turns = np.arange(highest + 1)
    moments = np.zeros((count, 2 * len(turns)))
    for first in range(0, r.size, PIXELS_AT_ONCE):
        some = slice(first, first + PIXELS_AT_ONCE)
        place = 2 * (r[some] - begin) / max(length, np.finfo(float).tiny) - 1
        angles = np.multiply.outer(azimuth[some], turns)
        polynomials = np.polynomial.chebyshev.chebvander(place, count - 1)
        moments += polynomials.T @ np.hstack([np.cos(angles), np.sin(angles)])
    points = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    # Discrete orthogonality at the nodes turns moments of polynomials into those of Lagrange functions.
    moments[0] *= 0.5
    h = 2 / count * np.polynomial.chebyshev.chebvander(points, count - 1) @ moments
    return begin + length * (points + 1) / 2, h[:, : highest + 1], h[:, highest + 1 :]


def _angular_moment(
    cosines: NDArray[np.float64],
    sines: NDArray[np.float64],
    m: int,
    other: int,
    row_sine: int,
    column_sine: int,
) -> NDArray[np.float64]:
    """h_k of the product of two orthonormal angular functions, by the addition theorems; m >= other or not."""
    norm = 1.0
    for order in (m, other):
        norm /= np.sqrt(2 * np.pi) if order == 0 else np.sqrt(np.pi)
    total, difference = m + other, m - other
    sign = 1.0 if difference >= 0 else -1.0
    cos_sum, cos_difference = cosines[:, total], cosines[:, abs(difference)]
    sin_sum, sin_difference = sines[:, total], sign * sines[:, abs(difference)]
    if row_sine and column_sine:
        product = cos_difference - cos_sum
    elif row_sine:
        product = sin_sum + sin_difference
    elif column_sine:
        product = sin_sum - sin_difference
    else:
        product = cos_difference + cos_sum
    return np.asarray(0.5 * norm * product)
