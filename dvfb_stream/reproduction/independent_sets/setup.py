"""A detector in a beam, by pyFAI: where its pixels lie in reciprocal space and how much each of them receives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.frames import Geometry
from dvfb_stream.reproduction.independent_sets.component import AZIMUTHS, Table

LONGEST_SIDE = 512
"""Pixels. Larger detectors are binned, as their files often are; twice the side of a view is enough."""
COLUMNS = 448
"""Of a table, along q."""
BEYOND = 1.3
"""How far tables reach beyond the farthest valid pixel, so that a maximum is known whole where its flank is not."""
HELD_BACK = 0.5
"""Transmission below which a pixel counts as behind a beamstop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How a detector stands in the beam."""

    detector: str
    """pyFAI's name."""
    center: tuple[float, float]
    """Direct beam as shares of width and height, 0 and 1 being the edges."""
    distance: float
    """Metres, along the beam."""
    wavelength: float
    """Å."""
    rot1: float = 0.0
    """Tilts as pyFAI has them, radians."""
    rot2: float = 0.0
    polarisation: float = 0.98
    """Of the beam, horizontal: +1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setup:
    """All that the frames of one experiment share."""

    pose: Pose
    geometry: Geometry
    """Of the binned detector."""
    q: NDArray[np.float64]
    """(COLUMNS,) 1/Å: columns of the tables."""
    received: NDArray[np.float64]
    """(rows, columns): solid angle, polarisation and transmission of the beamstop, relative; 0 where invalid."""
    sampling: csr_array
    """(pixels, AZIMUTHS · COLUMNS): bilinear interpolation of a table."""
    pixels: Table
    """Valid pixels that no beamstop shades, of each cell of a table."""
    seen: Table
    """What they receive."""
    expected: NDArray[np.float64]
    """(COLUMNS,) pixels of one cell of a detector without edges, gaps or tilt."""
    near: float
    """1/Å: 1 % of the valid pixels are nearer to the beam, 1 % farther than `far`."""
    far: float
    pixel: float
    """Metres, of the binned detector."""

    @property
    def wave_number(self) -> float:
        """2π/λ, 1/Å: q of a small angle in radians."""
        return 2.0 * math.pi / self.pose.wavelength

    def image(self, table: Table) -> NDArray[np.float64]:
        """Return expected counts, (rows, columns)."""
        return np.asarray(self.sampling @ table.ravel()).reshape(self.geometry.shape) * self.received

    def at(self, share: float | NDArray[np.float64]) -> Any:
        """Return the q at a share of the way from `near` to `far`."""
        return self.near + share * (self.far - self.near)


def build(
    pose: Pose, transmission: NDArray[np.float64] | None = None, *, mask: NDArray[np.bool_] | None = None
) -> Setup:
    """Return the setup of a binned detector.

    Parameters
    ----------
    pose
        Detector and beam.
    transmission
        (rows, columns) of the beamstop and its shadow, 0 to 1; None: no beamstop.
    mask
        (rows, columns), True = valid, besides the detector's own gaps.

    Raises
    ------
    MissingExtraError
        When pyFAI is not installed.
    """
    plane = _plane(pose.detector)
    valid = plane.valid if mask is None else plane.valid & mask
    at = _pyfai_geometry(pose)
    q, azimuth = (at.center_array(plane.shape, unit=unit) for unit in ("q_A^-1", "chi_rad"))
    received = at.solidAngleArray(plane.shape) * at.polarization(plane.shape, factor=pose.polarisation)
    received = valid * (received if transmission is None else received * transmission)
    lit = valid if transmission is None else valid & (transmission > HELD_BACK)

    near, far = np.quantile(q[lit], [0.01, 0.99])
    step = BEYOND * q[lit].max() / COLUMNS
    columns = (np.arange(COLUMNS) + 0.5) * step
    row, column = np.degrees(azimuth).ravel() % 360.0 * (AZIMUTHS / 360.0), q.ravel() / step - 0.5

    two_theta = 2.0 * np.arcsin(np.clip(columns * pose.wavelength / (4.0 * math.pi), 0.0, 0.7))
    radius = pose.distance * np.tan(two_theta) / plane.pixel
    center_x, center_y = _beam(pose, plane)
    return Setup(
        pose=pose,
        geometry=Geometry(shape=plane.shape, center_x=center_x, center_y=center_y, mask=valid),
        q=columns,
        received=received,
        sampling=_bilinear(row, column),
        pixels=_summed(row, column, lit.astype(float)),
        seen=_summed(row, column, lit * received),
        expected=radius * np.gradient(radius) * (2.0 * math.pi / AZIMUTHS),
        near=float(near),
        far=float(far),
        pixel=plane.pixel,
    )


def binned_shape(detector: str) -> tuple[int, int]:
    """Return (rows, columns) of a detector as it is used here."""
    return _plane(detector).shape


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """A binned detector."""

    valid: NDArray[np.bool_]
    pixel: float
    """Metres."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.valid.shape[0], self.valid.shape[1]


