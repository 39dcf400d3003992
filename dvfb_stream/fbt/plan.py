"""The plan: all of the Fourier-Bessel estimate that depends on the geometry alone, computed once."""

from __future__ import annotations

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.basis import real_basis
from dvfb_stream.fbt.coefficients import complex_from_real, real_from_complex
from dvfb_stream.fbt.device import find_device
from dvfb_stream.fbt.elastic_net import PenalisedFit, Projections, Solution
from dvfb_stream.fbt.projection import (
    FittedPixels,
    FoldedProjection,
    PlainProjection,
    WorkingGrid,
    gram_matrix,
)
from dvfb_stream.fbt.settings import CentreRounding, FourierBesselSettings, PenaltyReading, Solver
from dvfb_stream.frames import Geometry

MAX_ITERATIONS = 5000
"""Steps after which the solver returns without its certificate. The per-sample reading takes about 10; the
unit-norm reading, ill-conditioned by its nature, up to some thousands."""

FITS_KEPT = 4
"""Penalties for which a plan keeps what the solver derived from the Gram matrix: some 10 MB each."""


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
    With U the real orthonormal basis on the n fitted pixels, `estimate` minimises (9) as scikit-learn's
    ``ElasticNet(alpha=penalty, l1_ratio=l1_ratio, fit_intercept=False)`` does::

        1/(2n) ‖U a - I‖² + penalty · (l1_ratio ‖a‖₁ + ½ (1 - l1_ratio) ‖a‖²)

    Threads may share a plan.

    Examples
    --------
    >>> plan = FourierBessel(shape=(64, 64), center_x=31.5, center_y=31.5, radius=64.0, n_radial=5)
    >>> coefficients = plan.estimate(np.ones((2, 64, 64), dtype=np.float32))
    >>> coefficients.shape
    torch.Size([2, 5, 11])
    >>> plan.reconstruct(coefficients).shape
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
        # A geometry knows what no image can have; a plan differs from it in having a mask in any case.
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
        self.grid = WorkingGrid.of(self.shape, self.center_x, self.center_y, self.settings.downsample)
        self._radius = self.settings.radius / self.settings.downsample
        self._pixels = FittedPixels(
            self.grid,
            np.ones(self.shape, dtype=bool) if geometry.mask is None else geometry.mask,
            radius=self._radius,
            downsample=self.settings.downsample,
            device=self.device,
        )
        self._lock = threading.Lock()
        self._projections: dict[torch.dtype, FoldedProjection | PlainProjection] = {}
        self._projection(torch.float32)
        self._set_gram(torch.from_numpy(self._gram_of(self._pixels.fitted)).to(self.device))

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
        """Return the plan of `settings` for one geometry; penalties of `settings` become `estimate`'s defaults.

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
        plan = cls(
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
        plan.settings = settings.changed(view_shape=plan.shape)
        return plan

    @property
    def fitted_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns) working pixels that enter the fit: valid, inside the disk (8) and the support of (4)."""
        return self._pixels.fitted.copy()

    @property
    def fitted_count(self) -> int:
        """n, the number of fitted pixels."""
        return self._pixels.count

    @property
    def unknowns(self) -> int:
        """J, the number of real unknowns."""
        orders = self.settings.orders
        return self.settings.n_radial * (2 * len(orders) - (0 in orders))

    @property
    def gram(self) -> Tensor:
        """G = UᵀU over the fitted pixels, (J, J), float64."""
        return self._gram

    @property
    def nbytes(self) -> int:
        """Bytes that the plan holds, shared parts included; grows as types and penalties are first used."""
        with self._lock:
            parts = [*self._projections.values(), *self._fits.values()]
        return self._gram.nbytes + self._pixels.nbytes + sum(part.nbytes for part in parts)

    def without(self, lost: NDArray[np.bool_]) -> FourierBessel:
        """Return the plan of the same images with further pixels invalid, sharing all that it can.

        Where single frames lose pixels (overflow, a flickering module), the projection stays and the Gram matrix
        loses the working pixels that have no valid pixel left: exact, and as cheap as those are few.

        Parameters
        ----------
        lost
            (H, W) boolean, True where a pixel is invalid besides those of the mask.

        Raises
        ------
        GeometryError
            When the shape is wrong, or no fitted pixel is left.
        """
        plan = copy.copy(self)  # shares the projections and their lock
        plan._pixels = self._pixels.without(lost)
        gone = self._gram_of(self._pixels.fitted & ~plan._pixels.fitted)
        plan._set_gram(self._gram - torch.from_numpy(gone).to(self.device))
        return plan

    def basis(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return U, (n fitted pixels, J): the real orthonormal basis on the fitted pixels, row-major.

        Computed at each call: the estimate itself has no need of it.
        """
        return torch.from_numpy(self._basis_on(self._pixels.fitted)).to(self.device, dtype)

    def working_pixels(self, images: ArrayLike | Tensor) -> Tensor:
        """Return the intensities that are fitted, (B, n): block averages over valid pixels, on the fitted pixels.

        Parameters
        ----------
        images
            (B, H, W), NumPy or torch, integer or floating. float64 stays float64, all else becomes float32.

        Raises
        ------
        FrameError
            When the shape is wrong, or a valid pixel is not finite; pixels under the mask may hold anything.
        """
        return self._pixels.values(self._pixels.averages(images).averages)

    @torch.no_grad()
    def project(self, images: ArrayLike | Tensor) -> Projections:
        """Return Uᵀy of the fitted pixels y of each image, with ‖y‖²: all that the estimate needs of the images.

        Parameters and errors are those of `estimate`.
        """
        folded, energies = [], []
        for first, part in self._pixels.parts(self._pixels.checked(images)):
            working = self._pixels.averages(part, first=first)
            projection = self._projection(working.averages.dtype)
            folded.append(projection.fold(working.averages))
            energies.append(working.energies)
        return Projections(projection.unfold(folded), torch.cat(energies), self._pixels.count)

    def transform(self, images: ArrayLike | Tensor) -> Tensor:
        """Return Σ I Ψ*_nm over the fitted pixels: the transform (5) of what is seen, by the sum over pixels.

        On a full disk these are the coefficients, to the accuracy of the sum; with gaps `estimate` is what
        recovers them. Parameters, shape and errors are those of `estimate`.
        """
        return self._complex(self.project(images).values)

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
        return self.solve_projected(
            self.project(images), settings, max_iterations=max_iterations, start=start
        )

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
        if max_iterations < 1:
            raise SettingsError(f"max_iterations must be at least 1, not {max_iterations!r}")
        if len(projections) == 0:
            nothing = projections.energies
            return Solution(projections.values, nothing, nothing, nothing, 0)
        first: Tensor | None = None
        if start is not None:
            first = self._unknowns(start).to(projections.values.dtype)
            if len(first) not in (1, len(projections)):
                raise SettingsError(
                    f"start holds {len(first)} sets of coefficients for {len(projections)} images; "
                    "give one, or one for each"
                )
            first = first.expand(len(projections), -1)
        return self._fit(settings).solve(projections, settings, max_iterations=max_iterations, start=first)

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
            λ and α of (9); None: the plan's settings, 1e-4 and 0.8 unless stated.
        reading
            Scale of the penalty, `dvfb_stream.fbt.PenaltyReading`.
        solver
            `dvfb_stream.fbt.Solver`; the coefficients are the same to the tolerance.
        tolerance
            The objective is certified to lie at most this share of itself above its minimum.
        max_iterations
            Bound on the solver's steps. Where it is reached first, coefficients come without the certificate;
            `solve` returns them with the gap that is left.
        start
            (B or 1, n_radial, n_orders) coefficients to start from, those of the scan's previous frame say. The
            result is the same to the tolerance; the steps are fewer where frames are alike.

        Returns
        -------
        Tensor
            (B, n_radial, n_orders), complex64 or complex128, on the plan's device: [b, n-1, k] belongs to
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
        return self._complex(solution.coefficients)

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
        unknowns = self._unknowns(coefficients)
        return self._projection(unknowns.dtype).synthesise(unknowns)

    def _complex(self, unknowns: Tensor) -> Tensor:
        return complex_from_real(unknowns, n_radial=self.settings.n_radial, orders=self.settings.orders)

    def _unknowns(self, coefficients: Tensor | NDArray[Any]) -> Tensor:
        """Real unknowns of coefficients as users hand them over."""
        if not isinstance(coefficients, Tensor):
            # A copy: NumPy's arrays may be read-only or run backwards, which torch's may not.
            coefficients = torch.from_numpy(np.array(coefficients, order="C"))
        coefficients = coefficients.to(self.device)
        expected = (self.settings.n_radial, len(self.settings.orders))
        if coefficients.ndim != 3 or tuple(coefficients.shape[1:]) != expected:
            raise SettingsError(
                f"coefficients must have shape (B, {expected[0]}, {expected[1]}), not {tuple(coefficients.shape)}"
            )
        if not coefficients.is_complex():
            coefficients = torch.complex(coefficients.double(), torch.zeros_like(coefficients).double())
        return real_from_complex(coefficients, orders=self.settings.orders)

    def _basis_on(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        """U of the given working pixels, (P, J): the basis cropped to the window, Algorithm 1 line 1."""
        r, azimuth = self.grid.polar()
        return real_basis(
            r[pixels],
            azimuth[pixels],
            radius=self._radius,
            n_radial=self.settings.n_radial,
            orders=self.settings.orders,
        )

    def _gram_of(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        r, azimuth = self.grid.polar()
        return gram_matrix(
            r[pixels],
            azimuth[pixels],
            radius=self._radius,
            n_radial=self.settings.n_radial,
            orders=self.settings.orders,
        )

    def _set_gram(self, gram: Tensor) -> None:
        self._gram = gram
        self._fits: OrderedDict[tuple[PenaltyReading, float, float], PenalisedFit] = OrderedDict()

    def _fit(self, settings: FourierBesselSettings) -> PenalisedFit:
        """Return what the solver derives from G for one penalty, kept for those used last."""
        key = (settings.reading, settings.penalty, settings.l1_ratio)
        with self._lock:
            fit = self._fits.pop(key, None) or PenalisedFit(self._gram, self._pixels.count, settings)
            self._fits[key] = fit
            while len(self._fits) > FITS_KEPT:
                self._fits.popitem(last=False)
            return fit

    def _projection(self, dtype: torch.dtype) -> FoldedProjection | PlainProjection:
        """Return the fold, or the plain product where the grid is so small that this takes fewer multiplications."""
        with self._lock:
            if dtype not in self._projections:
                chosen: FoldedProjection | PlainProjection = FoldedProjection(
                    self.grid,
                    radius=self._radius,
                    n_radial=self.settings.n_radial,
                    orders=self.settings.orders,
                    dtype=dtype,
                    device=self.device,
                )
                inside = self.grid.polar()[0] < self._radius
                if np.count_nonzero(inside) * self.unknowns < chosen.products:
                    basis = torch.from_numpy(self._basis_on(inside)).to(self.device, dtype)
                    places = torch.from_numpy(np.flatnonzero(inside)).to(self.device)
                    chosen = PlainProjection(basis, places, self.grid.shape)
                self._projections[dtype] = chosen
            return self._projections[dtype]
