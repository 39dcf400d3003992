"""Labelled frames of a simulated beamline: the material that networks are trained on before any real frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import find_device
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.simulation.beamline.experiment import Experiment, draw_experiment
from dvfb_stream.simulation.beamline.exposure import poisson
from dvfb_stream.simulation.beamline.readout import Readout
from dvfb_stream.simulation.components import Record
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.rendering import FRAMES_AT_A_TIME
from dvfb_stream.simulation.scene import Scene, SceneImages
from dvfb_stream.simulation.settings import DETECTOR, SimulationSettings

FRAMES_TOGETHER = 64
"""Made at once at most, however many are asked for: 50 MB of working memory for 256 x 256."""
EXPERIMENTS_KEPT = 4
"""Experiments held at a time; one of 256 x 256 takes 3 MB, and frames are mostly asked for in order."""
MOST_FRAMES = 2**53
"""Frame numbers that a double can hold."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """One frame of the simulated beamline and what it shows."""

    pixels: NDArray[Any]
    """(H, W) counts a detector pixel: int32 at detector resolution, else float32 means over the detector pixels in a
    pixel of the view. Invalid pixels are 0. With `dark_subtracted` or `normalised`, values are float32 and may be no
    counts."""
    geometry: Geometry
    labels: tuple[str, ...]
    """What is visible, in the order of `LABELS`; docs/labels.md defines it."""
    further_labels: tuple[str, ...]
    """What is visible besides, in the order of `FURTHER_LABELS`."""
    components: tuple[dict[str, Any], ...]
    """Everything that was drawn, visible or not: name and parameters, JSON-ready."""
    experiment: dict[str, Any]
    """Detector, distance, tilt, beamstop and the like, JSON-ready."""


@dataclass(frozen=True, eq=False)
class SimulatedBatch:
    """Consecutive frames of one experiment, made at once."""

    first: int
    """Index of the first frame."""
    pixels: Tensor
    """(B, H, W) counts a detector pixel, on the simulator's device: int32 at detector resolution, else float32;
    no counts where the settings say that frames are normalised or less a dark frame."""
    all_labels: Tensor
    """(B, 18) bool on the CPU, in the order of `ALL_LABELS`."""
    geometry: Geometry
    """Of every frame, as it is stated."""
    experiment: dict[str, Any]
    """What they share, JSON-ready: number, detector, distance, tilt, beamstop and the like."""
    records: tuple[Record, ...]
    """All that was drawn."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def labels(self) -> Tensor:
        """(B, 10) bool on the CPU, in the order of `LABELS`."""
        return self.all_labels[:, : len(LABELS)]

    @property
    def further_labels(self) -> Tensor:
        """(B, 8) bool on the CPU, in the order of `FURTHER_LABELS`."""
        return self.all_labels[:, len(LABELS) :]

    @cached_property
    def components(self) -> tuple[tuple[dict[str, Any], ...], ...]:
        """All that was drawn for each frame, JSON-ready; written out only where it is asked for."""
        rows: list[list[dict[str, Any]]] = [[] for _ in range(len(self))]
        for record in self.records:
            for row, position in enumerate(record.frame):
                rows[int(position)].append(record.row(row))
        return tuple(tuple(row) for row in rows)

    def frames(self) -> Iterator[SimulatedFrame]:
        """Yield the frames one by one."""
        pixels = self.pixels.cpu().numpy()
        for position in range(len(self)):
            yield SimulatedFrame(
                pixels=pixels[position],
                geometry=self.geometry,
                labels=_names(LABELS, self.labels[position]),
                further_labels=_names(FURTHER_LABELS, self.further_labels[position]),
                components=self.components[position],
                experiment=self.experiment,
            )


def _names(labels: Sequence[str], shown: Tensor) -> tuple[str, ...]:
    return tuple(label for label, there in zip(labels, shown.tolist(), strict=True) if there)


