"""What a simulated detector exposes: frames drawn by the simulator, or frames recorded in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.files import Detector, open_frames
from dvfb_stream.frames import Geometry
from dvfb_stream.simulation import SimulationSettings, Simulator

FRAMES_PER_EXPERIMENT = 1_000
"""Frames that share one geometry: the rarest sample, one frame in twenty, then comes fifty times."""

DETECTOR_SETTINGS = SimulationSettings(
    raster="detector",
    detectors={
        "simulated_256": {
            "shape": [256, 256],
            "pixel_mm": 0.3,
            "module": [48, 120],
            "gap": [4, 2],
            "saturation": 1_048_574,
        }
    },
    frames_per_experiment=FRAMES_PER_EXPERIMENT,
    exposure=(30.0, 300.0),
    middle=1.0,
    wide_angle=0.0,
    tilted=0.0,
    grazing=0.0,
    sideways=0.0,
    window=0.0,
    diffuse_only=0.0,
    blank=0.0,
)
"""A detector with modules, the beam near its middle, exposed well: what a beamline looks like on a good day."""


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """One exposure."""

    pixels: NDArray[Any]
    """(rows, columns) counts; an array of its own, nobody writes to it again."""
    truth: tuple[str, ...] | None = None
    """The labels that are really visible, where a simulator knows them."""


class Exposures(Protocol):
    """An endless supply of exposures of one geometry and type. Not for several threads at once."""

    @property
    def geometry(self) -> Geometry:
        """Geometry of every exposure."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of every exposure's pixels."""
        ...

    def expose(self) -> Exposure:
        """Return the next exposure."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample by what its frames show, so that a scan over it is about something."""

    name: str
    shows: frozenset[str] = frozenset()
    """Labels that each of its frames has."""
    lacks: frozenset[str] = frozenset()
    """Labels that none of its frames has."""

    def may_show(self, labels: Iterable[str]) -> bool:
        """Whether a frame with exactly these labels may be of this sample."""
        visible = frozenset(labels)
        return self.shows <= visible and not self.lacks & visible


_FOLDS = frozenset({"two_fold", "four_fold", "six_fold"})

SAMPLES: tuple[Sample, ...] = (
    Sample(name="fibre", shows=frozenset({"two_fold"}), lacks=_FOLDS - {"two_fold"}),
    Sample(name="square lattice", shows=frozenset({"rings", "four_fold"}), lacks=_FOLDS - {"four_fold"}),
    Sample(name="powder", shows=frozenset({"rings"}), lacks=_FOLDS),
    Sample(name="solution", shows=frozenset({"halo"}), lacks=_FOLDS | {"rings"}),
)
"""Samples of the demo. No frame may be of two of them."""


class SimulatedExposures:
    """Exposures of one experiment of the simulator, in its order, from the first again after the last.

    Parameters
    ----------
    seed
        Seed of the simulator; it decides the geometry, too.
    sample
        Leave out frames that are not of this sample; None: whatever the simulator draws.

    Raises
    ------
    SettingsError
        When the seed is negative.
    """

    def __init__(self, seed: int = 0, *, sample: Sample | None = None) -> None:
        self._simulator = Simulator(seed, settings=DETECTOR_SETTINGS)
        self._sample = sample
        self._indices = cycle(range(FRAMES_PER_EXPERIMENT))
        first = self._simulator.frame(0)
        self.geometry = first.geometry
        self.dtype = first.pixels.dtype

    def expose(self) -> Exposure:
        """Return the next exposure.

        Raises
        ------
        SettingsError
            When no frame of the experiment is of the sample.
        """
        for _ in range(FRAMES_PER_EXPERIMENT):
            frame = self._simulator.frame(next(self._indices))
            if self._sample is None or self._sample.may_show(frame.labels):
                return Exposure(frame.pixels, truth=frame.labels)
        raise SettingsError(
            f"none of {FRAMES_PER_EXPERIMENT} frames of seed {self._simulator.seed} is of the sample "
            f"{self._sample}; take another seed"
        )


class RecordedExposures:
    """Exposures from detector files, in their order, from the first again after the last.

    Every frame is read once here, to be sure that a scan over them will not fail, and again when it is exposed:
    no more than one is in memory.

    Parameters
    ----------
    files
        As `dvfb_stream.files.open_frames` takes them.
    detector
        Its beam centre and masks.

    Raises
    ------
    FrameError
        When a file or a frame in it cannot be read, there is no frame at all, or two are of different shape.
    GeometryError
        When the detector description does not fit them.
    """

    def __init__(self, files: Sequence[str], detector: Detector) -> None:
        self._frames: list[tuple[str, int]] = []
        shape: tuple[int, ...] | None = None
        types: set[np.dtype[Any]] = set()
        for file in files:
            with open_frames(file) as frames:
                for index in range(frames.count):
                    pixels = frames.read(index)
                    if shape is not None and pixels.shape != shape:
                        raise FrameError(
                            f"{file} has frames of shape {pixels.shape}, but those of {files[0]} have {shape}; "
                            "a scan has one detector: give files of one shape"
                        )
                    shape = pixels.shape
                    types.add(pixels.dtype)
                    self._frames.append((file, index))
        if shape is None:
            raise FrameError("there is no frame to expose; name at least one file with frames")
        self.geometry = detector.geometry((shape[0], shape[1]))
        self.dtype = np.result_type(*types)
        self._next = cycle(self._frames)

    def __len__(self) -> int:
        """Return the number of different exposures."""
        return len(self._frames)

    def expose(self) -> Exposure:
        """Return the next exposure.

        Raises
        ------
        FrameError
            When its file has gone or changed since.
        """
        file, index = next(self._next)
        with open_frames(file) as frames:
            return Exposure(frames.read(index).astype(self.dtype, copy=False))