@lru_cache(maxsize=64)
def _plane(name: str) -> _Plane:
    detectors, _ = _pyfai()
    detector = detectors.detector_factory(name)
    rows, columns = detector.shape
    binning = -(-max(rows, columns) // LONGEST_SIDE)
    valid = np.ones((rows, columns), dtype=bool) if detector.mask is None else np.asarray(detector.mask) == 0
    blocks = valid[: rows // binning * binning, : columns // binning * binning]
    blocks = blocks.reshape(rows // binning, binning, columns // binning, binning)
    # Software that bins gives up a block with any invalid pixel.
    whole: NDArray[np.bool_] = np.logical_and.reduce(blocks, axis=(1, 3))
    return _Plane(whole, float(detector.pixel1) * binning)


def _beam(pose: Pose, plane: _Plane) -> tuple[float, float]:
    rows, columns = plane.shape
    return pose.center[0] * columns - 0.5, pose.center[1] * rows - 0.5


def _pyfai_geometry(pose: Pose) -> Any:
    detectors, geometry = _pyfai()
    plane = _plane(pose.detector)
    center_x, center_y = _beam(pose, plane)
    # From the beam to the point of normal incidence, as in pyFAI's conversion from Fit2D; `distance` is along the
    # beam, pyFAI's is along the normal.
    normal = pose.distance * math.cos(pose.rot1) * math.cos(pose.rot2)
    return geometry.Geometry(
        dist=normal,
        poni1=(center_y + 0.5) * plane.pixel - normal * math.tan(pose.rot2) / math.cos(pose.rot1),
        poni2=(center_x + 0.5) * plane.pixel + normal * math.tan(pose.rot1),
        rot1=pose.rot1,
        rot2=pose.rot2,
        detector=detectors.Detector(pixel1=plane.pixel, pixel2=plane.pixel, max_shape=plane.shape),
        wavelength=pose.wavelength * 1e-10,
    )


def _summed(row: NDArray[np.float64], column: NDArray[np.float64], values: NDArray[np.float64]) -> Table:
    """Return sums of the pixels' values in the nearest cell of a table."""
    columns = np.clip(np.round(column).astype(int), 0, COLUMNS - 1)
    summed = np.zeros((AZIMUTHS, COLUMNS))
    np.add.at(summed, (np.round(row).astype(int) % AZIMUTHS, columns), values.ravel())
    return summed


def _bilinear(row: NDArray[np.float64], column: NDArray[np.float64]) -> csr_array:
    column = np.clip(column, 0.0, COLUMNS - 1.001)
    first_row, first_column = np.floor(row).astype(int), np.floor(column).astype(int)
    down, across = row - first_row, column - first_column
    indices, weights = [], []
    for rows, vertical in ((first_row, 1.0 - down), (first_row + 1, down)):
        for columns, horizontal in ((first_column, 1.0 - across), (first_column + 1, across)):
            indices.append(rows % AZIMUTHS * COLUMNS + columns)
            weights.append(vertical * horizontal)
    starts = np.arange(0, 4 * len(row) + 1, 4)
    return csr_array(
        (np.stack(weights, axis=1).ravel(), np.stack(indices, axis=1).ravel().astype(np.int32), starts),
        shape=(len(row), AZIMUTHS * COLUMNS),
    )


def _pyfai() -> tuple[Any, Any]:
    try:
        import pyFAI.detectors
        import pyFAI.geometry
    except ImportError:
        raise MissingExtraError("pyFAI", "evaluate") from None
    return pyFAI.detectors, pyFAI.geometry
