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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular
from torch import Tensor

from dvfb_stream.fbt.basis import angular_functions, continued_radial_functions, largest_wavenumber
from dvfb_stream.fbt.projection.pixels import WorkingGrid

CUT = {torch.float32: 1e-7, torch.float64: 1e-15}
"""Lines are left out once they are known to this share from the others: about the rounding of each type. Measured in
float32 over five geometries, of the largest projection: 4e-7 to 2e-6, where the plain product has 1e-6 to 2e-6."""

NODES_BEYOND_BAND = 60
"""Wavenumbers at which an axis is sampled besides one for each half wave: enough for Gauss' rule to reach 1e-16."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the grid for functions of one parity about the beam."""

    skeleton: NDArray[np.intp]
    """(rank,) lines of the grid whose values suffice."""
    interpolation: NDArray[np.float64]
    """(rank, lines): the value on a line is the sum of the skeleton's, weighted by its column; zero off the disk."""


@dataclass(frozen=True, slots=True)
class _ParityClass:
    """Functions of the same parities: the even or odd orders' cosines or sines."""

    unknowns: Tensor
    """(K,) their places among the unknowns."""
    rows: slice
    """Their skeleton's rows among those of both parities."""
    columns: Tensor
    """(rank_x, columns) interpolation along x."""
    basis: Tensor
    """(rank_y · rank_x, K), the functions on the skeleton."""


