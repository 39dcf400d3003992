"""What an encoder knows of a geometry: the elastic net (9) of one plan, in the units its reading solves it in."""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net import PenalisedFit, Projections, Quadratic
from dvfb_stream.fbt.elastic_net.readings import UNSEEN
from dvfb_stream.fbt.plan import FourierBessel
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading


class Problem:
    """P(a) = ½‖y‖² - qᵀa + ½aᵀGa + κ₁‖a‖₁ + ½κ₂‖a‖² for all frames of a geometry.

    Parameters
    ----------
    plan
        Of the geometry.
    settings
        Penalties and their reading.

    Attributes
    ----------
    quadratic
        G, κ₁ and κ₂; in the unit-norm reading those of columns of unit norm.
    """

    def __init__(self, plan: FourierBessel, settings: FourierBesselSettings) -> None:
        pixels = int(plan.fitted_pixels.sum())
        self.quadratic: Quadratic = PenalisedFit(plan.gram, pixels, settings).quadratic
        self._norms: Tensor | None = None
        if settings.reading is PenaltyReading.UNIT_NORM:
            norms = plan.gram.diagonal().clamp_min(0.0).sqrt()
            # What no pixel sees stays at zero, as in the estimate.
            self._norms = torch.where(norms > UNSEEN, norms, torch.full_like(norms, torch.inf))

    @property
    def nbytes(self) -> int:
        """Bytes held besides the plan."""
        scaled = 0 if self._norms is None else self._norms.nbytes + self.quadratic.gram.nbytes
        return scaled + self.quadratic.nbytes

    def scaled(self, projections: Projections) -> tuple[Tensor, Tensor]:
        """Return q, (B, J), and each frame's length ‖y‖, (B, 1), in the units of P; 1 where these are the image's."""
        values = projections.values
        if self._norms is None:
            return values, values.new_ones(len(values), 1)
        energies = projections.energies
        lengths = torch.where(energies > 0, energies, torch.ones_like(energies)).sqrt()[:, None]
        return values * (1.0 / (self._norms * lengths)).to(values.dtype), lengths.to(values.dtype)

    def in_units_of_the_image(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Return the unknowns, (B, J), that fit the images as they are, from those that minimise P."""
        return a if self._norms is None else a * (lengths / self._norms).to(a.dtype)

    def in_units_of_the_problem(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Undo `in_units_of_the_image`."""
        if self._norms is None:
            return a
        return torch.where(torch.isfinite(self._norms), a * (self._norms / lengths), torch.zeros_like(a)).to(
            a.dtype
        )
