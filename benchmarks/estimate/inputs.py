"""The views that are estimated: simulated frames of one geometry, the beam where a case wants it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.fbt import FourierBessel
from dvfb_stream.frames import Geometry
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.view import ViewResampler

VIEW_SIZE = 256
"""Side of a view, the paper's."""

CENTERS = {"centred": (127.5, 127.5), "off_centre": (80.3, 141.2)}
"""Beam centre of each case in pixels of a 256 x 256 view; the first lies on a half-pixel of the working grid, where
the basis has the symmetries of the square."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Views of one geometry."""

    name: str
    images: NDArray[np.float32]
    """(B, size, size), 0..255, 0 where invalid."""
    mask: NDArray[np.bool_]
    """(size, size), True = valid."""
    center_x: float
    center_y: float

    @property
    def size(self) -> int:
        """Side of the views."""
        return int(self.mask.shape[0])

    def estimator(self, *, device: str = "cpu", n_radial: int = 40, highest_order: int = 20) -> FourierBessel:
        """Return the estimator of these views; the radius is the view's side and grows with it."""
        return FourierBessel(
            (self.size, self.size),
            self.center_x,
            self.center_y,
            radius=float(self.size),
            mask=self.mask,
            n_radial=n_radial,
            orders=range(0, highest_order + 1, 2),
            device=device,
        )


def simulate(
    name: str, frames: int, *, size: int = VIEW_SIZE, advance: Callable[[], object] = lambda: None
) -> Case:
    """Return `frames` views of one simulated experiment with detector gaps.

    A detector of twice the side is simulated and a window of it is kept, whose beam lies within half a pixel of the
    place the case wants: the centre is stated there, as well as a beamline knows it.

    Parameters
    ----------
    name
        Of `CENTERS`.
    frames
        How many views.
    size
        Side of the views.
    advance
        Called after each frame.
    """
    center_x, center_y = (value * size / VIEW_SIZE for value in CENTERS[name])
    if name == "centred":
        center_x = center_y = (size - 1) / 2
    # Many, so that the first frames are the same ones however many are asked for.
    per_experiment = max(frames, 1000)
    settings = SimulationSettings(
        size=2 * size,
        frames_per_experiment=per_experiment,
        detectors={"pilatus_1m": 1.0},
        middle=1.0,
        wide_angle=0.0,
        tilted=0.0,
        grazing=0.0,
        blank=0.0,
        diffuse_only=0.0,
    )
    simulator = Simulator(seed=0, settings=settings)
    for experiment in itertools.count():
        geometry = simulator.frame(experiment * per_experiment).geometry
        left, top = round(geometry.center_x - center_x), round(geometry.center_y - center_y)
        if 0 <= left <= size and 0 <= top <= size:
            break
    window = (slice(top, top + size), slice(left, left + size))
    counts = []
    for index in range(frames):
        counts.append(simulator.frame(experiment * per_experiment + index).pixels[window])
        advance()
    assert geometry.mask is not None  # it has gaps
    cut = Geometry(shape=(size, size), center_x=center_x, center_y=center_y, mask=geometry.mask[window])
    views = ViewResampler(cut, size)
    images = np.stack([views.view(pixels).image for pixels in counts])
    return Case(name, images, views.mask, center_x, center_y)
