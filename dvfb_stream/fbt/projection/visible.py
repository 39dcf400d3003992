"""The basis on the pixels that one geometry shows: projections Uᵀy, their transpose, and UᵀU."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.fbt.basis import real_basis
from dvfb_stream.fbt.projection.folded import FoldedProjection
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import FittedPixels, WorkingGrid, energies_of
from dvfb_stream.fbt.projection.plain import PlainProjection
from dvfb_stream.fbt.settings import FourierBesselSettings

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


class VisibleBasis:
    """U, never written out: the real basis on the fitted pixels of a geometry. Threads may share it.

    Parameters
    ----------
    settings
        Radius, radial indices, orders and downsampling.
    valid
        (H, W) boolean, True = valid.
    center_x, center_y
        Direct beam in pixels of the images.
    device
        Where images are projected.

    Attributes
    ----------
    grid
        Working pixels and the beam centre among them.
    pixels
        Which of them are fitted.
    gram
        (J, J) UᵀU, float64.

    Raises
    ------
    GeometryError
        When no pixel is fitted.
    """

    def __init__(
        self,
        settings: FourierBesselSettings,
        valid: NDArray[np.bool_],
        *,
        center_x: float,
        center_y: float,
        device: torch.device,
    ) -> None:
        downsample = settings.downsample
        self._device = device
        self._radius = settings.radius / downsample
        self._n_radial, self._orders = settings.n_radial, settings.orders
        self.grid = WorkingGrid.of((valid.shape[0], valid.shape[1]), center_x, center_y, downsample)
        self.pixels = FittedPixels(
            self.grid, valid, radius=self._radius, downsample=downsample, device=device
        )
        self._lock = threading.Lock()
        self._projections: dict[torch.dtype, FoldedProjection | PlainProjection] = {}
        self._projection(torch.float32)
        self.gram = self._gram_of(self.pixels.fitted)

    @property
    def unknowns(self) -> int:
        """J, the number of real unknowns."""
        return self._n_radial * (2 * len(self._orders) - (0 in self._orders))

    @property
    def nbytes(self) -> int:
        """Bytes held, shared parts included; grows when float64 images are first seen."""
        # A copy taken at once instead of under the lock, under which a projection may be being built.
        projections = tuple(self._projections.values())
        return self.gram.nbytes + self.pixels.nbytes + sum(part.nbytes for part in projections)

    def without(self, lost: NDArray[np.bool_]) -> VisibleBasis:
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

    def _projection(self, dtype: torch.dtype) -> FoldedProjection | PlainProjection:
        """Return the fold, or the plain product where the grid is so small that this takes fewer multiplications."""
        with self._lock:
            if dtype not in self._projections:
                chosen: FoldedProjection | PlainProjection = FoldedProjection(
                    self.grid,
                    radius=self._radius,
                    n_radial=self._n_radial,
                    orders=self._orders,
                    dtype=dtype,
                    device=self._device,
                )
                inside = self.grid.polar()[0] < self._radius
                if np.count_nonzero(inside) * self.unknowns < chosen.products:
                    basis = torch.from_numpy(self._basis_on(inside)).to(self._device, dtype)
                    places = torch.from_numpy(np.flatnonzero(inside)).to(self._device)
                    chosen = PlainProjection(basis, places, self.grid.shape)
                self._projections[dtype] = chosen
            return self._projections[dtype]

    def _basis_on(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        r, azimuth = self.grid.polar()
        return real_basis(
            r[pixels],
            azimuth[pixels],
            radius=self._radius,
            n_radial=self._n_radial,
            orders=self._orders,
        )

    def _gram_of(self, pixels: NDArray[np.bool_]) -> Tensor:
        r, azimuth = self.grid.polar()
        gram = gram_matrix(
            r[pixels],
            azimuth[pixels],
            radius=self._radius,
            n_radial=self._n_radial,
            orders=self._orders,
        )
        return torch.from_numpy(gram).to(self._device)
