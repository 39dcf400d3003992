"""What becomes of the reader when files are damaged at random: of HDF5 files with bits flipped, thousands of them.

    python -m benchmarks.fuzzed_files [--files 10000] [--seed 0] > benchmarks/results/fuzzed-files.json

Each file is one of several layouts, compressed by bitshuffle-LZ4, gzip or not at all, with bits flipped in what one
chunk holds, in the headers, or anywhere, or cut off. It is read as a daemon reads it, by a process beside this one,
with limits. After each a good file is read, whose pixels are compared. Counted are the ends of that process, by
signal, and how long the slowest read took. Nothing of this may end the process that asks: it prints what it found.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.references import Expected, Hdf5Frame
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.limits import ProcessLimits

SHAPE = (64, 80)
FRAMES = 4
DATASET = "entry/data/data"
EXPECTED = Expected(SHAPE, np.dtype("<u4"))
READ_TIMEOUT = 5.0
MEMORY = 1 << 29


def frames() -> np.ndarray:
    """Return (frames, rows, columns) counts."""
    return np.random.default_rng(1).poisson(3.0, (FRAMES, *SHAPE)).astype(np.uint32)


def layouts(folder: Path) -> dict[str, tuple[bytes, list[tuple[int, int]]]]:
    """Write good files; return by layout what is in each, and where its chunks lie: first byte and length."""
    import h5py
    import hdf5plugin

    found = {}
    for name, settings in {
        "bitshuffle-LZ4, a frame a chunk": dict(chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")),
        "bitshuffle-LZ4, all in a chunk": dict(chunks=(FRAMES, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")),
        "LZ4": dict(chunks=(1, *SHAPE), **hdf5plugin.LZ4()),
        "Blosc": dict(chunks=(1, *SHAPE), **hdf5plugin.Blosc()),
        "gzip with shuffle": {"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True},
        "chunks": {"chunks": (1, *SHAPE)},
        "contiguous": {},
    }.items():
        path = folder / "good.h5"
        with h5py.File(path, "w", libver="latest") as file:
            file.create_dataset(DATASET, data=frames(), **settings)
            mask = np.zeros(SHAPE, np.uint32)
            file["entry/instrument/detector/detectorSpecific/pixel_mask"] = mask
        with h5py.File(path) as file:
            dataset = file[DATASET]
            if dataset.chunks is None:
                where = [(dataset.id.get_offset(), dataset.nbytes)]
            else:
                chunks = [dataset.id.get_chunk_info(n) for n in range(dataset.id.get_num_chunks())]
                where = [(chunk.byte_offset, chunk.size) for chunk in chunks]
        found[name] = path.read_bytes(), where
    return found


def damaged(content: bytes, chunks: list[tuple[int, int]], rng: np.random.Generator) -> tuple[bytes, str]:
    """Return a file with some bits flipped, and where."""
    changed = np.frombuffer(content, np.uint8).copy()
    where = str(
        rng.choice(
            ["chunk", "head of a chunk", "header", "anywhere", "cut off"], p=[0.4, 0.3, 0.15, 0.1, 0.05]
        )
    )
    if where == "cut off":
        return content[: int(rng.integers(1, len(content)))], where
    first, size = chunks[int(rng.integers(len(chunks)))]
    start, end = {
        "chunk": (first, first + size),
        "head of a chunk": (first, first + min(size, 32)),
        "header": (0, min(2048, len(content))),
        "anywhere": (0, len(content)),
    }[where]
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        changed[int(rng.integers(start, end))] ^= np.uint8(rng.choice([1 << int(rng.integers(8)), 0xFF]))
    return changed.tobytes(), where


def outcome(error: FrameError) -> str:
    """Return what became of a frame that has none, in few words."""
    said = str(error)
    if found := re.search(
        r"signal (\w+)|exit status \d+|did not answer|more memory|is not read any more", said
    ):
        return found[0]
    return "may come later" if isinstance(error, NotThereYetError) else "refused"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Read damaged files, and a good one after each."""
    rng = np.random.default_rng(options.seed)
    outcomes: Counter[str] = Counter()
    by_layout: dict[str, Counter[str]] = {}
    slowest, good_read, seconds, pids = 0.0, 0, 0.0, set()
    ended: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = layouts(folder)
        (folder / "good.h5").write_bytes(good["bitshuffle-LZ4, a frame a chunk"][0])
        names = list(good)
        files = FilesProcess(
            answer_within=READ_TIMEOUT,
            allowed_roots=[name],
            limits=ProcessLimits(memory=MEMORY),
            niceness=0,
        )
        files.start()
        for number in range(options.files):
            layout = names[number % len(names)]
            content, where = damaged(*good[layout], rng)
            path = folder / f"{number}.h5"
            path.write_bytes(content)
            run = f"run {number}"
            for frame in range(FRAMES):
                begun = time.monotonic()
                try:
                    pixels = files.read(Hdf5Frame(str(path), DATASET, frame, EXPECTED), run)
                    result = "read, as it was" if np.array_equal(pixels, frames()[frame]) else "read, altered"
                except FrameError as error:
                    result = outcome(error)
                    if result.startswith(("signal", "exit", "did not")) and len(ended) < 50:
                        ended.append({"file": number, "layout": layout, "damage": where, "how": result})
                outcomes[result] += 1
                by_layout.setdefault(layout, Counter())[result] += 1
                took = time.monotonic() - begun
                seconds += took
                slowest = max(slowest, took)
            files.release(run)
            path.unlink()
            pixels = files.read(
                Hdf5Frame(str(folder / "good.h5"), DATASET, number % FRAMES, EXPECTED), "good"
            )
            good_read += bool(np.array_equal(pixels, frames()[number % FRAMES]))
            pids.add(files.pid)
        files.close()
    return {
        "seed": options.seed,
        "files": options.files,
        "frames": options.files * FRAMES,
        "read_timeout_s": READ_TIMEOUT,
        "memory_bytes": MEMORY,
        "outcomes": dict(outcomes.most_common()),
        "outcomes_by_layout": {layout: dict(found.most_common()) for layout, found in by_layout.items()},
        "processes_used": len(pids),
        "ended_by": ended,
        "slowest_read_s": round(slowest, 3),
        "milliseconds_a_frame": round(1e3 * seconds / (options.files * FRAMES), 3),
        "good_files_read_rightly": good_read,
        "crashes_of_who_asked": 0,  # or this would not be printed
    }


if __name__ == "__main__":
    command.run("fuzzed-files", __doc__, measure, files=10_000, seed=0)
