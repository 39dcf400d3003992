"""The linear encoder: regularised least squares, one matrix a geometry."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.coefficients import complex_from_real
from dvfb_stream.fbt.elastic_net import PenalisedFit
from dvfb_stream.fbt.estimator import FourierBessel, full_precision
from dvfb_stream.fbt.projection import Projections
from dvfb_stream.fbt.settings import PenaltyReading

RIDGE_OF_L1 = {PenaltyReading.PER_SAMPLE: 0.001, PenaltyReading.UNIT_NORM: 20.0}
"""c of the ridge κ₂ + c κ₁. A ridge c κ₁ pulls as hard as κ₁|a| does where |a| is 1/c: per sample, coefficients run
to thousands and κ₁ hardly counts; of unit norm, most are below a tenth, and it is κ₁ that holds them. Chosen for the
least mean logarithm of the objective's excess on simulated frames; half or twice as much makes no difference that
matters."""


class LinearEncoder:
    """Coefficients by a = (G + κ₂ + c κ₁)⁻¹ q: (9) with a ridge in the place of its L1 term.

    Linear in the image where the penalty is per sample; no coefficient is zero. docs/encoders.md says how far from
    the estimate it is.

    Parameters
    ----------
    estimator
        Of the geometry.
    penalty, l1_ratio, reading
        As `FourierBessel.estimate` takes them; None: the estimator's settings.
    ridge_of_l1
        c; None: the reading's, `RIDGE_OF_L1`.

    Attributes
    ----------
    settings
        The estimator's, with the penalties given.

    Raises
    ------
    SettingsError
        When a setting is of a wrong type or out of range, or there is no ridge at all.
    """

    def __init__(
        self,
        estimator: FourierBessel,
        penalty: float | None = None,
        l1_ratio: float | None = None,
        *,
        reading: PenaltyReading | str | None = None,
        ridge_of_l1: float | None = None,
    ) -> None:
        self.settings = estimator.settings.changed(penalty=penalty, l1_ratio=l1_ratio, reading=reading)
        self._estimator = estimator
        self._fit = PenalisedFit(estimator.gram, estimator.fitted_count, self.settings)
        c = RIDGE_OF_L1[self.settings.reading] if ridge_of_l1 is None else float(ridge_of_l1)
        self._ridge = c * self._fit.quadratic.l1
        if not 0 <= c < float("inf") or self._ridge + self._fit.quadratic.l2 <= 0:
            raise SettingsError(
                f"the linear encoder needs a ridge: penalty {self.settings.penalty!r}, l1_ratio "
                f"{self.settings.l1_ratio!r} and ridge_of_l1 {c!r} leave none; give a penalty above 0"
            )

    def estimate(self, images: ArrayLike | Tensor) -> Tensor:
        """Return coefficients; images, result and errors are those of `FourierBessel.estimate`."""
        projections = self._estimator.project(images, reading=self.settings.reading)
        unknowns = self.encode(projections).to(projections.dtype)
        return complex_from_real(unknowns, n_radial=self.settings.n_radial, orders=self.settings.orders)

    @torch.no_grad()
    def encode(self, projections: Projections) -> Tensor:
        """Return the real unknowns, (B, J), of what `FourierBessel.project` returned."""
        with full_precision(self._estimator.device):
            q, lengths = self._fit.scaled(projections)
            a = q @ self._fit.quadratic.inverse(self._ridge, q.dtype)
            return self._fit.in_units_of_the_image(a, lengths)
