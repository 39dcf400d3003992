"""Documents of runs whose frames lie in events or in an HDF5 file, and a detector that emits them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from event_model import compose_run

from dvfb_stream import Geometry

SHAPE = (1043, 981)
GEOMETRY = Geometry(shape=SHAPE, center_x=302.7, center_y=530.9)
KEY = {"source": "bench", "dtype": "array", "shape": [1, *SHAPE], "dtype_numpy": "<i4"}
FRAMES_A_FILE = 200
Documents = Iterator[tuple[str, dict[str, Any]]]


def exposures(count: int) -> np.ndarray:
    """Counts of rings on a falling background, a few different frames."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(x - GEOMETRY.center_x, y - GEOMETRY.center_y)
    rng = np.random.default_rng(0)
    mean = [
        500 / (1 + (r / 30) ** 2) + 50 * np.exp(-(((r - 150 - 9 * i) / 12) ** 2)) + 1 for i in range(count)
    ]
    return rng.poisson(np.stack(mean)).astype(np.int32)


def inline_run(frames: np.ndarray, count: int) -> Documents:
    """A run whose events carry their frames."""
    run = compose_run()
    key = KEY | {"shape": [1, *frames.shape[1:]], "dtype_numpy": frames.dtype.str}
    descriptor = run.compose_descriptor(name="primary", data_keys={"image": key}, validate=False)
    yield "start", run.start_doc
    yield "descriptor", descriptor.descriptor_doc
    for number in range(count):
        data = {"image": frames[number % len(frames)]}
        yield "event", descriptor.compose_event(data=data, timestamps={"image": time.time()}, validate=False)
    yield "stop", run.compose_stop(validate=False)


def resource(path: Path, uid: str) -> dict[str, Any]:
    """A stream resource of an HDF5 file, without its run."""
    return {
        "uid": uid,
        "data_key": "image",
        "uri": f"file://localhost{path}",
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "data"},
    }


def datum(resource: str, descriptor: str, first: int, stop: int) -> dict[str, Any]:
    """A stream datum that announces frames from `first` to before `stop`."""
    return {
        "uid": f"{resource}/{first}",
        "descriptor": descriptor,
        "stream_resource": resource,
        "indices": {"start": first, "stop": stop},
        "seq_nums": {"start": first + 1, "stop": stop + 1},
    }


def stream_run(path: Path, count: int, *, each: int = 1) -> Documents:
    """A run whose stream datums announce frames of an HDF5 file, `each` at a time."""
    run, uid = compose_run(), str(uuid.uuid4())
    keys = {"image": KEY | {"external": "STREAM:"}}
    descriptor = run.compose_descriptor(name="primary", data_keys=keys, validate=False).descriptor_doc
    yield "start", run.start_doc
    yield "descriptor", descriptor
    yield "stream_resource", resource(path, uid) | {"run_start": run.start_doc["uid"]}
    for first in range(0, count, each):
        yield "stream_datum", datum(uid, descriptor["uid"], first, min(first + each, count))
    yield "stop", run.compose_stop(validate=False)


def written(folder: str, frames: np.ndarray) -> Path:
    """An HDF5 file of `FRAMES_A_FILE` frames, a chunk each, as areaDetector and ophyd-async write it."""
    path = Path(folder) / "frames.h5"
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", (FRAMES_A_FILE, *SHAPE), frames.dtype, chunks=(1, *SHAPE))
        for number in range(FRAMES_A_FILE):
            data[number] = frames[number % len(frames)]
    return path


def stream_runs(path: Path, count: int, *, each: int = 1, frames_a_run: int = FRAMES_A_FILE) -> Documents:
    """Runs of the frames of one file after one another, `count` frames in all; the file may have fewer than a run."""
    for done in range(0, count, frames_a_run):
        yield from stream_run(path, min(frames_a_run, count - done), each=each)


class StreamCamera:
    """A detector that announces frames of an HDF5 file, as ophyd-async's do; its file is there beforehand."""

    name, parent, hints = "image", None, {"fields": []}

    def __init__(self, path: Path, exposure: float) -> None:
        self._path, self._exposure = path, exposure
        self._resource, self._taken = "", 0

    def stage(self) -> list[StreamCamera]:
        self._resource, self._taken = str(uuid.uuid4()), 0
        return [self]

    def unstage(self) -> list[StreamCamera]:
        return [self]

    def trigger(self) -> Any:
        from ophyd.status import Status

        status = Status()
        if self._exposure:
            threading.Timer(self._exposure, status.set_finished).start()
        else:
            status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        return {"image": {**KEY, "external": "STREAM:"}}

    def read(self) -> dict[str, Any]:
        return {}

    read_configuration = describe_configuration = read

    def get_index(self) -> int:
        return self._taken

    def collect_asset_docs(self, index: int | None = None) -> Documents:
        if not self._taken:
            yield "stream_resource", resource(self._path, self._resource)
        self._taken += 1
        # The RunEngine numbers events, and refuses who does it for it.
        unnumbered = {"seq_nums": {"start": 0, "stop": 0}}
        yield "stream_datum", datum(self._resource, "", self._taken - 1, self._taken) | unnumbered
