"""What does reading a frame cost, beside the reader of another checkout, and do both read the same pixels?

    python -m benchmarks.reading [--before CHECKOUT] [--rounds 15] [--frames 16] > benchmarks/results/reading.json

Each reader runs in a process of its own and the two take turns, file by file, so that a busy machine burdens both.
A figure is the least of all rounds, in milliseconds a frame, of the processor's time, not counting what others
on the machine take; the files come from the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (1043, 981)

ROOT = Path(__file__).resolve().parents[1]


def frames(count: int) -> np.ndarray:
    """Return (count, rows, columns) counts as a Pilatus has them: most are few."""
    rng = np.random.default_rng(0)
    rate = 2 + 500 * np.exp(-(((np.hypot(*np.indices(SHAPE)) - 600) / 20) ** 2))
    return rng.poisson(rate, (count, *SHAPE)).astype(np.int32)


def write_files(folder: Path, count: int) -> dict[str, list[str]]:
    """Write the frames in each format; return the specs by what they are."""
    import fabio.cbfimage
    import fabio.edfimage
    import fabio.tifimage
    import h5py
    import hdf5plugin
    import tifffile

    stack = frames(count)
    specs: dict[str, list[str]] = {}
    for name, writer in (
        ("tif", fabio.tifimage.TifImage),
        ("cbf", fabio.cbfimage.CbfImage),
        ("edf", fabio.edfimage.EdfImage),
    ):
        paths = [folder / f"{number}.{name}" for number in range(count)]
        for path, frame in zip(paths, stack, strict=True):
            writer(data=frame).write(str(path))
        specs[f"{name}, a frame a file"] = [str(path) for path in paths]
    with tifffile.TiffWriter(folder / "stack.tif") as tiff:
        for frame in stack:
            tiff.write(frame, metadata=None)
    specs["tif, stack"] = [str(folder / "stack.tif")]
    np.save(folder / "stack.npy", stack)
    specs["npy, stack"] = [str(folder / "stack.npy")]
    filters: dict[str, Any] = {
        "HDF5, bitshuffle and lz4": hdf5plugin.Bitshuffle(cname="lz4"),
        "HDF5, not compressed": {},
    }
    for number, (name, chosen) in enumerate(filters.items()):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file.create_dataset("entry/data/data", data=stack, chunks=(1, *SHAPE), **chosen)
        specs[name] = [f"{folder}/{number}.h5::/entry/data/data"]
    return specs


def read_command(specs: list[str], count: int) -> Iterator[np.ndarray]:
    """Yield frames as a command reads them, all there are."""
    from dvfb_stream.files import read_frames

    for spec in specs:
        yield from read_frames(spec)


def read_live(specs: list[str], count: int) -> Iterator[np.ndarray]:
    """Yield frames as live annotation reads them: `count` in all files together; HDF5 stays open."""
    from dvfb_stream.files.frame_files import FrameFiles
    from dvfb_stream.files.references import Hdf5Frame, ImageFrame

    files = FrameFiles()
    for spec in specs:
        path, _, dataset = spec.partition("::")
        for number in range(count // len(specs)):
            yield files.read(Hdf5Frame(path, dataset, number) if dataset else ImageFrame(path, number), "run")
    files.close()


READERS: dict[str, Callable[[list[str], int], Iterator[np.ndarray]]] = {
    "command": read_command,
    "live": read_live,
}


def serve() -> None:
    """Read what is asked for on stdin, and answer with seconds a frame and a digest of the pixels."""
    for line in sys.stdin:
        request = json.loads(line)
        digest, seconds, found = hashlib.sha256(), 0.0, 0
        reading = READERS[request["reader"]](request["specs"], request["count"])
        while True:
            started = time.process_time()
            frame = next(reading, None)
            seconds += time.process_time() - started
            if frame is None:
                break
            found += 1
            if request["digest"]:
                digest.update(np.ascontiguousarray(frame, np.int64).tobytes())
        print(json.dumps({"seconds": seconds / found, "digest": digest.hexdigest()}), flush=True)


@contextmanager
def reader_of(checkout: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start a process that reads with the code of a checkout; yield what asks it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(src=str(checkout / "src"), file=str(Path(__file__)))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )
    questions, answers = process.stdin, process.stdout
    assert questions is not None
    assert answers is not None

    def ask(**request: Any) -> dict[str, Any]:
        questions.write(json.dumps(request) + "\n")
        questions.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    with process:
        yield ask


SERVE = """
import sys
sys.path.insert(0, {src!r})
import dvfb_stream
assert dvfb_stream.__file__.startswith({src!r}), dvfb_stream.__file__
from benchmarks import reading
reading.serve()
"""
"""Has the package of one checkout, and this file of another, in one process."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the least milliseconds a frame of each reader, and their ratio."""
    from benchmarks.estimate.timing import machine

    checkouts = {"now": ROOT} | ({} if options.before is None else {"before": options.before.resolve()})
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        specs = write_files(Path(folder), options.frames)
        asked = {name: processes.enter_context(reader_of(path)) for name, path in checkouts.items()}
        for reader, (what, paths) in itertools.product(READERS, specs.items()):
            print(f"{reader}: {what}", file=sys.stderr)
            wanted = {"reader": reader, "specs": paths, "count": options.frames}
            digests = {ask(**wanted, digest=True)["digest"] for ask in asked.values()}
            found: dict[str, list[float]] = {name: [] for name in checkouts}
            for _ in range(options.rounds):
                for name, ask in asked.items():
                    found[name].append(ask(**wanted, digest=False)["seconds"])
            least = {name: 1000 * min(seconds) for name, seconds in found.items()}
            results.setdefault(what, {})[reader] = {
                **{f"{name}_milliseconds": round(value, 4) for name, value in least.items()},
                **({"times_before": round(least["now"] / least["before"], 3)} if "before" in least else {}),
                "same_pixels": len(digests) == 1,
            }
    return {"machine": machine("cpu"), "shape": SHAPE, "frames": options.frames, "readers": results}


if __name__ == "__main__":
    # Not above: the processes that read have no use for it.
    from benchmarks.command import run

    before = {"type": Path, "help": "another checkout, whose reader is measured, too"}
    run("reading", __doc__, measure, before=before, rounds=15, frames=16)
