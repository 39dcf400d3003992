"""What is where in a dataset of simulated frames, and in its parts; docs/simulate.md draws it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.simulation import SimulatedBatch

try:
    import h5py
    import hdf5plugin
except ImportError as error:
    raise MissingExtraError(error.name or "h5py", "files") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS, LABEL_TABLE, FURTHER_TABLE = "entry/data/pixels", "entry/labels", "entry/further_labels"
COMPONENTS, EXPERIMENT_OF = "entry/components", "entry/experiment_of_frame"
EXPERIMENTS = "entry/experiments"
NUMBER, DESCRIPTION = f"{EXPERIMENTS}/number", f"{EXPERIMENTS}/description"
CENTER_X, CENTER_Y, MASKED = (f"{EXPERIMENTS}/{name}" for name in ("center_x", "center_y", "masked"))
MASK_OF_FORMAT_1 = f"{EXPERIMENTS}/mask"
"""1 = valid, compressed by Bitshuffle."""
FRAME_TABLES = (LABEL_TABLE, FURTHER_TABLE, COMPONENTS, EXPERIMENT_OF)
EXPERIMENT_TABLES = (NUMBER, CENTER_X, CENTER_Y, MASKED, DESCRIPTION)

TEXTS_PER_CHUNK = 64
LIBRARY_VERSIONS = ("v110", "v110")
"""Fixed, so that the same content makes the same bytes with every HDF5 from 1.10 on."""
INDEX_BYTES = 256
"""Room for a frame's entries in the indices of chunks, generously."""
FIXED_BYTES = 2**20
"""Room for all that does not grow with the frames, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """What must be known of the parts before they are joined."""

    identity: str
    dtype: np.dtype[Any]
    """Of the pixels."""
    component_bytes: int
    """Longest text of a frame."""
    description_bytes: int
    """Longest text of an experiment."""
    size: int
    """Bytes."""


def new_part(batches: Iterator[SimulatedBatch], first: int, stop: int, *, identity: str) -> bytes:
    """Return the frames from `first` up to `stop`, all of one shape, as an HDF5 file."""
    # In memory: HDF5 ends the process with a segmentation fault where a disk is full.
    with h5py.File("part", "w", driver="core", backing_store=False, libver=LIBRARY_VERSIONS) as file:
        _fill_part(file, batches, first, stop)
        file.attrs["identity"] = identity
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


def _fill_part(file: Any, batches: Iterator[SimulatedBatch], first: int, stop: int) -> None:
    made: list[tuple[NDArray[np.bool_], int]] = []
    components: list[bytes] = []
    experiments: dict[int, SimulatedBatch] = {}
    pixels = None
    for batch in batches:
        values = batch.pixels.cpu().numpy()
        if pixels is None:
            pixels = _new_pixels(file, stop - first, values.shape[1:], values.dtype)
        pixels[batch.first - first : batch.first - first + len(batch)] = values
        number = int(batch.experiment["number"])
        made.append((batch.all_labels.numpy(), number))
        components += [_text(row) for row in batch.components]
        experiments.setdefault(number, batch)
    descriptions = [_text(batch.experiment) for batch in experiments.values()]
    tables = _new_tables(
        file,
        frames=stop - first,
        experiments=len(experiments),
        shape=values.shape[1:],
        component_bytes=max(map(len, components)),
        description_bytes=max(map(len, descriptions)),
    )
    labels = np.concatenate([labels for labels, _ in made])
    tables[LABEL_TABLE][:], tables[FURTHER_TABLE][:] = np.split(labels, [len(LABELS)], axis=1)
    tables[COMPONENTS][:] = np.array(components, dtype=tables[COMPONENTS].dtype)
    tables[EXPERIMENT_OF][:] = np.concatenate([np.full(len(labels), number) for labels, number in made])
    for row, (number, batch) in enumerate(experiments.items()):
        geometry = batch.geometry
        tables[NUMBER][row] = number
        tables[CENTER_X][row] = geometry.center_x
        tables[CENTER_Y][row] = geometry.center_y
        tables[MASKED][row] = 0 if geometry.mask is None else ~geometry.mask
    tables[DESCRIPTION][:] = np.array(descriptions, dtype=tables[DESCRIPTION].dtype)


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    with h5py.File(h5py.h5f.open_file_image(content)) as file:
        yield file


def part_facts(content: bytes) -> PartFacts:
    """Return what must be known of a part."""
    with _opened(content) as part:
        return PartFacts(
            identity=str(part.attrs["identity"]),
            dtype=part[PIXELS].dtype,
            component_bytes=part[COMPONENTS].dtype.itemsize,
            description_bytes=part[DESCRIPTION].dtype.itemsize,
            size=len(content),
        )


def empty_file() -> bytes:
    """Return an HDF5 file with nothing in it."""
    with h5py.File("empty", "w", driver="core", backing_store=False, libver=LIBRARY_VERSIONS) as file:
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


def largest_size(facts: Sequence[PartFacts], frames: int) -> int:
    """Return bytes that a dataset does not exceed."""
    return sum(part.size for part in facts) + frames * INDEX_BYTES + FIXED_BYTES


class JoinedFile:
    """A dataset that parts are copied into, one after the other: pixels stay compressed as they are.

    Parameters
    ----------
    file
        Open for writing, empty.
    facts
        Of all its parts.
    frames, experiments
        How many there will be.
    shape
        Of the frames.
    """

    def __init__(
        self, file: Any, facts: Sequence[PartFacts], *, frames: int, experiments: int, shape: tuple[int, int]
    ) -> None:
        self._file = file
        self._pixels = _new_pixels(file, frames, shape, facts[0].dtype)
        self._tables = _new_tables(
            file,
            frames=frames,
            experiments=experiments,
            shape=shape,
            component_bytes=max(part.component_bytes for part in facts),
            description_bytes=max(part.description_bytes for part in facts),
        )

    def add(self, content: bytes, first: int, stop: int) -> None:
        """Copy the part of the frames from `first` up to `stop`."""
        with _opened(content) as part:
            for frame in range(stop - first):
                skipped, chunk = part[PIXELS].id.read_direct_chunk((frame, 0, 0))
                self._pixels.id.write_direct_chunk((first + frame, 0, 0), chunk, skipped)
            for name in FRAME_TABLES:
                self._tables[name][first:stop] = part[name][()]
            # Experiments are counted from 0, and so are their rows.
            numbers = part[NUMBER][()]
            for name in EXPERIMENT_TABLES:
                self._tables[name][numbers[0] : numbers[-1] + 1] = part[name][()]

    def describe(self, **attributes: str | int) -> None:
        """Write what holds for the whole dataset."""
        self._file.attrs["default"] = "entry"
        for name, value in attributes.items():
            self._file.attrs[name] = value


@contextmanager
def open_for_joining(path: Path) -> Iterator[Any]:
    """Open a file, made by `empty_file`, that parts are to be copied into."""
    with h5py.File(path, "r+", libver=LIBRARY_VERSIONS) as file:
        yield file


def existing_identity(path: Path) -> tuple[str, int] | None:
    """Return identity and count of a finished dataset; None: the file is none."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["identity"]), int(file.attrs["count"])
    except (OSError, KeyError, ValueError, TypeError):
        return None


