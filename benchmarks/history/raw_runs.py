"""Stored raw runs of all kinds of documents, and the value that each frame's row has to have."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from event_model import compose_run

SHAPE = (6, 8)
DATA_KEY = "image"
Documents = Iterator[tuple[str, dict[str, Any]]]


def value_of(number: int, frame: int) -> int:
    """Return the value of all pixels of a frame of the n-th run; no two of a thousand neighbours have the same."""
    return (number * 7 + frame) % 9973 + 1


def documents(number: int, frames: int, folder: Path) -> Documents:
    """Give the documents of the n-th run, whose kind goes by its number; its files are written to a folder."""
    kinds: tuple[Callable[[int, int, Path], Documents], ...] = (_by_stream_resources, _by_old_assets, _inline)
    return kinds[number % len(kinds)](number, frames, folder)


def _pixels(number: int, frames: int) -> np.ndarray:
    values = np.array([value_of(number, k) for k in range(frames)], np.int32)
    return np.broadcast_to(values[:, None, None], (frames, *SHAPE))


def _by_stream_resources(number: int, frames: int, folder: Path) -> Documents:
    path = folder / f"{number}.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=_pixels(number, frames), chunks=(1, *SHAPE))
    yield from stream_documents(path, frames, SHAPE, number)


def stream_documents(path: Path, frames: int, shape: tuple[int, int], number: int = 0) -> Documents:
    """Give the documents of a run whose frames lie in the dataset ``data`` of an HDF5 file."""
    run = compose_run(metadata={"scan_id": number + 1})
    key = {
        "source": "bench",
        "dtype": "array",
        "shape": [1, *shape],
        "dtype_numpy": "<i4",
        "external": "STREAM:",
    }
    uid = str(uuid.uuid4())
    descriptor = run.compose_descriptor(name="primary", data_keys={DATA_KEY: key}).descriptor_doc
    yield "start", run.start_doc
    yield "descriptor", descriptor
    yield (
        "stream_resource",
        {
            "uid": uid,
            "run_start": run.start_doc["uid"],
            "data_key": DATA_KEY,
            "uri": f"file://localhost{path}",
            "mimetype": "application/x-hdf5",
            "parameters": {"dataset": "data", "chunk_shape": [1, *shape]},
        },
    )
    yield (
        "stream_datum",
        {
            "uid": f"{uid}/0",
            "descriptor": descriptor["uid"],
            "stream_resource": uid,
            "indices": {"start": 0, "stop": frames},
            "seq_nums": {"start": 1, "stop": frames + 1},
        },
    )
    yield "stop", run.compose_stop()


def _by_old_assets(number: int, frames: int, folder: Path) -> Documents:
    run = compose_run(metadata={"scan_id": number + 1})
    resource = run.compose_resource(
        spec="NPY_SEQ", root=str(folder), resource_path=str(number), resource_kwargs={}
    )
    key = {
        "source": "bench",
        "dtype": "array",
        "shape": list(SHAPE),
        "dtype_numpy": "<i4",
        "external": "FILESTORE:",
    }
    descriptor = run.compose_descriptor(name="primary", data_keys={DATA_KEY: key})
    yield "start", run.start_doc
    yield "descriptor", descriptor.descriptor_doc
    yield "resource", resource.resource_doc
    for k, pixels in enumerate(_pixels(number, frames)):
        np.save(folder / f"{number}_{k}.npy", pixels)
        datum = resource.compose_datum(datum_kwargs={"index": k})
        yield "datum", datum
        yield (
            "event",
            descriptor.compose_event(
                data={DATA_KEY: datum["datum_id"]},
                timestamps={DATA_KEY: time.time()},
                filled={DATA_KEY: False},
            ),
        )
    yield "stop", run.compose_stop()


def _inline(number: int, frames: int, folder: Path) -> Documents:
    run = compose_run(metadata={"scan_id": number + 1})
    key = {"source": "bench", "dtype": "array", "shape": list(SHAPE), "dtype_numpy": "<i4"}
    descriptor = run.compose_descriptor(name="primary", data_keys={DATA_KEY: key})
    yield "start", run.start_doc
    yield "descriptor", descriptor.descriptor_doc
    for pixels in _pixels(number, frames):
        yield (
            "event",
            descriptor.compose_event(data={DATA_KEY: pixels.tolist()}, timestamps={DATA_KEY: time.time()}),
        )
    yield "stop", run.compose_stop()
