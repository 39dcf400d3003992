"""The unrolled encoder: a few learned steps of the solver, without its certificate."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dvfb_stream.fbt.coefficients import complex_from_real
from dvfb_stream.fbt.elastic_net import PenalisedFit
from dvfb_stream.fbt.estimator import FourierBessel, full_precision
from dvfb_stream.fbt.projection import Projections
from dvfb_stream.reproduction.encoders.layers import LayerOfGeometry, for_geometry, unroll
from dvfb_stream.reproduction.encoders.weights import EncoderWeights, load_weights


class UnrolledEncoder:
    """Coefficients by a fixed number of learned steps, `dvfb_stream.reproduction.encoders.layers`: one product each.

    Close to the estimate on average and without a bound on how far from it; docs/encoders.md has the numbers.
    Building one factorises the estimator's Gram matrix once a layer. Threads may share an encoder.

    Parameters
    ----------
    estimator
        Of the geometry. Its settings must have the penalties, reading, n_radial and orders that the weights were
        trained for.
    weights
        Learned parameters, or their file; None: those that come with the package for the estimator's reading.

    Attributes
    ----------
    settings
        The estimator's.
    weights
        In use.

    Raises
    ------
    BundleError
        When the weights' file is missing, damaged, altered or of another format.
    SettingsError
        When the estimator's settings are not those that the weights were trained for.
    """

    def __init__(self, estimator: FourierBessel, weights: EncoderWeights | Path | str | None = None) -> None:
        self.settings = estimator.settings
        if not isinstance(weights, EncoderWeights):
            weights = load_weights(self.settings.reading if weights is None else Path(weights))
        weights.check(self.settings)
        self.weights = weights
        self._estimator = estimator
        self._fit = PenalisedFit(estimator.gram, estimator.fitted_count, self.settings)
        quadratic = self._fit.quadratic
        self._layers = for_geometry(
            weights.layers,
            orders=self.settings.orders,
            l1=quadratic.l1,
            l2=quadratic.l2,
            largest=quadratic.largest_eigenvalue,
        )
        self._lock = threading.Lock()
        self._ready: dict[torch.dtype, tuple[list[LayerOfGeometry], list[Tensor]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held besides the estimator; grows as types are first used."""
        with self._lock:
            inverses = [inverse for _, parts in self._ready.values() for inverse in parts]
        return sum(inverse.nbytes for inverse in inverses) + self._fit.nbytes

    def estimate(self, images: ArrayLike | Tensor) -> Tensor:
        """Return coefficients; images, result and errors are those of `FourierBessel.estimate`."""
        projections = self._estimator.project(images, reading=self.settings.reading)
        unknowns = self.encode(projections).to(projections.dtype)
        return complex_from_real(unknowns, n_radial=self.settings.n_radial, orders=self.settings.orders)

    @torch.no_grad()
    def encode(self, projections: Projections) -> Tensor:
        """Return the real unknowns, (B, J), of what `FourierBessel.project` returned."""
        q, lengths = self._fit.scaled(projections)
        layers, inverses = self._in(q.dtype)

        def solve(layer: int, right: Tensor) -> Tensor:
            return right @ inverses[layer]

        with full_precision(self._estimator.device):
            a = unroll(q, layers, l1=self._fit.quadratic.l1, solve=solve)[-1]
        return self._fit.in_units_of_the_image(a, lengths)

    def _in(self, dtype: torch.dtype) -> tuple[list[LayerOfGeometry], list[Tensor]]:
        """Layers and their matrices in a working type, (G + κ₂ + R)⁻¹ computed in float64."""
        with self._lock:
            if dtype not in self._ready:
                device = self._estimator.device
                layers = [layer.to(device, dtype) for layer in self._layers]
                self._ready[dtype] = layers, [self._inverse(layer).to(dtype) for layer in self._layers]
            return self._ready[dtype]

    def _inverse(self, layer: LayerOfGeometry) -> Tensor:
        quadratic = self._fit.quadratic
        ridge = layer.curvature.to(quadratic.gram) + quadratic.l2
        return torch.cholesky_inverse(torch.linalg.cholesky(quadratic.gram + torch.diag(ridge)))
