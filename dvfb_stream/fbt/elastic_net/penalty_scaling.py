"""The two readings of the penalty in (9), brought to one form for the solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.problem import Quadratic, Solution
from dvfb_stream.fbt.elastic_net.solve import solve
from dvfb_stream.fbt.projection import Projections
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading

UNSEEN = 1e-6
"""Share of the largest norm of a function on the fitted pixels below which they do not see a function; it then stays
at zero. Squared it is what rounding leaves of the Gram matrix, so that below it a norm would be one of noise."""


class PenalisedFit:
    """(9) for one Gram matrix and one set of penalties.

    Parameters
    ----------
    gram
        (J, J) G, float64.
    pixels
        n, fitted pixels.
    settings
        Penalties and their reading.
    """

    def __init__(self, gram: Tensor, pixels: int, settings: FourierBesselSettings) -> None:
        l1, l2 = settings.penalty * settings.l1_ratio, settings.penalty * (1 - settings.l1_ratio)
        self._norms: Tensor | None = None
        self._scale = 1.0
        if settings.reading is PenaltyReading.PER_SAMPLE:
            # Solvers minimise n times the objective: ½‖Ua - y‖² + nλ R(a).
            self._scale = 1.0 / pixels
            self.quadratic = Quadratic(gram, l1=l1 * pixels, l2=l2 * pixels)
        else:
            norms = gram.diagonal().clamp_min(0.0).sqrt()
            self._norms = torch.where(norms > UNSEEN * norms.amax(), norms, torch.full_like(norms, torch.inf))
            self.quadratic = Quadratic(gram / self._norms / self._norms[:, None], l1=l1, l2=l2)

    @property
    def nbytes(self) -> int:
        """Bytes held besides G."""
        scaled = 0 if self._norms is None else self.quadratic.gram.nbytes + self._norms.nbytes
        return scaled + self.quadratic.nbytes

    def scaled(self, projections: Projections) -> tuple[Tensor, Tensor]:
        """Return q, (B, J), in the units of the problem, and each length ‖y‖, (B, 1), 1 where none is used."""
        values = projections.values
        if self._norms is None:
            return values, values.new_ones(len(values), 1)
        energies = projections.energies
        lengths = torch.where(energies > 0, energies, torch.ones_like(energies)).sqrt()[:, None]
        return values * (1.0 / (self._norms * lengths)).to(values.dtype), lengths

    def in_units_of_the_image(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Return the unknowns, (B, J), that fit the images as they are, from those that minimise the problem."""
        return a if self._norms is None else a * (lengths / self._norms).to(a.dtype)

    def in_units_of_the_problem(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Undo `in_units_of_the_image`; what no pixel sees becomes zero."""
        if self._norms is None:
            return a
        seen = torch.isfinite(self._norms)
        return torch.where(seen, a * (self._norms / lengths), torch.zeros_like(a)).to(a.dtype)

    def solve(
        self,
        projections: Projections,
        settings: FourierBesselSettings,
        *,
        max_iterations: int,
        start: Tensor | None = None,
    ) -> Solution:
        """Return the minimum: unknowns that fit the images as they are, objective and gap in the reading's scale.

        Parameters
        ----------
        projections
            Of the images.
        settings
            Solver and tolerance.
        max_iterations
            Bound on the solver's steps.
        start
            (B, J) unknowns to start from, in the unit of the images; None: the solver's own start.
        """
        values, lengths = self.scaled(projections)
        solution = solve(
            self.quadratic,
            values,
            # A blank frame's length is one, so that its energy stays zero.
            projections.energies / lengths[:, 0].double().square(),
            solver=settings.solver,
            tolerance=settings.tolerance,
            max_iterations=max_iterations,
            start=None if start is None else self.in_units_of_the_problem(start, lengths),
        )
        return Solution(
            self.in_units_of_the_image(solution.coefficients, lengths),
            solution.objective * self._scale,
            solution.gap * self._scale,
            solution.unexplained,
            solution.iterations,
        )
