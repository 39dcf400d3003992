"""The plan: all of the Fourier-Bessel estimate that depends on the geometry alone, computed once."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.fbt import elastic_net
from dvfb_stream.fbt.basis import real_basis
from dvfb_stream.fbt.coefficients import complex_from_real, real_from_complex
from dvfb_stream.fbt.device import find_device
from dvfb_stream.fbt.elastic_net import Solution
from dvfb_stream.fbt.pixels import FittedPixels, WorkingGrid
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading
from dvfb_stream.frames import Geometry

MAX_ITERATIONS = 5000
"""Steps after which the solver returns without its certificate. The per-sample reading takes 10 to 40; the
unit-norm reading, ill-conditioned by its nature, up to some thousands."""


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
        self.settings = FourierBesselSettings(
            radius=radius,
            n_radial=n_radial,
            orders=orders,  # type: ignore[arg-type]  # checked and made a tuple there
            downsample=downsample,
        )
        # A geometry knows what no image can have; a plan differs from it in having a mask in any case.
        geometry = Geometry(shape=shape, center_x=center_x, center_y=center_y, mask=mask)
        self.shape = geometry.shape
        self.center_x, self.center_y = geometry.center_x, geometry.center_y
        self.device = find_device(device)
        self.grid = WorkingGrid.of(self.shape, self.center_x, self.center_y, self.settings.downsample)
        self._radius = self.settings.radius / self.settings.downsample
        self._r, self._azimuth = self.grid.polar()
        self._pixels = FittedPixels(
            self.grid,
            np.ones(self.shape, dtype=bool) if geometry.mask is None else geometry.mask,
            radius=self._radius,
            downsample=self.settings.downsample,
            device=self.device,
        )
        # Pixels whose rows of U are held, and which of them are fitted; None: all. They differ in `without`.
        self._held = self._pixels.fitted
        self._kept: Tensor | None = None
        self._lock = threading.Lock()
        self._bases: dict[torch.dtype, Tensor] = {}
        basis = self._build_basis(self._held)
        self._gram = basis.T @ basis
        self._bases[torch.float32] = basis.to(torch.float32)
        self._scales = self._gram.diagonal().sqrt()
        self._largest_eigenvalues: dict[PenaltyReading, float] = {}

    @classmethod
    def from_settings(
        cls,
        settings: FourierBesselSettings,
        *,
        shape: tuple[int, int],
        center_x: float,
        center_y: float,
        mask: NDArray[np.bool_] | None = None,
        device: str | torch.device = "cpu",
    ) -> FourierBessel:
        """Return the plan of `settings` for one geometry; penalties of `settings` become `estimate`'s defaults."""
        plan = cls(
            shape,
            center_x,
            center_y,
            settings.radius,
            mask,
            settings.n_radial,
            settings.orders,
            settings.downsample,
            device,
        )
        plan.settings = settings
        return plan

    @property
    def fitted_pixels(self) -> NDArray[np.bool_]:
        """Working pixels that enter the fit: valid, inside the disk (8) and the basis' support."""
        return self._pixels.fitted.copy()

    @property
    def unknowns(self) -> int:
        """J, the number of real unknowns."""
        return int(self._gram.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes that the plan holds, shared bases included; grows when float64 images are first seen."""
        tensors = sum(tensor.nbytes for tensor in (self._gram, *self._bases.values()))
        return tensors + self._pixels.nbytes + self._r.nbytes + self._azimuth.nbytes

    def _build_basis(self, pixels: NDArray[np.bool_]) -> Tensor:
        """U of the given working pixels, (P, J), float64: the basis cropped to the window, Algorithm 1 line 1."""
        basis = real_basis(
            self._r[pixels],
            self._azimuth[pixels],
            radius=self._radius,
            n_radial=self.settings.n_radial,
            orders=self.settings.orders,
        )
        return torch.from_numpy(basis).to(self.device)

    def without(self, lost: NDArray[np.bool_]) -> FourierBessel:
        """Return the plan of the same images with further pixels invalid, without building a basis.

        Where single frames lose pixels (overflow, a flickering module), the basis stays and the Gram matrix
        loses the rows of the working pixels that have no valid pixel left: exact, and as cheap as those are few.

        Parameters
        ----------
        lost
            (H, W) boolean, True where a pixel is invalid besides those of the mask.

        Raises
        ------
        GeometryError
            When the shape is wrong, or no fitted pixel is left.
        """
        plan = copy.copy(self)  # shares the bases and their lock
        plan._pixels = self._pixels.without(lost)
        plan._kept = torch.from_numpy(np.flatnonzero(plan._pixels.fitted[self._held])).to(self.device)
        gone = self._build_basis(self._pixels.fitted & ~plan._pixels.fitted)
        plan._gram = self._gram - gone.T @ gone
        plan._scales = plan._gram.diagonal().clamp_min(0.0).sqrt()
        # Taking rows away only shrinks the eigenvalues of G, so that its largest still bounds them; scaled to
        # unit norm it is another matrix.
        plan._largest_eigenvalues = {
            PenaltyReading.PER_SAMPLE: self._largest_eigenvalue(PenaltyReading.PER_SAMPLE, self._gram)
        }
        return plan

    def basis(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return U, (n fitted pixels, J): the real orthonormal basis on the fitted pixels, row-major."""
        held = self._held_basis(dtype)
        return held if self._kept is None else held[self._kept]

    def _held_basis(self, dtype: torch.dtype) -> Tensor:
        with self._lock:
            if dtype not in self._bases:
                self._bases[dtype] = self._build_basis(self._held).to(dtype)
            return self._bases[dtype]

    def _project(self, pixels: Tensor) -> Tensor:
        """Uᵀ of fitted pixels, (B, J); rows that are held but not fitted meet zeros."""
        held = self._held_basis(pixels.dtype)
        if self._kept is not None:
            pixels = pixels.new_zeros(len(pixels), len(held)).index_copy(1, self._kept, pixels)
        return pixels @ held

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
        return self._pixels.averages(images)

    def solve(
        self,
        images: ArrayLike | Tensor,
        penalty: float | None = None,
        l1_ratio: float | None = None,
        *,
        reading: PenaltyReading | str | None = None,
        tolerance: float | None = None,
        max_iterations: int = MAX_ITERATIONS,
    ) -> Solution:
        """Minimise (9) and return the real unknowns with the certificate of the solver.

        Parameters are those of `estimate`. In the unit-norm reading the unknowns, the objective and the gap
        are those of the scaled problem's minimum, the unknowns scaled back so that U a approximates the image.
        """
        settings = FourierBesselSettings.from_dict(
            {
                **self.settings.as_dict(),
                **{
                    name: value
                    for name, value in (
                        ("penalty", penalty),
                        ("l1_ratio", l1_ratio),
                        ("reading", reading),
                        ("tolerance", tolerance),
                    )
                    if value is not None
                },
            }
        )
        pixels = self.working_pixels(images)
        if len(pixels) == 0:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return Solution(pixels.new_zeros(0, self.unknowns), nothing, nothing, nothing, 0)
        projections = self._project(pixels).double()
        energies = pixels.double().square().sum(1)
        overflown = ~(torch.isfinite(energies) & torch.isfinite(projections).all(1))
        if bool(overflown.any()):
            raise FrameError(
                f"image {int(overflown.nonzero()[0])} holds values too large to be squared and summed in "
                f"{pixels.dtype}; scale the images"
            )
        gram, unit = self._gram, torch.ones_like(projections)
        strength = settings.penalty
        if settings.reading is PenaltyReading.PER_SAMPLE:
            strength *= pixels.shape[1]
        else:
            # Functions that no fitted pixel sees have no norm to divide by; they stay at zero.
            seen = torch.where(self._scales > 1e-12, self._scales, torch.full_like(self._scales, torch.inf))
            norms = energies.sqrt()
            norms = torch.where(norms > 0, norms, torch.ones_like(norms))
            gram = gram / seen / seen[:, None]
            projections = projections / seen / norms[:, None]
            unit = norms[:, None] / seen
            energies = energies / norms.square()
        solution = elastic_net.solve(
            gram=gram,
            gram_working=gram.to(pixels.dtype),
            step=self._largest_eigenvalue(settings.reading, gram),
            projections=projections,
            energies=energies,
            l1=torch.full_like(energies, strength * settings.l1_ratio),
            l2=torch.full_like(energies, strength * (1 - settings.l1_ratio)),
            tolerance=settings.tolerance,
            max_iterations=max_iterations,
        )
        scale = 1.0 / pixels.shape[1] if settings.reading is PenaltyReading.PER_SAMPLE else 1.0
        return Solution(
            coefficients=solution.coefficients * unit.to(solution.coefficients.dtype),
            objective=solution.objective * scale,
            gap=solution.gap * scale,
            unexplained=solution.unexplained,
            iterations=solution.iterations,
        )

    def estimate(
        self,
        images: ArrayLike | Tensor,
        penalty: float | None = None,
        l1_ratio: float | None = None,
        *,
        reading: PenaltyReading | str | None = None,
        tolerance: float | None = None,
        max_iterations: int = MAX_ITERATIONS,
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
        tolerance
            The objective is certified to lie at most this share of itself above its minimum.
        max_iterations
            Bound on the solver's steps. Where it is reached first, coefficients come without the certificate;
            `solve` returns them with the gap that is left. A penalty of 0 is never certified.

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
            images, penalty, l1_ratio, reading=reading, tolerance=tolerance, max_iterations=max_iterations
        )
        return complex_from_real(
            solution.coefficients, n_radial=self.settings.n_radial, orders=self.settings.orders
        )

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
        unknowns = real_from_complex(coefficients, orders=self.settings.orders)
        everywhere = self._build_basis(np.ones(self.grid.shape, dtype=bool)).to(unknowns.dtype)
        return (unknowns @ everywhere.T).reshape(-1, *self.grid.shape)

    def _largest_eigenvalue(self, reading: PenaltyReading, gram: Tensor) -> float:
        with self._lock:
            if reading not in self._largest_eigenvalues:
                # A hair above, so that rounding cannot make the step too long.
                self._largest_eigenvalues[reading] = float(torch.linalg.eigvalsh(gram)[-1]) * (1 + 1e-6)
            return self._largest_eigenvalues[reading]