class SymmetricProjection:
    """Uᵀy and U a for all working pixels of a grid, in one floating type.

    Parameters
    ----------
    grid
        Working pixels and beam centre; the centre may lie anywhere.
    radius
        a in working pixels.
    n_radial, orders
        Extent of the basis.
    dtype, device
        Type and place of images and coefficients.
    """

    def __init__(
        self,
        grid: WorkingGrid,
        *,
        radius: float,
        n_radial: int,
        orders: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._shape = grid.shape
        band = largest_wavenumber(radius=radius, n_radial=n_radial, orders=orders)
        along_y, along_x = (
            [
                _fold_axis(length, centre, odd=odd, radius=radius, band=band, cut=CUT[dtype])
                for odd in (False, True)
            ]
            for length, centre in zip(grid.shape, (grid.center_y, grid.center_x), strict=True)
        )
        # Members of a class: (order, 0 for cosine or 1 for sine). With y -> -y cosines are even and sines odd;
        # with x -> -x the order's parity comes in.
        members: dict[tuple[bool, bool], list[tuple[int, int]]] = {}
        for order in orders:
            for sine in range(1 if order == 0 else 2):
                members.setdefault((bool(sine), bool((order + sine) % 2)), []).append((order, sine))
        first_unknown = dict(zip(_in_order(orders), range(0, 2**31, n_radial), strict=False))
        parities = sorted({odd_y for odd_y, _ in members})
        ends = np.cumsum([0] + [len(along_y[odd_y].skeleton) for odd_y in parities])
        self._rows = _tensor(
            np.concatenate([along_y[odd_y].interpolation for odd_y in parities]), dtype, device
        )
        self._classes: list[_ParityClass] = []
        for (odd_y, odd_x), functions in members.items():
            place = parities.index(odd_y)
            basis = _continued_basis(
                along_y[odd_y].skeleton - grid.center_y,
                along_x[odd_x].skeleton - grid.center_x,
                functions,
                radius=radius,
                n_radial=n_radial,
            )
            unknowns = np.concatenate([first_unknown[f] + np.arange(n_radial) for f in functions])
            self._classes.append(
                _ParityClass(
                    unknowns=torch.from_numpy(unknowns).to(device),
                    rows=slice(int(ends[place]), int(ends[place + 1])),
                    columns=_tensor(along_x[odd_x].interpolation, dtype, device),
                    basis=_tensor(basis, dtype, device),
                )
            )
        self._order_of_unknowns = torch.argsort(torch.cat([part.unknowns for part in self._classes]))
        y, x = np.ogrid[: grid.shape[0], : grid.shape[1]]
        inside = np.hypot(y - grid.center_y, x - grid.center_x) < radius
        self._inside = torch.from_numpy(inside).to(device)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = [self._rows, self._order_of_unknowns, self._inside]
        for part in self._classes:
            tensors += [part.unknowns, part.columns, part.basis]
        return sum(tensor.nbytes for tensor in tensors)

    @property
    def products(self) -> int:
        """Multiplications that one image takes."""
        rows, columns = self._shape
        total = len(self._rows) * rows * columns
        for part in self._classes:
            total += (part.rows.stop - part.rows.start) * columns * len(part.columns) + part.basis.numel()
        return total

    def project(self, images: Tensor) -> Tensor:
        """Return Uᵀy, (B, J), of (B, rows, columns) images that are zero where nothing is fitted."""
        return self.unfold([self.fold(images)])

    def fold(self, images: Tensor) -> list[Tensor]:
        """Return the images folded onto the skeletons, (B, rank_y · rank_x) for each class of functions."""
        # Along y first: what is left of the rows is contiguous for the product along x.
        rows = self._rows @ images
        return [(rows[:, part.rows] @ part.columns.T).flatten(1) for part in self._classes]

    def unfold(self, folded: Sequence[list[Tensor]]) -> Tensor:
        """Return Uᵀy, (B, J), of what `fold` returned for all parts of a batch."""
        parts = [
            torch.cat(values) @ part.basis
            for values, part in zip(zip(*folded, strict=True), self._classes, strict=True)
        ]
        return torch.cat(parts, dim=1)[:, self._order_of_unknowns]

    def synthesise(self, unknowns: Tensor) -> Tensor:
        """Return U a on all working pixels, (B, rows, columns), of (B, J): the transpose, step by step."""
        folded = unknowns.new_zeros(len(unknowns), len(self._rows), self._shape[1])
        for part in self._classes:
            on_skeleton = unknowns[:, part.unknowns] @ part.basis.T
            folded[:, part.rows] += (
                on_skeleton.reshape(len(unknowns), part.rows.stop - part.rows.start, len(part.columns))
                @ part.columns
            )
        images = self._rows.T @ folded
        return torch.where(self._inside, images, torch.zeros((), dtype=images.dtype, device=images.device))


class PlainProjection:
    """Uᵀy and U a by the matrix U itself: the definition, and the choice where pixels are few.

    Parameters
    ----------
    basis
        (P, J) U on working pixels.
    places
        (P,) these pixels' places in a flattened image.
    shape
        (rows, columns) of the images.
    """

    def __init__(self, basis: Tensor, places: Tensor, shape: tuple[int, int]) -> None:
        self._basis = basis
        self._places = places
        self._shape = shape

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._basis.nbytes + self._places.nbytes

    @property
    def products(self) -> int:
        """Multiplications that one image takes."""
        return self._basis.numel()

    def project(self, images: Tensor) -> Tensor:
        """Return Uᵀy, (B, J), of (B, rows, columns) images that are zero where nothing is fitted."""
        return self.unfold([self.fold(images)])

    def fold(self, images: Tensor) -> list[Tensor]:
        """Return the pixels that have a row in the basis, (B, P)."""
        return [images.flatten(1)[:, self._places]]

    def unfold(self, folded: Sequence[list[Tensor]]) -> Tensor:
        """Return Uᵀy, (B, J), of what `fold` returned for all parts of a batch."""
        return torch.cat([pixels for part in folded for pixels in part]) @ self._basis

    def synthesise(self, unknowns: Tensor) -> Tensor:
        """Return U a on all working pixels, (B, rows, columns), of (B, J)."""
        images = unknowns.new_zeros(len(unknowns), self._shape[0] * self._shape[1])
        images[:, self._places] = unknowns @ self._basis.T
        return images.reshape(-1, *self._shape)


def _tensor(values: NDArray[np.float64], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, dtype)


def _in_order(orders: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (order, sine) of each block of n_radial unknowns, laid out as in `dvfb_stream.fbt.basis.real_basis`."""
    return [(order, sine) for order in orders for sine in range(1 if order == 0 else 2)]


def _fold_axis(length: int, centre: float, *, odd: bool, radius: float, band: float, cut: float) -> _Axis:
    """Choose the skeleton of one axis by a pivoted QR decomposition of waves sampled over the band.

    The interpolative decomposition of Cheng, Gimbutas, Martinsson and Rokhlin (2005): the columns that pivoting
    takes first span the others, and the triangular factor says with which weights, none much above one.
    """
    distance = np.arange(length) - centre
    # Lines that no circle r < a reaches carry nothing.
    near = np.flatnonzero(np.abs(distance) < radius)
    if near.size == 0:
        return _Axis(near, np.zeros((0, length)))
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
    return _Axis(near[pivots[:rank]], interpolation)


def _continued_basis(
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
