"""Simulated frames as the networks are shown them, computed once and kept in memory-mapped arrays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.identity import as_text, difference, identity_of
from dvfb_stream.training.encoding import Encoded, by_geometry, encode
from dvfb_stream.view import VIEW_SIZE

FRAMES_PER_BLOCK = 100
"""Made and stored at a time: two experiments, hence two plans."""

MEMORY_SHARE = 1 / 3
"""Of the machine's memory that examples may take."""

FRAMES_PER_EXPERIMENT = 50
"""Frames that share centre and mask. Half the simulator's default: twice the geometries to learn from, at the price
of twice the plans."""


def default_simulation() -> SimulationSettings:
    """Return the settings that training frames are made with."""
    return SimulationSettings(frames_per_experiment=FRAMES_PER_EXPERIMENT)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples ready for `AnnotationNetwork.prepare`, all on one device."""

    images: Tensor
    """(B, 256, 256) float32 views, 0..255, 0 where invalid."""
    masks: Tensor
    """(B, 256, 256) bool, True = valid."""
    coefficients: Tensor
    """(B, n_radial, n_orders) complex64."""
    labels: Tensor
    """(B, L) float32, 0 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled frames as the networks are shown them; the arrays may lie on disk."""

    images: NDArray[np.float16]
    """(M, 256, 256) views, 0..255, 0 where invalid."""
    masks: NDArray[np.uint8]
    """(M, 256, 32) valid pixels, eight to a byte along rows."""
    coefficients: NDArray[np.complex64]
    """(M, n_radial, n_orders)."""
    labels: NDArray[np.bool_]
    """(M, L); of simulated frames in the order of `LABELS`."""
    rows: NDArray[np.int64]
    """(N,) rows of the arrays that count; the others are frames that no annotator would take."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(N, L) labels of the rows that count."""
        return np.asarray(self.labels[self.rows], dtype=bool)

    def first(self, count: int) -> Examples:
        """Return the first `count` examples."""
        return Examples(self.images, self.masks, self.coefficients, self.labels, self.rows[:count])

    def after(self, count: int) -> Examples:
        """Return all but the first `count` examples."""
        return Examples(self.images, self.masks, self.coefficients, self.labels, self.rows[count:])

    def in_memory(self) -> Examples:
        """Return the examples read into memory, where a third of the machine's is enough for them.

        Frames are drawn at random: from a disk that is slow, and what the system
        caches of a file it may let go of.
        """
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        size = self.images.nbytes + self.masks.nbytes + self.coefficients.nbytes
        if size > machine * MEMORY_SHARE:
            return self
        return Examples(
            np.array(self.images),
            np.array(self.masks),
            np.array(self.coefficients),
            np.array(self.labels),
            self.rows,
        )

    def batch(self, which: NDArray[np.int64], device: str | torch.device = "cpu") -> Batch:
        """Return the examples at some places, 0 to len - 1, in that order."""
        rows = self.rows[which]
        images = torch.from_numpy(self.images[rows]).to(device).float()
        masks = torch.from_numpy(np.unpackbits(self.masks[rows], axis=-1)).to(device).bool()
        return Batch(
            images,
            masks,
            torch.from_numpy(self.coefficients[rows]).to(device),
            torch.from_numpy(self.labels[rows]).to(device).float(),
        )

    def batches(self, size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Yield all examples in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), device)


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

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SettingsError(f"at least 1 frame must be simulated, not {self.count}")
        if self.start % FRAMES_PER_BLOCK or self.start < 0:
            raise SettingsError(f"the first frame must be a multiple of {FRAMES_PER_BLOCK}, not {self.start}")
        if self.simulation.raster != "view" or self.simulation.size != VIEW_SIZE:
            raise SettingsError(
                f"networks are trained on views of {VIEW_SIZE} pixels, not on the raster {self.simulation.raster} "
                f"of size {self.simulation.size}"
            )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // FRAMES_PER_BLOCK)

    def origin(self) -> str:
        """Describe what the examples follow from, on one line; the same for the same."""
        identity = identity_of(Simulator(self.seed, settings=self.simulation))
        return as_text({**identity, "start": self.start, "fbt": self.fbt.as_dict()})

    def _arrays(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        rows = self.blocks * FRAMES_PER_BLOCK
        return {
            "images": ((rows, VIEW_SIZE, VIEW_SIZE), np.float16),
            "masks": ((rows, VIEW_SIZE, VIEW_SIZE // 8), np.uint8),
            "coefficients": ((rows, self.fbt.n_radial, len(self.fbt.orders)), np.complex64),
            "labels": ((rows, len(LABELS)), np.bool_),
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
    dataset._folder(folder)
    wanted = range(dataset.blocks)
    missing = [(folder, dataset, block) for block in wanted if not _marker(folder, block).exists()]
    done = dataset.blocks - len(missing)
    _opened(folder, dataset)  # refused now, not by a worker
    report(done, dataset.blocks)
    if missing:
        # Not forked: a forked child of a process that has used torch's threads can hang.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            for finished, _ in enumerate(pool.map(_make_block, missing), start=1):
                report(done + finished, dataset.blocks)
    arrays = _opened(folder, dataset)
    taken = np.asarray(arrays["taken"][: dataset.blocks * FRAMES_PER_BLOCK])
    return Examples(
        arrays["images"],
        arrays["masks"],
        arrays["coefficients"],
        np.asarray(arrays["labels"]),
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


def _one_thread() -> None:
    torch.set_num_threads(1)


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
            arrays["labels"][rows] = labels
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    _marker(folder, block).touch()


def join(folder: Path, parts: Callable[[], Sequence[tuple[Encoded, NDArray[np.bool_]]]]) -> Examples:
    """Return encoded parts as examples, kept in `folder` so that they are encoded once.

    Parameters
    ----------
    folder
        One a set of parts.
    parts
        Called where `folder` is not complete: what is shown of the frames of each geometry, and their labels.

    Raises
    ------
    SettingsError
        When no frame can be taken, or an array in `folder` is damaged.
    """
    names = ("images", "masks", "coefficients", "labels")
    complete = folder / "complete"
    if not complete.exists():
        made = parts()
        if not made:
            raise SettingsError("no frame of the dataset can be taken; check its beam centres and masks")
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            values = [labels if name == "labels" else getattr(encoded, name) for encoded, labels in made]
            array = open_memmap(
                folder / f"{name}.npy",
                mode="w+",
                dtype=values[0].dtype,
                shape=(sum(map(len, values)), *values[0].shape[1:]),
            )
            np.concatenate(values, out=array)
            array.flush()
        complete.touch()
    try:
        images, masks, coefficients, labels = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in names
        )
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} is damaged ({error}); delete it, it will be made again") from error
    return Examples(images, masks, coefficients, labels, np.arange(len(labels)))


class FreshFrames:
    """A stream from the simulator: new frames for every epoch, the next epoch's made while this one is fitted.

    Parameters
    ----------
    folder
        Room for two epochs' frames.
    dataset
        The first epoch's; later ones go on where it ends.
    processes
        Simulating at a time.
    """

    def __init__(self, folder: Path, dataset: SimulatedDataset, *, processes: int = 1) -> None:
        self._folder = folder
        self._dataset = dataset
        self._processes = processes
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._next: tuple[int, Future[None]] | None = None

    def __len__(self) -> int:
        return self._dataset.count

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1; those of earlier epochs are deleted."""
        if self._next is not None and self._next[0] == number:
            self._next[1].result()
        examples = build(self._place(number), self._of(number), processes=self._processes)
        for old in self._folder.glob("epoch-*"):
            if old not in (self._place(number), self._place(number + 1)):
                shutil.rmtree(old)
        self._next = (
            number + 1,
            self._pool.submit(_prefetch, self._place(number + 1), self._of(number + 1), self._processes),
        )
        return examples

    def close(self) -> None:
        """Stop making frames."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _place(self, number: int) -> Path:
        return self._folder / f"epoch-{number:04d}"

    def _of(self, number: int) -> SimulatedDataset:
        whole = self._dataset.blocks * FRAMES_PER_BLOCK
        return SimulatedDataset(
            seed=self._dataset.seed,
            count=self._dataset.count,
            start=self._dataset.start + (number - 1) * whole,
            fbt=self._dataset.fbt,
            simulation=self._dataset.simulation,
        )


def _prefetch(folder: Path, dataset: SimulatedDataset, processes: int) -> None:
    build(folder, dataset, processes=processes)


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The same examples for every epoch."""

    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, number: int) -> Examples:
        """Return the examples, whatever the epoch."""
        return self.examples

    def close(self) -> None:
        """Nothing is left open."""


def describe(dataset: SimulatedDataset) -> dict[str, Any]:
    """Return what a dataset follows from, JSON-ready, for cards and results."""
    described: dict[str, Any] = json.loads(dataset.origin())
    return {**described, "count": dataset.count}
