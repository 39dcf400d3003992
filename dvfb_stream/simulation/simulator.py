"""Labelled frames of a simulated beamline: the material that networks are trained on before any real frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation.components import Component, Term
from dvfb_stream.simulation.experiment import Experiment, draw_experiment
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.sample.mixture import draw_sample
from dvfb_stream.simulation.settings import SimulationSettings
from dvfb_stream.simulation.visibility import labels_of

SATURATION = 2**16 - 1
"""Largest count of a 16 bit detector; it clips there."""
_EXPERIMENTS_KEPT = 4
"""Experiments held at a time; one of 256 x 256 takes 2.5 MB, and frames are mostly asked for in order."""

Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """One frame of the simulated beamline and what it shows."""

    pixels: NDArray[Any]
    """(H, W) counts: int32 where the settings ask for binning 1, else float32 means over the binned pixels. Invalid
    pixels are 0."""
    geometry: Geometry
    labels: tuple[str, ...]
    """What is visible, in the order of `LABELS`; docs/labels.md defines it."""
    components: tuple[dict[str, Any], ...]
    """Everything that was drawn, visible or not: name and parameters, JSON-ready."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedBatch:
    """Consecutive frames of one experiment, made at once."""

    first: int
    """Index of the first frame."""
    pixels: Tensor
    """(B, H, W) counts, on the simulator's device: int32 at detector resolution, else float32 means."""
    labels: Tensor
    """(B, 10) bool on the CPU, in the order of `LABELS`."""
    geometry: Geometry
    """Of every frame."""
    experiment: dict[str, Any]
    """What they share, JSON-ready: number, detector, distance and the like."""
    components: tuple[tuple[dict[str, Any], ...], ...]
    """All that was drawn for each frame, JSON-ready."""

    def __len__(self) -> int:
        return len(self.pixels)


