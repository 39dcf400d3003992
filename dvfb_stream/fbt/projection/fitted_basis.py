"""The basis on the pixels that one geometry shows: projections Uᵀy, their transpose, and UᵀU."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.fbt.basis import largest_wavenumber, real_basis
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import FittedPixels, WorkingGrid, energies_of
from dvfb_stream.fbt.projection.skeletons import CUT, continued_basis, fold_axis

CANCELLED = 1e-6
"""Share of a function's square on the fitted pixels that must be left for a difference of Gram matrices to do."""


@dataclass(frozen=True, slots=True)
class Projections:
    """All that the estimate needs to know of images."""

    values: Tensor
    """(B, J) Uᵀy, in the type of the products."""
    energies: Tensor
    """(B,) ‖y‖², float64."""
    pixels: int
    """n, fitted pixels of each image."""
    dtype: torch.dtype
    """Of the images, as they are worked on, and of the coefficients that are returned: float64 for images of that and
    longer types, float32 for all else."""


class _Extent(TypedDict):
    radius: float
    n_radial: int
    orders: tuple[int, ...]


class FittedBasis:
    """U, never written out: the real basis on the fitted pixels of a geometry. Threads may share it.

    Parameters
    ----------
    pixels
        Those that are fitted, on the device where images are projected.
    radius
        a in working pixels.
    n_radial, orders
        Extent of the basis.

    Attributes
    ----------
    gram
        (J, J) UᵀU, float64.
    """

    def __init__(
        self, pixels: FittedPixels, *, radius: float, n_radial: int, orders: tuple[int, ...]
    ) -> None:
        self.pixels = pixels
        self._extent = _Extent(radius=radius, n_radial=n_radial, orders=orders)
        self._lock = threading.Lock()
        self._projections: dict[torch.dtype, SymmetricProjection | PlainProjection] = {}
        self._projection(torch.float32)
        self.gram = self._gram_of(self.pixels.fitted)

    @property
    def unknowns(self) -> int:
        """J, the number of real unknowns."""
        orders = self._extent["orders"]
        return self._extent["n_radial"] * (2 * len(orders) - (0 in orders))

    @property
    def nbytes(self) -> int:
        """Bytes held, shared parts included; grows when float64 images are first seen."""
        # A copy taken at once instead of under the lock, under which a projection may be being built.
        projections = tuple(self._projections.values())
        return self.gram.nbytes + self.pixels.nbytes + sum(part.nbytes for part in projections)

    def without(self, lost: NDArray[np.bool_]) -> FittedBasis:
        """Return the basis on what is left when further pixels, (H, W), are invalid.

        Raises
        ------
        GeometryError
            When the shape is wrong, or no fitted pixel is left.
        """
        left = copy.copy(self)  # shares the projections and their lock: images carry the mask
        left.pixels = self.pixels.without(lost)
        left.gram = self.gram - self._gram_of(self.pixels.fitted & ~left.pixels.fitted)
        if bool((left.gram.diagonal() < CANCELLED * self.gram.diagonal()).any()):
            # Functions that hardly saw anything else: what is left of them would be rounding.
            left.gram = self._gram_of(left.pixels.fitted)
        return left

    def matrix(self) -> NDArray[np.float64]:
        """Return U, (n fitted pixels, J): the basis cropped to the window, Algorithm 1 line 1. Computed anew."""
        return self._basis_on(self.pixels.fitted)

    def project(self, images: ArrayLike | Tensor, dtype: torch.dtype | None) -> Projections:
        """Return Uᵀy of (B, H, W) images, in a type of the products; None: the images' own."""
        folded, energies = [], []
        for working in self.pixels.averages(images):
            averages, squares = working.averages, working.energies
            worked_on = averages.dtype
            if dtype not in (None, worked_on):
                averages = averages.to(dtype)
                squares = energies_of(averages)  # as exact as the products that it is compared with
            projection = self._projection(averages.dtype)
            folded.append(projection.fold(averages))
            energies.append(squares)
        return Projections(projection.unfold(folded), torch.cat(energies), self.pixels.count, worked_on)

    def synthesise(self, unknowns: Tensor) -> Tensor:
        """Return Σ a_j u_j on all working pixels, (B, rows, columns), of (B, J)."""
        return self._projection(unknowns.dtype).synthesise(unknowns)

    def _projection(self, dtype: torch.dtype) -> SymmetricProjection | PlainProjection:
        """Return the fold, or the plain product where the grid is so small that this takes fewer multiplications."""
        with self._lock:
            if dtype not in self._projections:
                grid, device = self.pixels.grid, self.pixels.device
                chosen: SymmetricProjection | PlainProjection = SymmetricProjection(
                    grid, **self._extent, dtype=dtype, device=device
                )
                inside = grid.polar()[0] < self._extent["radius"]
                if np.count_nonzero(inside) * self.unknowns < chosen.products:
                    basis = torch.from_numpy(self._basis_on(inside)).to(device, dtype)
                    places = torch.from_numpy(np.flatnonzero(inside)).to(device)
                    chosen = PlainProjection(basis, places, grid.shape)
                self._projections[dtype] = chosen
            return self._projections[dtype]

    def _basis_on(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        r, azimuth = self.pixels.grid.polar()
        return real_basis(r[pixels], azimuth[pixels], **self._extent)

    def _gram_of(self, pixels: NDArray[np.bool_]) -> Tensor:
        r, azimuth = self.pixels.grid.polar()
        gram = gram_matrix(r[pixels], azimuth[pixels], **self._extent)
        return torch.from_numpy(gram).to(self.pixels.device)


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
                fold_axis(length, centre, odd=odd, radius=radius, band=band, cut=CUT[dtype])
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
            basis = continued_basis(
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
