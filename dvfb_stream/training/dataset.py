"""Simulated frames as the networks are shown them: computed once and kept, or new ones for every epoch of a fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.process_pool import process_pool
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.identity import as_text, difference, identity_of
from dvfb_stream.training.examples import Examples, by_geometry, encode
from dvfb_stream.view import FINER, VIEW_SIZE

FRAMES_PER_BLOCK = 100
"""Made and stored at a time: two experiments, hence two estimators."""

FRAMES_PER_EXPERIMENT = 50
"""Frames that share centre and mask. Half the simulator's default: twice the geometries to learn from, at the price
of twice the estimators."""


def default_simulation() -> SimulationSettings:
    """Return the settings that training frames are made with."""
    return SimulationSettings(frames_per_experiment=FRAMES_PER_EXPERIMENT)


def beamline_simulation() -> SimulationSettings:
    """Return the settings that training frames of real beamlines are made with: as finely as rings are measured."""
    return SimulationSettings.real_beamlines(
        frames_per_experiment=FRAMES_PER_EXPERIMENT, size=FINER * VIEW_SIZE
    )


@dataclass(frozen=True, kw_only=True)
class SimulatedDataset:
    """What a folder of simulated examples follows from."""

    seed: int
    """Of the simulator."""
    count: int
    """Frames, at least 1; whole blocks are made."""
    start: int = 0
    """Index of the first frame, a multiple of `FRAMES_PER_BLOCK`."""
    fbt: FourierBesselSettings = field(default_factory=FourierBesselSettings)
    simulation: SimulationSettings = field(default_factory=default_simulation)
    labels: tuple[str, ...] = LABELS
    """What of the labels is given to a network: the first ones of `ALL_LABELS`. All are kept."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SettingsError(f"at least 1 frame must be simulated, not {self.count}")
        if self.start % FRAMES_PER_BLOCK or self.start < 0:
            raise SettingsError(f"the first frame must be a multiple of {FRAMES_PER_BLOCK}, not {self.start}")
        sizes = (VIEW_SIZE, FINER * VIEW_SIZE)
        if self.simulation.raster != "view" or self.simulation.size not in sizes:
            raise SettingsError(
                f"networks are trained on views of {sizes[0]} pixels or the raster of {sizes[1]} beneath them, "
                f"not on the raster {self.simulation.raster} of size {self.simulation.size}"
            )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // FRAMES_PER_BLOCK)

    def origin(self) -> str:
        """Describe what the examples follow from, on one line; the same for the same."""
        identity = identity_of(Simulator(self.seed, settings=self.simulation))
        return as_text(
            {**identity, "start": self.start, "fbt": self.fbt.as_dict(), "rings": [len(CHANNELS), BINS]}
        )

    def _arrays(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        rows = self.blocks * FRAMES_PER_BLOCK
        return {
            "images": ((rows, VIEW_SIZE, VIEW_SIZE), np.float16),
            "masks": ((rows, VIEW_SIZE, VIEW_SIZE // 8), np.uint8),
            "coefficients": ((rows, self.fbt.n_radial, len(self.fbt.orders)), np.complex64),
            "rings": ((rows, len(CHANNELS), BINS), np.float16),
            "labels": ((rows, len(ALL_LABELS)), np.bool_),
            "taken": ((rows,), np.bool_),
        }

    def _folder(self, folder: Path) -> None:
        """Lay out a new folder, or see that the one there is of the same origin."""
        description = folder / "dataset.json"
        if description.exists():
            found = description.read_text()
            if found != self.origin():
                raise SettingsError(
                    f"{folder} was simulated with {difference(found, self.origin())}; "
                    "choose another folder or delete it"
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name, (shape, kind) in self._arrays().items():
            open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape).flush()
        # One file a block, so that processes need not share one.
        (folder / "made").mkdir(exist_ok=True)
        partial = folder / "dataset.partial"
        partial.write_text(self.origin())
        partial.rename(description)


def build(
    folder: Path,
    dataset: SimulatedDataset,
    *,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Return simulated examples, simulating only the blocks that `folder` does not have yet.

    Parameters
    ----------
    folder
        Where arrays are kept, 0.14 MB a frame; one folder a dataset. A larger `count` than it was laid out for is
        refused, a smaller one reads its first blocks.
    dataset
        What to simulate.
    processes
        Simulating at a time, a thread each.
    report
        Called with blocks done and blocks in all.

    Raises
    ------
    SettingsError
        When `folder` holds another dataset, or arrays that are too short or damaged.
    """
    missing = _missing(folder, dataset)
    done = dataset.blocks - len(missing)
    report(done, dataset.blocks)
    if missing:
        with process_pool(processes) as pool:
            for finished, _ in enumerate(pool.map(_make_block, missing), start=1):
                report(done + finished, dataset.blocks)
    return _read(folder, dataset)


def begin(folder: Path, dataset: SimulatedDataset, pool: Executor) -> Callable[[], Examples]:
    """Have the blocks that `folder` does not have yet simulated; what is returned waits for them, then is as `build`.

    Raises
    ------
    SettingsError
        As `build`.
    """
    making: list[Future[None]] = [pool.submit(_make_block, task) for task in _missing(folder, dataset)]

    def wait() -> Examples:
        for block in making:
            block.result()
        return _read(folder, dataset)

    return wait


def _missing(folder: Path, dataset: SimulatedDataset) -> list[tuple[Path, SimulatedDataset, int]]:
    dataset._folder(folder)
    _opened(folder, dataset)  # refused now, not by a worker
    blocks = range(dataset.blocks)
    return [(folder, dataset, block) for block in blocks if not _marker(folder, block).exists()]


def _read(folder: Path, dataset: SimulatedDataset) -> Examples:
    arrays = _opened(folder, dataset)
    taken = np.asarray(arrays["taken"][: dataset.blocks * FRAMES_PER_BLOCK])
    return Examples(
        arrays["images"],
        arrays["masks"],
        arrays["coefficients"],
        arrays["rings"],
        np.asarray(arrays["labels"][:, : len(dataset.labels)]),
        np.flatnonzero(taken)[: dataset.count],
    )


def _marker(folder: Path, block: int) -> Path:
    return folder / "made" / f"{block:06d}"


def _opened(folder: Path, dataset: SimulatedDataset, mode: Any = "r") -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, (shape, kind) in dataset._arrays().items():
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode=mode)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{path} is damaged ({error}); delete {folder}, it will be simulated again"
            ) from error
        if array.dtype != kind or array.shape[1:] != shape[1:] or len(array) < shape[0]:
            raise SettingsError(
                f"{path} holds {array.dtype} of shape {array.shape}, but {kind.__name__} of {shape} is needed; "
                "choose another folder or delete it"
            )
        arrays[name] = array
    return arrays


def _make_block(task: tuple[Path, SimulatedDataset, int]) -> None:
    folder, dataset, block = task
    arrays = _opened(folder, dataset, "r+")
    simulator = Simulator(dataset.seed, settings=dataset.simulation)
    first = dataset.start + block * FRAMES_PER_BLOCK
    row = block * FRAMES_PER_BLOCK
    for geometry, pixels, labels in by_geometry(simulator, first, first + FRAMES_PER_BLOCK):
        rows = slice(row, row + len(pixels))
        row += len(pixels)
        encoded = encode(pixels, geometry, dataset.fbt)
        arrays["taken"][rows] = encoded is not None
        if encoded is not None:
            arrays["images"][rows] = encoded.images
            arrays["masks"][rows] = encoded.masks
            arrays["coefficients"][rows] = encoded.coefficients
            arrays["rings"][rows] = encoded.rings
            arrays["labels"][rows] = labels
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    _marker(folder, block).touch()


class EpochFrames(Protocol):
    """What a fit takes its frames from."""

    def __len__(self) -> int:
        """Frames an epoch, at least about."""

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1."""


class FreshFrames:
    """New frames from the simulator for every epoch, the next epoch's made while this one is fitted.

    Parameters
    ----------
    folder
        Room for two epochs' frames.
    dataset
        The first epoch's; later ones go on where it ends.
    epochs
        How many there are; nothing is made beyond the last.
    pool
        Where they are made. Who ends it ends what is being made for the next epoch.
    """

    def __init__(self, folder: Path, dataset: SimulatedDataset, *, epochs: int, pool: Executor) -> None:
        self._folder, self._dataset, self._epochs, self._pool = folder, dataset, epochs, pool
        self._next: tuple[int, Callable[[], Examples]] | None = None

    def __len__(self) -> int:
        return self._dataset.count

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1; those of earlier epochs are deleted."""
        ahead = self._next
        examples = (ahead[1] if ahead and ahead[0] == number else self._begin(number))()
        for old in self._folder.glob("epoch-*"):
            if old not in (self._place(number), self._place(number + 1)):
                shutil.rmtree(old)
        self._next = (number + 1, self._begin(number + 1)) if number < self._epochs else None
        return examples.in_memory()

    def _begin(self, number: int) -> Callable[[], Examples]:
        whole = self._dataset.blocks * FRAMES_PER_BLOCK
        start = self._dataset.start + (number - 1) * whole
        return begin(self._place(number), replace(self._dataset, start=start), self._pool)

    def _place(self, number: int) -> Path:
        return self._folder / f"epoch-{number:04d}"


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The same examples for every epoch."""

    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, number: int) -> Examples:
        """Return the examples, whatever the epoch."""
        return self.examples