class Simulator:
    """Simulated frames with their labels.

    Frame `index` depends on `seed`, `index` and `settings` alone, whatever was asked for before.
    Not thread-safe: give each thread its own.

    Parameters
    ----------
    seed
        Not negative. Frames of different seeds are independent.
    settings
        What may be chosen.

    Raises
    ------
    SettingsError
        When the seed is negative or no integer.

    Examples
    --------
    >>> frame = Simulator(seed=7).frame(0)
    >>> frame.pixels.shape
    (256, 256)
    """

    def __init__(self, seed: int = 0, *, settings: SimulationSettings | None = None) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise SettingsError(f"seed must be an integer, 0 or more, not {seed!r}")
        self.seed = int(seed)
        self.settings = SimulationSettings() if settings is None else settings
        self._experiments: OrderedDict[int, Experiment] = OrderedDict()

    def frame(self, index: int) -> SimulatedFrame:
        """Return frame `index` (0 or more).

        Raises
        ------
        SettingsError
            When the index is negative.
        """
        if index < 0:
            raise SettingsError(f"frames are counted from 0; there is no frame {index}")
        index = int(index)
        experiment = self._experiment(index // self.settings.frames_per_experiment)
        rng = np.random.default_rng((self.seed, 1, index))
        # Exposure times within an experiment differ less than between experiments.
        level = experiment.exposure * 10.0 ** float(rng.normal(0.0, 0.25))
        with torch.inference_mode():
            drawn = draw_sample(rng, experiment, level, self.settings)
            image = self._scattered(drawn, experiment)
            before, after, surroundings = self._draw_surroundings(rng, experiment, level)
            expected = (image + before).clamp(min=0.0) * experiment.transmission + after
            expected = expected.clamp(max=float(SATURATION))
            labels = labels_of(drawn, experiment.in_bins(expected), experiment)
        pixels = self._exposed(rng, expected.numpy(), experiment, level)
        described = [{"name": part.name, **part.parameters} for part in drawn] + surroundings
        return SimulatedFrame(pixels, experiment.geometry, labels, tuple(described))

    def frames(self, start: int, stop: int) -> Iterator[SimulatedFrame]:
        """Yield the frames from `start` up to, not including, `stop`."""
        for index in range(start, stop):
            yield self.frame(index)

    def batches(self, start: int, stop: int, *, size: int = 64) -> Iterator[SimulatedBatch]:
        """Yield the frames from `start` up to, not including, `stop`, at most `size` at a time."""
        per_experiment = self.settings.frames_per_experiment
        while start < stop:
            number = start // per_experiment
            end = min(stop, start + size, (number + 1) * per_experiment)
            frames = list(self.frames(start, end))
            yield SimulatedBatch(
                first=start,
                pixels=torch.from_numpy(np.stack([frame.pixels for frame in frames])),
                labels=torch.tensor([[label in frame.labels for label in LABELS] for frame in frames]),
                geometry=frames[0].geometry,
                experiment={"number": number},
                components=tuple(frame.components for frame in frames),
            )
            start = end

    def _experiment(self, number: int) -> Experiment:
        experiment = self._experiments.get(number)
        if experiment is None:
            rng = np.random.default_rng((self.seed, 0, number))
            with torch.inference_mode():
                experiment = draw_experiment(rng, number, self.settings)
            self._experiments[number] = experiment
            if len(self._experiments) > _EXPERIMENTS_KEPT:
                self._experiments.popitem(last=False)
        self._experiments.move_to_end(number)
        return experiment

    def _scattered(self, drawn: Sequence[Component], experiment: Experiment) -> Tensor:
        """Sum the components on the pixels, in counts before any obstruction."""
        plain = [term for part in drawn if part.speckle is None for term in part.terms]
        image = _pattern_image(plain, experiment)
        for part in drawn:
            if part.speckle is not None:
                image = image + _pattern_image(part.terms, experiment) * part.speckle
        return image

    def _draw_surroundings(
        self, rng: Rng, experiment: Experiment, level: float
    ) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
        """Draw what the beamline adds before the beamstop and window, and what it adds after them."""
        size = experiment.geometry.shape[0]
        x, y, scale = experiment.x, experiment.y, experiment.scale
        described: list[dict[str, Any]] = []
        # A beamstop is made to cover the beam.
        sigma = (experiment.stop_radius or 8.0 * scale) * float(rng.uniform(0.1, 0.26))
        before = beamline.gaussian_beam(torch.hypot(x, y), sigma=sigma, peak=1e5)
        after = torch.full((size, size), 10.0 ** float(rng.uniform(-4.0, -1.5)))
        if rng.random() < self.settings.background:
            height = level * 10.0 ** float(rng.uniform(-2.5, 0.9))
            slope = float(rng.normal(0.0, 0.15))
            before = before + height * beamline.smooth_background(
                x, y, slope=slope, direction=float(rng.uniform(0.0, 6.3)), scale=0.5 * size
            )
            described.append({"name": "background", "height": height, "slope": slope})
        if rng.random() < self.settings.streaks:
            height = level * 10.0 ** float(rng.uniform(-0.5, 1.5))
            width, length = scale * float(rng.uniform(0.6, 2.0)), scale * float(rng.uniform(5.0, 40.0))
            direction = float(rng.integers(2)) * 0.5 * np.pi + float(rng.normal(0.0, 0.03))
            before = before + height * beamline.slit_streak(
                x, y, direction=direction, width=width, length=length
            )
            described.append({"name": "slit_streak", "height": height, "width": width, "length": length})
        return before, after, described

    def _exposed(
        self, rng: Rng, expected: NDArray[np.float32], experiment: Experiment, level: float
    ) -> NDArray[Any]:
        """Count photons: the mean of `binning` Poisson variables of the expected mean, clipped."""
        mask = experiment.geometry.mask
        binning = experiment.binning
        counts = rng.poisson(expected * np.float32(binning)).astype(np.float32)
        if rng.random() < self.settings.zingers:
            beamline.add_zingers(rng, counts, brightness=30.0 + 10.0 * level)
        counts /= np.float32(binning)
        np.minimum(counts, np.float32(SATURATION), out=counts)
        if mask is not None:
            counts[~mask] = 0.0
        return counts.astype(np.int32) if self.settings.binning == 1 else counts


def _pattern_image(terms: Sequence[Term], experiment: Experiment) -> Tensor:
    isotropic = torch.zeros_like(experiment.radii)
    radial, angular, full = [], [], []
    for term in terms:
        if term.full is not None:
            full.append(term.full)
        elif term.angular is None:
            isotropic = isotropic + term.radial
        else:
            radial.append(term.radial)
            angular.append(term.angular)
    pattern = isotropic.expand(len(experiment.azimuths), -1)
    if radial:
        pattern = torch.addmm(pattern, torch.stack(angular, dim=1), torch.stack(radial))
    for part in full:
        pattern = pattern + part
    return experiment.on_pixels(pattern)
