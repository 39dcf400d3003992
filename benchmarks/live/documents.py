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


def opening(**spec: Any) -> tuple[list[tuple[str, dict[str, Any]]], str, str]:
    """Start and descriptor of a run, and the uids of both."""
    run, descriptor, now = str(uuid.uuid4()), str(uuid.uuid4()), time.time()
    return (
        [
            ("start", {"uid": run, "time": now}),
            (
                "descriptor",
                {
                    "uid": descriptor,
                    "run_start": run,
                    "time": now,
                    "name": "primary",
                    "data_keys": {"image": {**KEY, **spec}},
                },
            ),
        ],
        run,
        descriptor,
    )


def inline_run(frames: np.ndarray, count: int) -> Documents:
    """A run whose events carry their frames."""
    documents, run, descriptor = opening()
    yield from documents
    for number in range(count):
        yield (
            "event",
            {
                "uid": str(number),
                "descriptor": descriptor,
                "seq_num": number + 1,
                "time": time.time(),
                "data": {"image": frames[number % len(frames)]},
                "timestamps": {},
            },
        )
    yield "stop", {"uid": "stop", "run_start": run, "time": time.time(), "exit_status": "success"}


def resource(path: Path, uid: str) -> dict[str, Any]:
    """A stream resource of an HDF5 file, without its run."""
    return {
        "uid": uid,
        "data_key": "image",
        "uri": f"file://localhost{path}",
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "data"},
    }


def stream_run(path: Path, count: int, *, each: int = 1) -> Documents:
    """A run whose stream datums announce frames of an HDF5 file, `each` at a time."""
    documents, run, descriptor = opening(external="STREAM:")
    yield from documents
    uid = str(uuid.uuid4())
    yield "stream_resource", {**resource(path, uid), "run_start": run}
    for first in range(0, count, each):
        yield (
            "stream_datum",
            {
                "uid": str(first),
                "descriptor": descriptor,
                "stream_resource": uid,
                "indices": {"start": first, "stop": min(first + each, count)},
                "seq_nums": {"start": first + 1, "stop": min(first + each, count) + 1},
            },
        )
    yield "stop", {"uid": "stop", "run_start": run, "time": time.time(), "exit_status": "success"}


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
        """Begin a file."""
        self._resource, self._taken = str(uuid.uuid4()), 0
        return [self]

    def unstage(self) -> list[StreamCamera]:
        """Nothing is open."""
        return [self]

    def trigger(self) -> Any:
        """Take as long as a frame does."""
        from ophyd.status import Status

        status = Status()
        if self._exposure:
            threading.Timer(self._exposure, status.set_finished).start()
        else:
            status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        """Describe the frames."""
        return {"image": {**KEY, "external": "STREAM:"}}

    def read(self) -> dict[str, Any]:
        """Return nothing: the frames lie in the file."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    read_configuration = describe_configuration

    def get_index(self) -> int:
        """Return how many frames there are."""
        return self._taken

    def collect_asset_docs(self, index: int | None = None) -> Documents:
        """Announce a frame."""
        if not self._taken:
            yield "stream_resource", resource(self._path, self._resource)
        first, self._taken = self._taken, self._taken + 1
        yield (
            "stream_datum",
            {
                "uid": f"{self._resource}/{first}",
                "stream_resource": self._resource,
                "descriptor": "",
                "indices": {"start": first, "stop": first + 1},
                "seq_nums": {"start": 0, "stop": 0},
            },
        )
