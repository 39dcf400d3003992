"""The estimator: all of the Fourier-Bessel estimate that depends on the geometry alone, computed once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import algorithm1
from dvfb_stream.fbt.coefficients import unknowns_of
from dvfb_stream.fbt.device import find_device
from dvfb_stream.fbt.elastic_net import PenalisedFit, Solution
from dvfb_stream.fbt.projection import Projections, WorkingGrid
from dvfb_stream.fbt.settings import CentreRounding, FourierBesselSettings, PenaltyReading, Solver
from dvfb_stream.frames import Geometry

MAX_ITERATIONS = 5000
"""Steps after which the solver returns without its certificate. The per-sample reading takes about 10; the
unit-norm reading, ill-conditioned by its nature, up to some thousands."""

FITS_KEPT = 4
"""Penalties for which an estimator keeps what the solver derived from the Gram matrix: some 10 MB each."""


class FourierBessel:
    """Fourier-Bessel transform of images that are partly seen: beam off-centre, pixels missing.

    Parameters
    ----------
    shape
        (H, W) of the images.
    center_x, center_y
        Direct beam in pixels; pixel centres at integers, x to the right, y down. May lie off the image.
    radius
        a of (4) in pixels.
    mask
        (H, W) boolean, True = valid; None: all are.
    n_radial, orders
        Radial indices n = 1..n_radial and angular orders m >= 0.
    downsample
        Images are first averaged over the valid pixels of d x d blocks; from there on lengths, the radius and
        the disk (8) included, are in working pixels.
    device
        Where the estimate runs: ``cpu``, ``cuda``, ``auto``, or any torch device.

    Raises
    ------
    GeometryError
        When the shape, centre or mask is none, or no valid pixel lies within the disk (8) and the basis'
        support r < a.
    SettingsError
        When a setting is of a wrong type or out of range.

    Notes
    -----
    What `estimate` does, and what it minimises, is in `dvfb_stream.fbt.algorithm1`. Threads may share an estimator.

    Examples
    --------
    >>> estimator = FourierBessel(shape=(64, 64), center_x=31.5, center_y=31.5, radius=64.0, n_radial=5)
    >>> coefficients = estimator.estimate(np.ones((2, 64, 64), dtype=np.float32))
    >>> coefficients.shape
    torch.Size([2, 5, 11])
    >>> estimator.reconstruct(coefficients).shape
    torch.Size([2, 32, 32])
    """

    def __init__(
        self,
        shape: tuple[int, int] = (256, 256),
        center_x: float = 127.5,
        center_y: float = 127.5,
        radius: float = 256.0,
        mask: NDArray[np.bool_] | None = None,
        n_radial: int = 40,
        orders: Iterable[int] = range(0, 21, 2),
        downsample: int = 2,
        device: str | torch.device = "cpu",
    ) -> None:
        # A geometry knows what no image can have.
        geometry = Geometry(shape=shape, center_x=center_x, center_y=center_y, mask=mask)
        self.settings = FourierBesselSettings(
            view_shape=geometry.shape,
            radius=radius,
            n_radial=n_radial,
            orders=orders,  # type: ignore[arg-type]  # checked and made a tuple there
            downsample=downsample,
        )
        self.shape = geometry.shape
        self.center_x, self.center_y = geometry.center_x, geometry.center_y
        self.device = find_device(device)
        self._basis = algorithm1.see(
            self.settings,
            np.ones(self.shape, dtype=bool) if geometry.mask is None else geometry.mask,
            center_x=self.center_x,
            center_y=self.center_y,
            device=self.device,
        )
        self._fits = _no_fits()

    @classmethod
    def from_settings(
        cls,
        settings: FourierBesselSettings,
        *,
        shape: tuple[int, int] | None = None,
        center_x: float,
        center_y: float,
        mask: NDArray[np.bool_] | None = None,
        device: str | torch.device = "cpu",
    ) -> FourierBessel:
        """Return the estimator of `settings` for one geometry; penalties of `settings` become `estimate`'s defaults.

        Parameters
        ----------
        settings
            All choices; the centre is rounded where they say so.
        shape
            (H, W) of the images; None: the settings' view.
        center_x, center_y, mask, device
            As for the class.
        """
        if settings.center_rounding is CentreRounding.PIXEL and math.isfinite(center_x + center_y):
            center_x, center_y = math.floor(center_x + 0.5), math.floor(center_y + 0.5)
        estimator = cls(
            settings.view_shape if shape is None else shape,
            center_x,
            center_y,
            settings.radius,
            mask,
            settings.n_radial,
            settings.orders,
            settings.downsample,
            device,
        )
        estimator.settings = settings.changed(view_shape=estimator.shape)
        return estimator

    def __repr__(self) -> str:
        size = f"{self.shape[0]} x {self.shape[1]} pixels, centre ({self.center_x:g}, {self.center_y:g})"
        coefficients = f"{self.settings.n_radial} x {len(self.settings.orders)} coefficients"
        return f"<FourierBessel of {size}, {coefficients}, on {self.device}>"

    @property
    def grid(self) -> WorkingGrid:
        """Working pixels and the beam centre among them."""
        return self._basis.pixels.grid

    @property
    def fitted_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns) working pixels that enter the fit: valid, inside the disk (8) and the support of (4)."""
        return self._basis.pixels.fitted.copy()

    @property
    def fitted_count(self) -> int:
        """n, the number of fitted pixels."""
        return self._basis.pixels.count

    @property
    def unknowns(self) -> int:
        """J, the number of real unknowns."""
        return self._basis.unknowns

    @property
    def gram(self) -> Tensor:
        """G = UᵀU over the fitted pixels, (J, J), float64; the estimator's own, not to be written to."""
        return self._basis.gram

    @property
    def nbytes(self) -> int:
        """Bytes held, shared parts included; grows as types and penalties are first used."""
        return self._basis.nbytes + sum(fit.nbytes for fit in self._fits.values())

    def without(self, lost: NDArray[np.bool_]) -> FourierBessel:
        """Return the estimator of the same images with further pixels invalid, sharing all that it can.

        Where single frames lose pixels (overflow, a flickering module), the projection stays and the Gram matrix
        loses the working pixels that have no valid pixel left: as cheap as those are few.

        Parameters
        ----------
        lost
            (H, W) boolean, True where a pixel is invalid besides those of the mask.

        Raises
        ------
        GeometryError
            When the shape is wrong, or no fitted pixel is left.
        """
        estimator = copy.copy(self)
        estimator._basis, estimator._fits = self._basis.without(lost), _no_fits()
        return estimator

    def basis(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return U, (n fitted pixels, J): the real orthonormal basis on the fitted pixels, row-major.

        Computed at each call: the estimate itself has no need of it.
        """
        return torch.from_numpy(self._basis.matrix()).to(self.device, dtype)

    @torch.no_grad()
    def working_pixels(self, images: ArrayLike | Tensor) -> Tensor:
        """Return the intensities that are fitted, (B, n): block averages over valid pixels, on the fitted pixels.

        Parameters and errors are those of `estimate`. float64 stays float64, all else becomes float32.
        """
        pixels = self._basis.pixels
        return torch.cat([pixels.values(part.averages) for part in pixels.averages(images)])

    @torch.no_grad()
    def project(
        self, images: ArrayLike | Tensor, *, reading: PenaltyReading = PenaltyReading.PER_SAMPLE
    ) -> Projections:
        """Return Uᵀy of the fitted pixels y of each image, with ‖y‖²: all that the estimate needs of the images.

        Products are float64 for images in float64 and for the unit-norm reading, float32 for all else. Errors are
        those of `estimate`.
        """
        with full_precision(self.device):
            return algorithm1.project(self._basis, images, reading)

    def transform(self, images: ArrayLike | Tensor) -> Tensor:
        """Return Σ I Ψ*_nm over the fitted pixels: the transform (5) of what is seen, by the sum over pixels.

        On a full disk these are the coefficients, to the accuracy of the sum; with gaps `estimate` is what
        recovers them. Parameters, shape and errors are those of `estimate`.
        """
        return algorithm1.join(self.project(images).values, self.settings)

    def solve(
        self,
        images: ArrayLike | Tensor,
        penalty: float | None = None,
        l1_ratio: float | None = None,
        *,
        reading: PenaltyReading | str | None = None,
        solver: Solver | str | None = None,
        tolerance: float | None = None,
        max_iterations: int = MAX_ITERATIONS,
        start: Tensor | NDArray[Any] | None = None,
    ) -> Solution:
        """Minimise (9) and return the real unknowns with the certificate of the solver.

        Parameters are those of `estimate`. In the unit-norm reading the unknowns, the objective and the gap
        are those of the scaled problem's minimum, the unknowns scaled back so that U a approximates the image.
        """
        settings = self.settings.changed(
            penalty=penalty, l1_ratio=l1_ratio, reading=reading, solver=solver, tolerance=tolerance
        )
        projections = self.project(images, reading=settings.reading)
        solution = self.solve_projected(projections, settings, max_iterations=max_iterations, start=start)
        return replace(solution, coefficients=solution.coefficients.to(projections.dtype))

    @torch.no_grad()
    def solve_projected(
        self,
        projections: Projections,
        settings: FourierBesselSettings | None = None,
        *,
        max_iterations: int = MAX_ITERATIONS,
        start: Tensor | NDArray[Any] | None = None,
    ) -> Solution:
        """Minimise (9) given what `project` returned; of `settings`, penalties, solver and tolerance count."""
        settings = self.settings if settings is None else settings
        if not isinstance(max_iterations, int | np.integer) or max_iterations < 1:
            raise SettingsError(f"max_iterations must be an integer of at least 1, not {max_iterations!r}")
        frames = len(projections.values)
        if not frames:
            nothing = projections.energies
            return Solution(projections.values, nothing, nothing, nothing, 0)
        first: Tensor | None = None
        if start is not None:
            first = self._unknowns(start).to(projections.values.dtype)
            if len(first) not in (1, frames):
                raise SettingsError(
                    f"start holds {len(first)} sets of coefficients for {frames} images; "
                    "give one, or one for each"
                )
            if not bool(torch.isfinite(first).all()):
                raise SettingsError("start holds coefficients that are not finite; start without")
            first = first.expand(frames, -1)
        with full_precision(self.device):
            return algorithm1.solve(
                self._fit(settings), projections, settings, max_iterations=max_iterations, start=first
            )

    def estimate(
        self,
        images: ArrayLike | Tensor,
        penalty: float | None = None,
        l1_ratio: float | None = None,
        *,
        reading: PenaltyReading | str | None = None,
        solver: Solver | str | None = None,
        tolerance: float | None = None,
        max_iterations: int = MAX_ITERATIONS,
        start: Tensor | NDArray[Any] | None = None,
    ) -> Tensor:
        """Return the Fourier-Bessel coefficients of partly seen images: Algorithm 1 in its Hermitian form.

        Parameters
        ----------
        images
            (B, H, W), NumPy or torch, integer or floating. float64 is solved in float64, all else in float32.
        penalty, l1_ratio
            λ and α of (9); None: the estimator's settings, 1e-4 and 0.8 unless stated.
        reading
            Scale of the penalty, `dvfb_stream.fbt.PenaltyReading`.
        solver
            `dvfb_stream.fbt.Solver`; the coefficients are the same to the tolerance.
        tolerance
            The objective is certified to lie at most this share of itself above its minimum, given Uᵀy. Images in
            float32 are projected in float32, whose rounding moves the objective by another 1e-8 of itself, more
            where few pixels are seen or the fit is nearly exact; hand them over in float64 where that matters.
        max_iterations
            Bound on the solver's steps. Where it is reached first, coefficients come without the certificate;
            `solve` returns them with the gap that is left.
        start
            (B or 1, n_radial, n_orders) coefficients to start from, those of the scan's previous frame say. The
            result is the same to the tolerance. Per sample it spares nothing, the own start being as good; in unit
            norm a fifth of the steps where the frame before shows the same sample (measured), often none otherwise.

        Returns
        -------
        Tensor
            (B, n_radial, n_orders), complex64 or complex128, on the estimator's device: [b, n-1, k] belongs to
            radial index n and order orders[k].

        Raises
        ------
        FrameError
            When the shape or type is wrong, or a valid pixel is not finite or too large to be squared.
        SettingsError
            When a setting is of a wrong type or out of range.
        """
        solution = self.solve(
            images,
            penalty,
            l1_ratio,
            reading=reading,
            solver=solver,
            tolerance=tolerance,
            max_iterations=max_iterations,
            start=start,
        )
        return algorithm1.join(solution.coefficients, self.settings)

    @torch.no_grad()
    def reconstruct(self, coefficients: Tensor | NDArray[Any]) -> Tensor:
        """Return Σ_n A_n0 Ψ_n0 + 2 Re Σ_{m>0} A_nm Ψ_nm, the inverse (6), on all working pixels.

        Parameters
        ----------
        coefficients
            (B, n_radial, n_orders), complex, or real where all imaginary parts are zero.

        Returns
        -------
        Tensor
            (B, rows, columns) of working pixels, masked ones and those outside the disk (8) included: there it
            is what the coefficients predict. Zero where r >= a.

        Raises
        ------
        SettingsError
            When the shape is wrong.
        """
        with full_precision(self.device):
            return self._basis.synthesise(self._unknowns(coefficients))

    def _unknowns(self, coefficients: Tensor | NDArray[Any]) -> Tensor:
        return unknowns_of(
            coefficients, n_radial=self.settings.n_radial, orders=self.settings.orders, device=self.device
        )

    def _fit(self, settings: FourierBesselSettings) -> PenalisedFit:
        """Return what the solver derives from G for one penalty, kept for those used last."""
        return self._fits.get_or_make(
            (settings.reading, settings.penalty, settings.l1_ratio),
            lambda: PenalisedFit(self.gram, self.fitted_count, settings),
        )


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which products keep the type of their factors, whatever autocast surrounds it."""
    return torch.autocast(device.type, enabled=False)


def _no_fits() -> BoundedCache[tuple[PenaltyReading, float, float], PenalisedFit]:
    return BoundedCache(FITS_KEPT)
