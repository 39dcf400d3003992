"""What does a frame cost that is read by a process with limits, as a daemon does, beside one that is read here?

    python -m benchmarks.reading_apart [--rounds 7] [--frames 32] > benchmarks/results/reading-apart.json

Frames of 1043 x 981 pixels of 32 bits, 4 MB, from the page cache, in formats of detectors. The ways take turns, so
that a busy machine burdens all; a figure is the least of all rounds, in milliseconds a frame: of the clock, and of
the processor's time, of both processes where there are two. `open` has every file allowed, `below roots` checks each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.reading import frames
from benchmarks.tiled_server import processor_seconds_of
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, FrameReference, Hdf5Frame, ImageFrame
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.limits import ProcessLimits


def written(folder: Path, count: int) -> dict[str, list[FrameReference]]:
    """Write the frames in each format; return where they lie."""
    import fabio.cbfimage
    import h5py
    import hdf5plugin
    import tifffile

    stack = frames(count)
    expected = Expected(stack.shape[1:], stack.dtype)
    found: dict[str, list[FrameReference]] = {}
    for name, settings in {
        "HDF5": {},
        "HDF5, bitshuffle-LZ4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    }.items():
        path = folder / f"{len(found)}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("d", data=stack, chunks=(1, *stack.shape[1:]), **settings)
        found[name] = [Hdf5Frame(str(path), "d", number, expected) for number in range(count)]
    for number, frame in enumerate(stack):
        tifffile.imwrite(folder / f"{number}.tif", frame)
        fabio.cbfimage.CbfImage(data=frame).write(str(folder / f"{number}.cbf"))
    for name in ("tif", "cbf"):
        found[f"{name}, a frame a file"] = [
            ImageFrame(str(folder / f"{number}.{name}"), 0, expected) for number in range(count)
        ]
    return found


def ways(folder: str) -> dict[str, FrameFiles | FilesProcess]:
    """Return what reads, by what it is."""
    limits, memory = ProcessLimits(memory=1 << 30), 1 << 28
    return {
        "here": FrameFiles(memory=FrameMemory(memory), allowed=EVERYWHERE),
        "here, below roots": FrameFiles(memory=FrameMemory(memory), allowed=AllowedRoots([folder])),
        "apart, open": FilesProcess(FrameMemory(memory), niceness=0, answer_within=60.0),
        "apart, below roots": FilesProcess(
            FrameMemory(memory), niceness=0, answer_within=60.0, allowed_roots=[folder], limits=limits
        ),
    }


def measured(files: FrameFiles | FilesProcess, references: list[FrameReference]) -> tuple[float, float]:
    """Return seconds a frame, of the clock and of the processor."""
    other = files.pid if isinstance(files, FilesProcess) else None

    def used() -> float:
        return time.process_time() + (0.0 if other is None else processor_seconds_of(other))

    begun, before = time.perf_counter(), used()
    for reference in references:
        files.read(reference, "run")
    return (time.perf_counter() - begun) / len(references), (used() - before) / len(references)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Read all formats in all ways, in turns."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        formats, opened = written(Path(folder), options.frames), ways(folder)
        for name, references in formats.items():
            for files in opened.values():
                expected = frames(1)[0] if name else None
                np.testing.assert_array_equal(files.read(references[0], "run"), expected)
        for _ in range(options.rounds):
            for name, references in formats.items():
                for way, files in opened.items():
                    clock, processor = measured(files, references)
                    best = found.setdefault(name, {}).setdefault(
                        way, {"clock_ms": np.inf, "processor_ms": np.inf}
                    )
                    best["clock_ms"] = min(best["clock_ms"], round(1e3 * clock, 3))
                    best["processor_ms"] = min(best["processor_ms"], round(1e3 * processor, 3))
        for files in opened.values():
            files.close()
    for by_way in found.values():
        here = by_way["here"]["clock_ms"]
        for figures in by_way.values():
            figures["times_here"] = round(figures["clock_ms"] / here, 2)
    return {"shape": list(frames(1).shape[1:]), "load_average": os.getloadavg(), "formats": found}


if __name__ == "__main__":
    command.run("reading-apart", __doc__, measure, rounds=7, frames=32)
