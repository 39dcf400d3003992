"""FISTA for the elastic net: products with G alone, nothing to factorise.

Beck & Teboulle (2009) with the adaptive restart of O'Donoghue & Candès (2015), frame by frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.problem import Quadratic


class Fista:
    """Steps of a batch; parameters as `dvfb_stream.fbt.elastic_net.solve.Admm` takes them."""

    def __init__(self, quadratic: Quadratic, projections: Tensor, start: Tensor | None = None) -> None:
        self._gram = quadratic.gram_in(projections.dtype)
        self._step = 1.0 / (quadratic.largest_eigenvalue + quadratic.l2)
        self._shrink = 1.0 - self._step * quadratic.l2
        self._threshold = quadratic.l1 * self._step
        self._constant = projections * self._step
        self.coefficients = torch.zeros_like(projections) if start is None else start
        self._point = self.coefficients
        self._momentum = torch.ones_like(projections[:, :1])

    def advance(self, steps: int) -> None:
        """Take some steps."""
        a, point, momentum = self.coefficients, self._point, self._momentum
        for _ in range(steps):
            descent = torch.addmm(self._constant, point, self._gram, alpha=-self._step) + self._shrink * point
            new = torch.nn.functional.softshrink(descent, self._threshold)
            # Momentum that points uphill is dropped, frame by frame.
            uphill = ((point - new) * (new - a)).sum(1, keepdim=True) > 0
            momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
            grown = 0.5 * (1 + (1 + 4 * momentum.square()).sqrt())
            carried = torch.where(uphill, torch.zeros_like(momentum), (momentum - 1) / grown)
            point = torch.addcmul(new, carried, new - a)
            a, momentum = new, grown
        self.coefficients, self._point, self._momentum = a, point, momentum

    def keep(self, frames: Tensor) -> None:
        """Go on with some frames of the batch alone."""
        self.coefficients, self._point = self.coefficients[frames], self._point[frames]
        self._momentum, self._constant = self._momentum[frames], self._constant[frames]
