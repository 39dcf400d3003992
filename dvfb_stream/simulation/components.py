"""What a drawn piece of physics hands to the simulator: how it scatters, and what of it could be seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from dvfb_stream.simulation.experiment import AZIMUTHS, SECTORS


class FeatureKind(Enum):
    """What a feature looks like when it is visible."""

    RING = "ring"
    """A maximum in q narrower than 0.3 of its q."""
    HALO = "halo"
    """A maximum in q of relative width 0.3 or more."""
    LOW_Q = "low_q"
    """Intensity that falls from the beam outwards."""
    HIGH_Q = "high_q"
    """Intensity that rises from the beam outwards and stays."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """Intensity in counts a pixel on the experiment's polar grid; R(q) A(χ) unless `full` is given."""

    radial: Tensor
    """R at the experiment's `radii`, (R,)."""
    angular: Tensor | None = None
    """A at its `azimuths`, (AZIMUTHS,), mean 1; None: isotropic."""
    full: Tensor | None = None
    """What is no product of the two, (AZIMUTHS, R), in place of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feature:
    """One ring, halo or diffuse intensity whose visibility decides labels."""

    kind: FeatureKind
    term: Term
    """What stands out: for a maximum on top of its own structure's intensity, only the excess."""
    radius: float = 0.0
    """Of the maximum, pixels; unused for diffuse kinds."""
    width: float = 0.0
    """Full width at half maximum, pixels; unused for diffuse kinds."""
    order: int = 0
    """k of its azimuthal symmetry; 0: isotropic."""
    textured: bool = False
    """Whether its intensity varies smoothly along the azimuth (and not from grain to grain)."""

    def rates(self) -> Tensor:
        """Return the counts a pixel in the polar bins of the visibility rule, (SECTORS, B)."""
        if self.term.full is not None:
            return self.term.full[:, ::2].reshape(SECTORS, AZIMUTHS // SECTORS, -1).mean(dim=1)
        radial = self.term.radial[::2]
        if self.term.angular is None:
            return radial.expand(SECTORS, -1)
        return self.sectors()[:, None] * radial[None, :]

    def sectors(self) -> Tensor:
        """Return the mean of the angular profile in each sector, (SECTORS,)."""
        if self.term.angular is None:
            return torch.ones(SECTORS)
        return self.term.angular.reshape(SECTORS, AZIMUTHS // SECTORS).mean(dim=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """One drawn piece of physics."""

    name: str
    parameters: dict[str, Any]
    """JSON-ready: radii and widths in pixels, angles in radians, q in 1/Å."""
    terms: tuple[Term, ...]
    features: tuple[Feature, ...] = ()
    speckle: Tensor | None = None
    """Multiplies the component's image, (H, W), mean 1; None: none."""
