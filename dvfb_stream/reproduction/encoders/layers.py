"""The unrolled iteration: a few steps that any positive parameters leave exact at the minimum of (9).

At the minimum a of P, s = (q - (G + κ₂) a) / κ₁ is a subgradient of ‖·‖₁: the sign of a where there is one, within
-1..1 elsewhere. A layer takes estimates (z, s) of both further, with a curvature R, a threshold θ and a relaxation γ
of its own for every unknown, the threshold also by the frame's brightness::

    x = (G + κ₂ + R)⁻¹ (q + R z - κ₁ s)
    w = z + θ s + γ (x - z)
    z = soft threshold of w at θ
    s = (w - z) / θ

Both stay where they are at the minimum whatever R > 0, θ > 0 and γ are: learning makes layers fast, and cannot teach
them a wrong answer. With R = ρ and θ = κ₁/ρ for all unknowns this is the iteration of
`dvfb_stream.fbt.elastic_net.Admm`, whose state is w alone as long as ρ stays. Here it may change, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

RELAXATION = 1.7
"""γ of ADMM, before anything is learned."""

SMALLEST_RIDGE = 1e-6
"""Share of the largest eigenvalue that stands for κ₂ in ρ where κ₂ is less. What weights mean hangs on ρ: it is
stated here, as it was when they were learned, and does not follow the solver's."""


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """What is learned: tied to (n, m), so that it fits any geometry, any pixels."""

    curvature: Tensor
    """(layers, n_radial, n_orders) logarithm of R in units of ρ."""
    threshold: Tensor
    """(layers, n_radial, n_orders) logarithm of θ in units of κ₁/ρ."""
    relaxation: Tensor
    """(layers, n_radial, n_orders) γ."""
    brightness: Tensor
    """(layers, n_radial, n_orders) by how much the logarithm of θ rises with `level`: a frame that rises far above
    κ₁ has other thresholds than one that hardly does."""

    def __len__(self) -> int:
        return len(self.curvature)

    @classmethod
    def of_admm(cls, count: int, *, n_radial: int, n_orders: int) -> Layers:
        """Return the layers that are `count` steps of ADMM at one ρ."""
        shape = (count, n_radial, n_orders)
        return cls(torch.zeros(shape), torch.zeros(shape), torch.full(shape, RELAXATION), torch.zeros(shape))

    def parameters(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {
            "curvature": self.curvature,
            "threshold": self.threshold,
            "relaxation": self.relaxation,
            "brightness": self.brightness,
        }


@dataclass(frozen=True, slots=True, eq=False)
class LayerOfGeometry:
    """One layer's parameters for the unknowns of one geometry."""

    curvature: Tensor
    """(J,) R."""
    threshold: Tensor
    """(J,) θ of a frame of level 0."""
    relaxation: Tensor
    """(J,) γ."""
    brightness: Tensor
    """(J,) d ln θ / d level."""

    def to(self, device: torch.device, dtype: torch.dtype) -> LayerOfGeometry:
        """Return it on a device in a type."""
        return LayerOfGeometry(
            self.curvature.to(device, dtype),
            self.threshold.to(device, dtype),
            self.relaxation.to(device, dtype),
            self.brightness.to(device, dtype),
        )


def for_geometry(
    layers: Layers, *, orders: Sequence[int], l1: float, l2: float, largest: float
) -> list[LayerOfGeometry]:
    """Return each layer for one geometry, of which κ₁, κ₂ and the largest eigenvalue of G give the scale ρ."""
    largest = largest + l2
    rho = math.sqrt(max(l2, SMALLEST_RIDGE * largest) * largest)
    return [
        LayerOfGeometry(
            rho * by_unknown(layers.curvature[k], orders=orders).exp(),
            l1 / rho * by_unknown(layers.threshold[k], orders=orders).exp(),
            by_unknown(layers.relaxation[k], orders=orders),
            by_unknown(layers.brightness[k], orders=orders),
        )
        for k in range(len(layers))
    ]


def by_unknown(values: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return (J,) from (n_radial, n_orders): cosine and sine of an order have the same."""
    return torch.cat([values[:, k] for k, order in enumerate(orders) for _ in range(1 if order == 0 else 2)])


def level(projections: Tensor, l1: float) -> Tensor:
    """Return how far q of each frame rises above κ₁, (B, 1): of order one, bounded, -1 for a blank frame."""
    ratio = projections.square().mean(1, keepdim=True).sqrt() / l1
    # Root mean squares from 1 to 1000 times κ₁ are what frames show.
    return ((ratio.clamp_min(1e-3).log() - 3.5) / 3.5).clamp(-1.0, 2.0)


def step(
    z: Tensor,
    s: Tensor,
    projections: Tensor,
    layer: LayerOfGeometry,
    *,
    l1: float,
    solve: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Return what a layer makes of (z, s), (B, J) each.

    Parameters
    ----------
    z, s
        Estimates of the minimum and of the subgradient there.
    projections
        (B, J) q.
    layer
        Of the geometry.
    l1
        κ₁.
    solve
        From (B, J) right-hand sides b to (G + κ₂ + R)⁻¹ b: the one product of a layer.
    """
    threshold = layer.threshold * (layer.brightness * level(projections, l1)).exp()
    x = solve(projections + layer.curvature * z - l1 * s)
    w = torch.lerp(z, x, layer.relaxation) + threshold * s
    s = torch.clamp(w / threshold, -1.0, 1.0)
    return w - threshold * s, s


def unroll(
    projections: Tensor,
    layers: Sequence[LayerOfGeometry],
    *,
    l1: float,
    solve: Callable[[int, Tensor], Tensor],
) -> list[Tensor]:
    """Return z after each layer, (B, J), from zero; as `step`, but that `solve` also takes the layer's number."""
    z = s = torch.zeros_like(projections)
    estimates = []
    for k, layer in enumerate(layers):
        z, s = step(z, s, projections, layer, l1=l1, solve=partial(solve, k))
        estimates.append(z)
    return estimates
