"""What drawn pieces of physics hand to the simulator: how they scatter, and what of them could be seen.

Everything is drawn for many frames at once: a block has a row for each ring, and says which frame that is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import FOOTPRINT, PolarTable
from dvfb_stream.simulation.draws import Reals
from dvfb_stream.simulation.physics import intensities

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """Rows of intensity R(r) A(χ), counts a detector pixel."""

    frame: Integers
    """(n,) position in the batch."""
    radial: Callable[[PolarTable], Tensor]
    """R, (n, R) float64, at the radii of a table."""
    angular: Callable[[PolarTable], Tensor] | None = None
    """A, (n, AZIMUTHS) float64, mean 1; None: isotropic."""
    speckled: bool = False
    """Whether a coherent beam breaks it into speckles."""
    of_sample: bool = True
    """Whether the sample scatters it; else slits and windows do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pattern:
    """Rows of intensity that is no product of radius and azimuth."""

    frame: Integers
    full: Callable[[PolarTable], Tensor]
    """(n, AZIMUTHS, R) float64."""


class Figures(Protocol):
    """Rows of intensity in the detector's plane, too narrow far from the beam for a pattern in polar coordinates."""

    @property
    def frame(self) -> Integers:
        """(n,) position in the batch."""

    def at(self, x: Tensor, y: Tensor, row: int, *, step: float) -> Tensor:
        """Return the counts of one row at points (x, y) view pixels from the beam, averaged over `step` pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maxima:
    """Rows of rings and haloes whose visibility decides labels, (n,) each."""

    terms: Terms
    """What stands out: for a maximum on top of its own structure's intensity, only the excess."""
    structure: Integers
    """Rings with one number belong to one structure."""
    radius: Reals
    """Of the maximum, view pixels."""
    width: Reals
    """Full width at half maximum, view pixels; from 0.3 of the radius on it is a halo."""
    order: Integers
    """k of the azimuthal symmetry; 0: isotropic."""
    textured: NDArray[np.bool_]
    """Whether the intensity varies smoothly along the azimuth (and not from grain to grain)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Diffuse:
    """Rows of diffuse intensity whose visibility decides labels."""

    intensity: Terms | Pattern
    rises: bool
    """Whether it rises away from the beam; else it falls."""
    order: int = 0
    """k of its azimuthal symmetry; 0: isotropic."""
    smooth: bool = True
    """Whether it changes smoothly from the beam outwards, which is what makes it diffuse; else it only carries a
    symmetry."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """Parameters that were drawn, for the frames' records."""

    name: str
    frame: Integers
    values: dict[str, Any]
    """(n,) or (n, k) arrays, NaN where there is none; or one value for all. Radii and widths in view pixels, angles
    in radians, q in 1/Å, sizes in Å, heights in counts a detector pixel."""

    def row(self, index: int) -> dict[str, Any]:
        """Return the parameters of one row, JSON-ready: NaN is None in an (n,) array, left out in an (n, k) one."""
        return {"name": self.name, **{key: _plain(value, index) for key, value in self.values.items()}}


@dataclass(slots=True, eq=False)
class Drawn:
    """All that was drawn for the frames of a batch."""

    terms: list[Terms] = field(default_factory=list)
    patterns: list[Pattern] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    maxima: list[Maxima] = field(default_factory=list)
    diffuse: list[Diffuse] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    speckles: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Contrast and grain (view pixels) of the speckles in a frame, by its position."""

    def add_maxima(
        self,
        terms: Terms,
        *,
        structure: Integers,
        radius: Reals,
        width: Reals,
        order: Integers | None = None,
        textured: bool | NDArray[np.bool_] = False,
    ) -> None:
        """Add rings or haloes as they scatter and as they may be seen; arguments as in `Maxima`."""
        self.terms.append(terms)
        count = len(radius)
        self.maxima.append(
            Maxima(
                terms=terms,
                structure=structure,
                radius=radius,
                width=width,
                order=np.zeros(count, dtype=np.int64) if order is None else order,
                textured=np.broadcast_to(textured, (count,)),
            )
        )

    def record(self, name: str, frame: Integers, **values: Any) -> None:
        """Keep parameters that were drawn; arguments as in `Record`."""
        self.records.append(Record(name=name, frame=frame, values=values))


def _plain(value: Any, index: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    item = value[index]
    if item.ndim == 0:
        return None if item != item else item.item()
    return [number for number in item.tolist() if number == number]


def on(table: PolarTable, values: NDArray[Any]) -> Tensor:
    """Return parameters as a column on the table's device, (n, 1)."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(table.radii.device)[:, None]


def peaks(radius: Reals, width: Reals, height: Reals) -> Callable[[PolarTable], Tensor]:
    """Return Gaussian maxima in radius; (n,) full widths at half maximum, view pixels, and heights in counts.

    A pixel of the raster averages over its own width, which broadens a narrow ring and lowers it.
    """

    def radial(table: PolarTable) -> Tensor:
        broadened = np.hypot(width, FOOTPRINT * table.step)
        return on(table, height * width / broadened) * intensities.gaussian_peak(
            table.radii, center=on(table, radius), fwhm=on(table, broadened)
        )

    return radial


def oriented(order: Integers, sharpness: Reals, phase: Reals) -> Callable[[PolarTable], Tensor]:
    """Return Poisson kernels of the azimuth; order 0 is isotropic."""

    def angular(table: PolarTable) -> Tensor:
        return intensities.angular_profile(
            table.azimuths,
            order=on(table, np.maximum(order, 1)),
            sharpness=on(table, np.where(order > 0, sharpness, 0.0)),
            phase=on(table, phase),
        )

    return angular