def masked_in(file: Any, row: int) -> NDArray[np.bool_]:
    """Return the mask of an experiment of an open dataset, of this format or an older one; True = masked."""
    if MASKED in file:
        return np.asarray(file[MASKED][row] != 0)
    return np.asarray(file[MASK_OF_FORMAT_1][row] == 0)


def label_ratios(path: Path) -> dict[str, float]:
    """Return the share of positive frames of each label in a dataset, in the order of `ALL_LABELS`."""
    with h5py.File(path, "r") as file:
        shares = [share for table in (LABEL_TABLE, FURTHER_TABLE) for share in file[table][()].mean(axis=0)]
    return dict(zip(ALL_LABELS, map(float, shares), strict=True))


def _new_pixels(file: Any, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    dataset = file.create_dataset(
        PIXELS, shape=(count, *shape), dtype=dtype, chunks=(1, *shape), **hdf5plugin.Bitshuffle()
    )
    dataset.attrs["units"] = "counts a detector pixel"
    file["entry"].attrs["NX_class"] = "NXentry"
    file["entry"].attrs["default"] = "data"
    file["entry/data"].attrs["NX_class"] = "NXdata"
    file["entry/data"].attrs["signal"] = "pixels"
    return dataset


def _new_tables(
    file: Any,
    *,
    frames: int,
    experiments: int,
    shape: tuple[int, ...],
    component_bytes: int,
    description_bytes: int,
) -> dict[str, Any]:
    """Make all but the pixels. Texts have one length: others lie about a file in no fixed order."""
    table: Callable[..., Any] = file.create_dataset

    def texts(name: str, rows: int, length: int) -> Any:
        kind = h5py.string_dtype("utf-8", length)
        chunks = (min(rows, TEXTS_PER_CHUNK),)
        return table(name, shape=(rows,), dtype=kind, chunks=chunks, compression="gzip")

    def yes_or_no(name: str, labels: Sequence[str]) -> Any:
        told = table(name, shape=(frames, len(labels)), dtype=np.uint8)
        told.attrs["names"] = list(labels)
        return told

    return {
        LABEL_TABLE: yes_or_no(LABEL_TABLE, LABELS),
        FURTHER_TABLE: yes_or_no(FURTHER_TABLE, FURTHER_LABELS),
        COMPONENTS: texts(COMPONENTS, frames, component_bytes),
        EXPERIMENT_OF: table(EXPERIMENT_OF, shape=(frames,), dtype=np.int64),
        NUMBER: table(NUMBER, shape=(experiments,), dtype=np.int64),
        CENTER_X: table(CENTER_X, shape=(experiments,), dtype=np.float64),
        CENTER_Y: table(CENTER_Y, shape=(experiments,), dtype=np.float64),
        MASKED: table(
            MASKED, shape=(experiments, *shape), dtype=np.uint8, chunks=(1, *shape), compression="gzip"
        ),
        DESCRIPTION: texts(DESCRIPTION, experiments, description_bytes),
    }
