"""Expansions in the same functions on a full disk without a mask: fle_2d and ASPIRE.

They answer another question than the estimate: which coefficients a disk seen entirely has, up to a bandlimit, with
neither mask nor off-centre beam nor penalty. What they share with ours is the functions, (3)(4) of every order, and
the shape of the work.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.fbt import FourierBessel

EPSILON = 1e-6
"""Accuracy asked of either, relative; that of the estimate's objective."""


@dataclass(frozen=True, slots=True, eq=False)
class FullDisk:
    """The functions below a bandlimit, as fle_2d numbers them, and where they stand among ours."""

    size: int
    orders: NDArray[np.int_]
    """(J,) m of each function, negative for sine parts."""
    radial_indices: NDArray[np.int_]
    """(J,) n, from 1."""

    def estimator(self, device: str) -> FourierBessel:
        """Return our estimator of the disk: the smallest rectangle of n and m that holds all of its functions."""
        return FourierBessel(
            (self.size, self.size),
            self.size / 2,
            self.size / 2,
            radius=self.size / 2,
            n_radial=int(self.radial_indices.max()),
            orders=range(int(self.orders.max()) + 1),
            downsample=1,
            device=device,
        )

    def columns(self) -> NDArray[np.int_]:
        """(J,) columns of the estimator's basis."""
        return columns(self.orders, self.radial_indices, n_radial=int(self.radial_indices.max()))


def columns(orders: NDArray[np.int_], radial_indices: NDArray[np.int_], *, n_radial: int) -> NDArray[np.int_]:
    """Return where functions stand in the real basis of orders 0, 1, 2, ...; negative orders are sine parts."""
    m = np.abs(orders)
    cosines = np.where(m == 0, 0, (2 * m - 1) * n_radial) + radial_indices - 1
    return np.where(orders < 0, cosines + n_radial, cosines)


def bandlimit_of(functions: int, size: int) -> int:
    """Return fle_2d's bandlimit for about as many functions: about λ²/4 - λ/2 lie below λ = π (bandlimit - 1) / 2."""
    return min(size, 1 + 2 * round((1 + np.sqrt(1 + 4 * functions)) / np.pi))


class Fle2d:
    """fle_2d 0.1.2. Its angle is arctan2(column, row): images go in transposed."""

    def __init__(self, size: int, bandlimit: int) -> None:
        import fle_2d

        self.basis = fle_2d.FLEBasis2D(size, bandlimit, EPSILON, precision="single")
        self.disk = FullDisk(size, np.asarray(self.basis.ns), np.asarray(self.basis.ks))

    def evaluate_t(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the projections of all images, (B, J), at once."""
        result: NDArray[np.float64] = self.basis.evaluate_t(images.transpose(0, 2, 1))
        return result.reshape(len(images), -1)

    def expand(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the least-squares coefficients; its conjugate gradients take one image at a time."""
        return np.stack([self.basis.expand(image.T).ravel() for image in images])


class Aspire:
    """ASPIRE's FLEBasis2D, an implementation of the same algorithm."""

    def __init__(self, size: int, bandlimit: int) -> None:
        basis_type, self._image = _aspire()
        self.basis = basis_type(size, bandlimit=bandlimit, epsilon=EPSILON, dtype=np.float32, match_fb=False)
        self.disk = FullDisk(
            size,
            np.asarray(self.basis.angular_indices) * np.asarray(self.basis.signs_indices),
            np.asarray(self.basis.radial_indices) + 1,
        )

    def evaluate_t(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the projections of all images, (B, J), at once."""
        result: NDArray[np.float32] = self.basis.evaluate_t(self._image(images)).asnumpy()
        return result

    def expand(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the least-squares coefficients; its conjugate gradients take all images at once."""
        result: NDArray[np.float32] = self.basis.expand(self._image(images), tol=1e-3).asnumpy()
        return result


@cache
def _aspire() -> tuple[Any, Any]:
    """Import ASPIRE where nothing is spoilt: it makes a folder where one stands and logs to stdout."""
    excepthook = sys.excepthook
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(sys.stderr),
    ):
        from aspire.basis import FLEBasis2D
        from aspire.image import Image
    sys.excepthook = excepthook  # its own writes a file
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    return FLEBasis2D, Image