class Simulator:
    """Simulated frames with their labels.

    Frame `index` depends on `seed`, `index`, `settings` and the kind of device alone, whatever was asked for before
    or is made beside it. Not thread-safe: give each thread its own.

    Parameters
    ----------
    seed
        Not negative. Frames of different seeds are independent.
    settings
        What may be chosen.
    device
        ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.

    Raises
    ------
    SettingsError
        When the seed is negative or no integer, or the device not there.

    Examples
    --------
    >>> frame = Simulator(seed=7).frame(0)
    >>> frame.pixels.shape
    (256, 256)
    """

    def __init__(
        self, seed: int = 0, *, settings: SimulationSettings | None = None, device: str | torch.device = "cpu"
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise SettingsError(f"seed must be an integer, 0 or more, not {seed!r}")
        self.seed = int(seed)
        self.settings = SimulationSettings() if settings is None else settings
        self.device = find_device(device)
        self._experiments: BoundedCache[int, Experiment] = BoundedCache(EXPERIMENTS_KEPT)

    def frame(self, index: int) -> SimulatedFrame:
        """Return frame `index` (0 or more).

        Raises
        ------
        SettingsError
            When the index is negative.
        """
        return next(self.frames(index, index + 1))

    def frames(self, start: int, stop: int) -> Iterator[SimulatedFrame]:
        """Yield the frames from `start` up to, not including, `stop`."""
        for batch in self.batches(start, stop):
            yield from batch.frames()

    def batches(self, start: int, stop: int, *, size: int = FRAMES_TOGETHER) -> Iterator[SimulatedBatch]:
        """Yield the frames from `start` up to, not including, `stop`, at most `size` at a time.

        Raises
        ------
        SettingsError
            When `start` is negative, or `size` below 1.
        """
        _check_span(start, stop)
        if size < 1:
            raise SettingsError(f"a batch must have at least 1 frame, not {size}")
        return self._batches(int(start), int(stop), min(size, FRAMES_TOGETHER))

    def labels(self, start: int, stop: int) -> Tensor:
        """Return the labels of the frames from `start` up to `stop` without making them, (stop - start, 10) bool.

        A third of the work: labels follow from what is expected, not from what is counted.

        Raises
        ------
        SettingsError
            As `batches`.
        """
        return self.all_labels(start, stop)[:, : len(LABELS)]

    def all_labels(self, start: int, stop: int) -> Tensor:
        """Return the same with the further labels, (stop - start, 18) bool, in the order of `ALL_LABELS`.

        Raises
        ------
        SettingsError
            As `batches`.
        """
        _check_span(start, stop)
        parts = [torch.zeros(0, len(ALL_LABELS), dtype=torch.bool)]
        for number, first, end in self._together(start, stop, FRAMES_TOGETHER):
            with torch.no_grad():
                scene = Scene(self.seed, self._experiment(number), np.arange(first, end), self.settings)
                parts.append(scene.labels())
        return torch.cat(parts)

    def _batches(self, start: int, stop: int, size: int) -> Iterator[SimulatedBatch]:
        for number, first, end in self._together(start, stop, size):
            with torch.no_grad():  # what it yields may be trained on
                batch = self._batch(self._experiment(number), first, end)
            yield batch

    def _together(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield (experiment, first frame, last frame + 1) of what is made at once."""
        share = self.settings.frames_per_experiment
        while start < stop:
            number = start // share
            end = min(stop, start + size, (number + 1) * share)
            yield number, start, end
            start = end

    def _experiment(self, number: int) -> Experiment:
        return self._experiments.get_or_make(
            number, lambda: draw_experiment(self.seed, number, self.settings).to(self.device)
        )

    def _batch(self, experiment: Experiment, start: int, stop: int) -> SimulatedBatch:
        scene = Scene(self.seed, experiment, np.arange(start, stop), self.settings)
        return SimulatedBatch(
            first=start,
            pixels=self._exposed(scene),
            all_labels=scene.labels(),
            geometry=experiment.raster.geometry,
            experiment=experiment.described(),
            records=(*scene.drawn.records, *scene.around.drawn.records),
        )

    def _exposed(self, scene: Scene) -> Tensor:
        """Return the counts of the frames, (n, H, W)."""
        experiment, around = scene.experiment, scene.around
        raster, count = experiment.raster, len(scene.indices)
        valid = raster.valid.to(self.device)
        depth = raster.depth * valid
        whole = self.settings.raster == DETECTOR
        integers = whole and self.settings.whole_counts
        pixels = torch.empty(
            count,
            *raster.geometry.shape,
            dtype=torch.int32 if integers else torch.float32,
            device=self.device,
        )
        images = SceneImages(scene)
        uniform = Draws(self.seed, Stream.PIXELS, scene.indices, 1).uniform()
        seeds = (uniform * 2.0**53).astype(np.int64).tolist()
        together = 1 if whole else FRAMES_AT_A_TIME if self.device.type == "cpu" else count
        saturation, readout = float(experiment.detector.saturation), experiment.circumstances.readout
        for first in range(0, count, together):
            frames = slice(first, min(first + together, count))
            expected = images.of(np.arange(count)[frames], seeds[frames]).clamp_(0.0, saturation)
            counts = poisson(expected.mul_(depth), seeds[frames]).div_(raster.depth)
            for image, position in zip(counts, range(count)[frames], strict=True):
                if around.zingers[position]:
                    beamline.add_zingers(
                        image,
                        count=int(around.zingers[position]),
                        brightness=float(around.brightness[position]),
                        seed=seeds[position],
                    )
                    image.mul_(valid)
            if raster.hot is not None:
                counts.add_(torch.floor(raster.hot) / raster.depth).mul_(valid)
            counts.clamp_(max=saturation)
            pixels[frames] = (
                counts if readout == Readout() else readout.values(counts, raster.response).mul_(valid)
            )
        return pixels


def _check_span(start: int, stop: int) -> None:
    if start < 0:
        raise SettingsError(f"frames are counted from 0; there is no frame {start}")
    if stop > MOST_FRAMES:
        raise SettingsError(f"there is no frame {stop - 1}: the last of a seed is {MOST_FRAMES - 1}")
