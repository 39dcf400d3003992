"""The basis on the pixels that one geometry shows: projections Uᵀy, their transpose, and UᵀU."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.fbt.basis import real_basis
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import FittedPixels, energies_of
from dvfb_stream.fbt.projection.symmetric_projection import PlainProjection, SymmetricProjection

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

    def __len__(self) -> int:
        return len(self.values)


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
        for first, part in self.pixels.parts(self.pixels.checked(images)):
            working = self.pixels.averages(part, first=first)
            averages, squares = working.averages, working.energies
            if dtype not in (None, averages.dtype):
                averages = averages.to(dtype)
                squares = energies_of(averages)  # as exact as the products that it is compared with
            projection = self._projection(averages.dtype)
            folded.append(projection.fold(averages))
            energies.append(squares)
        return Projections(projection.unfold(folded), torch.cat(energies), self.pixels.count)

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
