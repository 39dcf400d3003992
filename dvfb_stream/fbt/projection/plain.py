"""Projection as one matrix product with the basis on the fitted pixels: the definition, and the choice for few."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PlainProjection:
    """Uᵀy and U a by the matrix U.

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
