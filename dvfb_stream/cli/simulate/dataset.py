"""A dataset of simulated frames in one HDF5 file, written in parts so that nothing done is ever lost."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.cli.output_files import check_writable
from dvfb_stream.cli.simulate.identity import FORMAT, as_text, difference, identity_of
from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import SimulatedBatch, Simulator
from dvfb_stream.simulation.settings import DETECTOR

try:
    import h5py
    import hdf5plugin
except ImportError as error:
    raise MissingExtraError(error.name or "h5py", "files") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES_PER_PART = 256
"""What an interruption costs at most: a second or two of views. Parts begin at multiples of it."""

PIXELS, LABEL_TABLE = "entry/data/pixels", "entry/labels"
COMPONENTS, EXPERIMENT_OF = "entry/components", "entry/experiment_of_frame"
EXPERIMENTS = "entry/experiments"
DESCRIPTIONS = f"{EXPERIMENTS}/description"
EXPERIMENT_TABLES = tuple(
    f"{EXPERIMENTS}/{name}" for name in ("number", "center_x", "center_y", "mask", "description")
)
TEXTS_PER_CHUNK = 64

Report = Callable[[int], None]
"""Called with the frames done."""


class DatasetWriter:
    """Makes a dataset of the first `count` frames of a simulator.

    Frames are written in parts to ``PATH.parts``, and parts are put together when all are there. Each file appears
    under its name when it is complete, so that whoever is killed at any moment and started again goes on with the
    parts that are there and ends with the same bytes.

    Parameters
    ----------
    path
        Where the dataset goes.
    simulator
        Makes the frames.
    count
        Frames, at least 1.

    Raises
    ------
    SettingsError
        When there is something else under the name already, parts of another dataset lie beside it, or nothing can
        be written there.
    """

    def __init__(self, path: Path, simulator: Simulator, count: int) -> None:
        self.path = path
        self.parts = path.with_name(path.name + ".parts")
        self._simulator = simulator
        self._count = count
        self._identity = as_text(identity_of(simulator))
        _refuse_different_shapes(simulator)
        check_writable(path.parent, f"output {path}")
        self.complete = self._check_existing()

    def _check_existing(self) -> bool:
        if not self.path.exists():
            return False
        try:
            with h5py.File(self.path, "r") as file:
                found, count = str(file.attrs.get("identity", "")), int(file.attrs.get("count", 0))
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{self.path} exists and is no dataset of simulated frames; give another name"
            ) from error
        if found == self._identity and count == self._count:
            return True
        reason = difference(found, self._identity) if found != self._identity else f"{count} frames"
        raise SettingsError(
            f"{self.path} exists and is another dataset ({reason}); give another name or delete it"
        )

    def write(self, report: Report) -> int:
        """Make what is missing, and return how many frames were there already.

        Raises
        ------
        SettingsError
            When another process is at it, or parts are of another dataset.
        OSError
            When the disk is full or cannot be written to; what is there stays.
        """
        with self._locked():
            kept = 0
            spans = list(self._spans())
            for first, stop in spans:
                part = self._part(first, stop)
                if self._is_whole(part, stop - first):
                    kept += stop - first
                    report(stop)
                    continue
                _write_whole(part, partial(self._fill, first=first, stop=stop, report=report))
            _write_whole(self.path, lambda file: self._join(file, spans))
            shutil.rmtree(self.parts)
        return kept

    def _spans(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self._count, FRAMES_PER_PART):
            yield first, min(first + FRAMES_PER_PART, self._count)

    def _part(self, first: int, stop: int) -> Path:
        return self.parts / f"{first:012d}-{stop:012d}.h5"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.parts.mkdir(exist_ok=True)
        with (self.parts / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SettingsError(
                    f"another process is simulating {self.path}; wait for it, or give another name"
                ) from error
            described = self.parts / "identity.json"
            if described.exists():
                found = described.read_text(encoding="utf-8")
                if found != self._identity:
                    raise SettingsError(
                        f"{self.parts} holds parts of another dataset ({difference(found, self._identity)}); "
                        "finish that one as it was begun, or delete the folder"
                    )
            else:
                unfinished = described.with_suffix(".partial")
                unfinished.write_text(self._identity, encoding="utf-8")
                os.replace(unfinished, described)
            yield

    def _is_whole(self, part: Path, count: int) -> bool:
        """Return whether a part is there and can be read to its last byte; a damaged one is made again."""
        if not part.exists():
            return False
        try:
            with h5py.File(part, "r") as file:
                if file.attrs["identity"] != self._identity or len(file[PIXELS]) != count:
                    return False
                for name in (LABEL_TABLE, COMPONENTS, EXPERIMENT_OF):
                    file[name][()]
                for name in file[EXPERIMENTS]:
                    file[EXPERIMENTS][name][()]
                # Every chunk is decompressed once: damage in the middle of a part would not show otherwise.
                for frame in range(count):
                    file[PIXELS][frame]
        except (OSError, KeyError, ValueError, RuntimeError):
            return False
        return True

    def _fill(self, file: Any, *, first: int, stop: int, report: Report) -> None:
        file.attrs["identity"] = self._identity
        batches: list[SimulatedBatch] = []
        pixels = None
        for batch in self._simulator.batches(first, stop):
            values = batch.pixels.cpu().numpy()
            if pixels is None:
                pixels = _pixels(file, stop - first, values.shape[1:], values.dtype)
            if values.shape[1:] != pixels.shape[1:]:
                raise _shapes_differ(values.shape[1:], pixels.shape[1:])
            pixels[batch.first - first : batch.first - first + len(batch)] = values
            batches.append(batch)
            report(batch.first + len(batch))
        components = [json.dumps(row).encode() for batch in batches for row in batch.components]
        experiments = {int(batch.experiment["number"]): batch for batch in batches}
        described = [json.dumps(batch.experiment).encode() for batch in experiments.values()]
        tables = _tables(
            file,
            frames=stop - first,
            experiments=len(experiments),
            shape=values.shape[1:],
            longest=max(len(text) for text in components),
            text_of_experiment=max(len(text) for text in described),
        )
        tables[LABEL_TABLE][:] = np.concatenate([batch.labels.numpy() for batch in batches])
        tables[COMPONENTS][:] = np.array(components)
        tables[EXPERIMENT_OF][:] = np.repeat(
            [int(batch.experiment["number"]) for batch in batches], [len(batch) for batch in batches]
        )
        for row, (number, batch) in enumerate(experiments.items()):
            geometry = batch.geometry
            tables[f"{EXPERIMENTS}/number"][row] = number
            tables[f"{EXPERIMENTS}/center_x"][row] = geometry.center_x
            tables[f"{EXPERIMENTS}/center_y"][row] = geometry.center_y
            tables[f"{EXPERIMENTS}/mask"][row] = 1 if geometry.mask is None else geometry.mask
            tables[DESCRIPTIONS][row] = described[row]

    def _join(self, file: Any, spans: Sequence[tuple[int, int]]) -> None:
        """Copy the parts one after the other: no more than one is open, and pixels stay compressed as they are."""
        longest, text_of_experiment = 1, 1
        for span in spans:
            with h5py.File(self._part(*span), "r") as part:
                longest = max(longest, part[COMPONENTS].dtype.itemsize)
                text_of_experiment = max(text_of_experiment, part[DESCRIPTIONS].dtype.itemsize)
                shape, dtype = part[PIXELS].shape[1:], part[PIXELS].dtype
        pixels = _pixels(file, self._count, shape, dtype)
        tables = _tables(
            file,
            frames=self._count,
            experiments=-(-self._count // self._simulator.settings.frames_per_experiment),
            shape=shape,
            longest=longest,
            text_of_experiment=text_of_experiment,
        )
        for first, stop in spans:
            with h5py.File(self._part(first, stop), "r") as part:
                if part[PIXELS].shape[1:] != shape:
                    raise _shapes_differ(part[PIXELS].shape[1:], shape)
                for frame in range(stop - first):
                    skipped, chunk = part[PIXELS].id.read_direct_chunk((frame, 0, 0))
                    pixels.id.write_direct_chunk((first + frame, 0, 0), chunk, skipped)
                for name in (LABEL_TABLE, COMPONENTS, EXPERIMENT_OF):
                    tables[name][first:stop] = part[name][()]
                # Experiments are counted from 0, and so are their rows.
                numbers = part[f"{EXPERIMENTS}/number"][()]
                for name in EXPERIMENT_TABLES:
                    for row, number in enumerate(numbers):
                        tables[name][int(number)] = part[name][row]
        file.attrs["identity"] = self._identity
        file.attrs["count"] = self._count
        file.attrs["seed"] = str(self._simulator.seed)  # as text: seeds may exceed 64 bits
        file.attrs["settings"] = json.dumps(self._simulator.settings.as_dict(), sort_keys=True)
        file.attrs["format"] = FORMAT
        file.attrs["default"] = "entry"


def _refuse_different_shapes(simulator: Simulator) -> None:
    """Refuse settings whose frames cannot be in one dataset, before hours of work."""
    settings = simulator.settings
    if settings.raster != DETECTOR:
        return
    shapes: list[tuple[int, ...]] = []
    for model, weight in settings.detector_models():
        if weight > 0:
            shapes += [model.shape] if settings.sideways < 1 else []
            shapes += [model.shape[::-1]] if settings.sideways > 0 else []
    for shape in shapes[1:]:
        if shape != shapes[0]:
            raise _shapes_differ(shapes[0], shape)


def _write_whole(path: Path, fill: Callable[[Any], None]) -> None:
    """Write a file that appears under its name when it is complete and on the disk."""
    unfinished = path.with_name(path.name + ".partial")
    with h5py.File(unfinished, "w", libver=("v110", "v110")) as file:
        fill(file)
    with unfinished.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(unfinished, path)


def _pixels(file: Any, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    dataset = file.create_dataset(
        PIXELS, shape=(count, *shape), dtype=dtype, chunks=(1, *shape), **hdf5plugin.Bitshuffle()
    )
    dataset.attrs["units"] = "counts a detector pixel"
    file["entry"].attrs["NX_class"] = "NXentry"
    file["entry"].attrs["default"] = "data"
    file["entry/data"].attrs["NX_class"] = "NXdata"
    file["entry/data"].attrs["signal"] = "pixels"
    return dataset


def _tables(
    file: Any,
    *,
    frames: int,
    experiments: int,
    shape: tuple[int, ...],
    longest: int,
    text_of_experiment: int,
) -> dict[str, Any]:
    """Make all but the pixels. Texts have one length: others lie about a file in no fixed order."""

    def table(name: str, rows: int, kind: Any, **options: Any) -> Any:
        return file.create_dataset(name, shape=(rows,), dtype=kind, **options)

    def texts(name: str, rows: int, length: int) -> Any:
        return table(
            name,
            rows,
            f"S{length}",
            chunks=(min(rows, TEXTS_PER_CHUNK),),
            compression="gzip",
        )

    labels = file.create_dataset(LABEL_TABLE, shape=(frames, len(LABELS)), dtype=np.uint8)
    labels.attrs["names"] = list(LABELS)
    mask = file.create_dataset(
        f"{EXPERIMENTS}/mask",
        shape=(experiments, *shape),
        dtype=np.uint8,
        chunks=(1, *shape),
        **hdf5plugin.Bitshuffle(),
    )
    return {
        LABEL_TABLE: labels,
        COMPONENTS: texts(COMPONENTS, frames, longest),
        EXPERIMENT_OF: table(EXPERIMENT_OF, frames, np.int64),
        f"{EXPERIMENTS}/number": table(f"{EXPERIMENTS}/number", experiments, np.int64),
        f"{EXPERIMENTS}/center_x": table(f"{EXPERIMENTS}/center_x", experiments, np.float64),
        f"{EXPERIMENTS}/center_y": table(f"{EXPERIMENTS}/center_y", experiments, np.float64),
        f"{EXPERIMENTS}/mask": mask,
        DESCRIPTIONS: texts(DESCRIPTIONS, experiments, text_of_experiment),
    }


def _shapes_differ(shape: tuple[int, ...], others: tuple[int, ...]) -> SettingsError:
    return SettingsError(
        f"some frames have {shape[0]} x {shape[1]} pixels and others {others[0]} x {others[1]}; those of one "
        'dataset are of one shape: choose one detector (and sideways = 0) in the settings, or raster = "view"'
    )


def label_ratios(path: Path) -> NDArray[np.float64]:
    """Return the share of positive frames of each label in a dataset, (10,)."""
    with h5py.File(path, "r") as file:
        ratios: NDArray[np.float64] = file[LABEL_TABLE][()].mean(axis=0)
    return ratios
