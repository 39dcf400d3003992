"""Projection and synthesis folded by what the basis cannot do: break its symmetries or exceed its band.

About the beam centre every real function of the basis is even or odd in x and in y, and it is a superposition of
waves no shorter than 2π a / x_nm. Along one axis, functions of one parity and that band are therefore fixed by
their values on a few of the grid's own lines, the skeleton; every other line is a fixed combination of those.
Where the centre lies on a half-pixel, mirrored lines are equal and the skeleton is a quarter of the grid, less
what the band saves; where it does not, the band alone decides. Masks do not matter: they are in the images.

So Uᵀy needs the images only after both axes are folded onto the skeleton, S = T_y Y T_xᵀ: two small products, and a
third with the basis on the skeleton, a sixth to a half of the product with U on all pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from dvfb_stream.fbt.basis import angular_functions, continued_radial_functions

CUT = {torch.float32: 1e-7, torch.float64: 1e-15}
"""Lines are left out once they are known to this share from the others: about the rounding of each type. Measured in
float32 over five geometries, of the largest projection: 4e-7 to 2e-6, where the plain product has 1e-6 to 2e-6."""

NODES_BEYOND_BAND = 60
"""Wavenumbers at which an axis is sampled besides one for each half wave: enough for Gauss' rule to reach 1e-16."""


@dataclass(frozen=True, slots=True)
class SkeletonAxis:
    """One axis of the grid for functions of one parity about the beam."""

    skeleton: NDArray[np.intp]
    """(rank,) lines of the grid whose values suffice."""
    interpolation: NDArray[np.float64]
    """(rank, lines): the value on a line is the sum of the skeleton's, weighted by its column; zero off the disk."""


def fold_axis(
    length: int, centre: float, *, odd: bool, radius: float, band: float, cut: float
) -> SkeletonAxis:
    """Choose the skeleton of one axis by a pivoted QR decomposition of waves sampled over the band.

    The interpolative decomposition of Cheng, Gimbutas, Martinsson and Rokhlin (2005): the columns that pivoting
    takes first span the others, and the triangular factor says with which weights, none much above one.
    """
    distance = np.arange(length) - centre
    # Lines that no circle r < a reaches carry nothing.
    near = np.flatnonzero(np.abs(distance) < radius)
    if near.size == 0:
        return SkeletonAxis(near, np.zeros((0, length)))
    extent = float(np.abs(distance[near]).max())
    count = int(np.ceil(band * extent / np.pi)) + NODES_BEYOND_BAND
    nodes, weights = np.polynomial.legendre.leggauss(count)
    wave = np.sin if odd else np.cos
    waves = wave(np.multiply.outer(0.5 * band * (nodes + 1), distance[near])) * np.sqrt(weights)[:, None]
    triangle, pivots = qr(waves, mode="r", pivoting=True)
    diagonal = np.abs(np.diagonal(triangle))
    rank = int(np.count_nonzero(diagonal > cut * diagonal[0])) if diagonal[0] > 0 else 0
    interpolation = np.zeros((rank, length))
    interpolation[:, near[pivots[:rank]]] = np.eye(rank)
    interpolation[:, near[pivots[rank:]]] = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])
    return SkeletonAxis(near[pivots[:rank]], interpolation)


def continued_basis(
    y: NDArray[np.floating],
    x: NDArray[np.floating],
    functions: list[tuple[int, int]],
    *,
    radius: float,
    n_radial: int,
) -> NDArray[np.float64]:
    """Real basis functions on the lattice y × x about the beam, not cut at r = a: (y · x, K)."""
    r = np.hypot.outer(y, x).ravel()
    azimuth = np.arctan2(np.repeat(y, x.size), np.tile(x, y.size))
    distinct, inverse = np.unique(r, return_inverse=True)
    blocks = []
    radial: dict[int, NDArray[np.float64]] = {}
    for order, sine in functions:
        if order not in radial:
            radial[order] = continued_radial_functions(
                distinct, radius=radius, order=order, n_radial=n_radial
            )[inverse]
        blocks.append(radial[order] * angular_functions(azimuth, order)[sine][:, None])
    return np.hstack(blocks)
