"""What a view costs, on one core, beside other ways to make it: JSON on stdout.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m benchmarks.view_speed > benchmarks/results/view-speed.json

All contenders get the same frame in turn, round after round. Figures are milliseconds of a frame, the least over
rounds, since others may use the machine; `times_before` is the ratio to how views were made before.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.annotate_frames import frames
from benchmarks.command import run
from benchmarks.view_contenders import Numba, Torch, WholeFrames
from dvfb_stream import Geometry
from dvfb_stream.view import ViewResampler

IMPORTED = "import time; started = time.perf_counter(); import {}; print(time.perf_counter() - started)"

CALLS = 4
"""Of one contender before the next has its turn: as in a scan, whose frames come through the same code."""


class Ours:
    """The view as it is."""

    def __init__(self, geometry: Geometry) -> None:
        self._resampler = ViewResampler(geometry)

    def __call__(self, pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return image and mask."""
        view = self._resampler.view(pixels)
        return view.image, view.mask


def cases() -> dict[str, tuple[NDArray[Any], Geometry, list[type]]]:
    """Frames, their geometries and who can take them."""
    (frame,) = frames(1)
    pixels, mask = frame.pixels, frame.geometry.mask
    assert mask is not None
    shape = pixels.shape
    whole = Geometry(shape=shape, center_x=302.7, center_y=530.9)
    marked = np.where(mask, pixels, -1).astype(np.int32)
    rng = np.random.default_rng(0)
    large = (4362, 4148)
    pair = [WholeFrames, Ours]
    found = {
        "int32, gaps in the mask": (pixels, frame.geometry, [*pair, Torch, Numba]),
        "int32, gaps -1 without a mask": (marked, whole, [*pair, Numba]),
    }
    for kind in ("uint16", "uint32", "float32", "float64", ">i4"):
        found[f"{kind}, gaps in the mask"] = (pixels.astype(kind), frame.geometry, pair)
    found["int32, upside down"] = (pixels[::-1], frame.geometry, pair)
    found["uint32, 4362 x 4148"] = (
        rng.poisson(3, large).astype(np.uint32),
        Geometry(shape=large, center_x=2000, center_y=2100),
        pair,
    )
    return found


def in_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, the least over rounds."""
    least = dict.fromkeys(contenders, np.inf)
    for _ in range(rounds):
        for name, work in contenders.items():
            for _ in range(CALLS):
                started = time.perf_counter()
                work()
                least[name] = min(least[name], 1e3 * (time.perf_counter() - started))
    return least


def _import_seconds(name: str) -> float:
    done = subprocess.run([sys.executable, "-c", IMPORTED.format(name)], capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else math.inf


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all contenders on all kinds of frames, and the import and first use of numba."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    first_use = None
    for case, (pixels, geometry, kinds) in cases().items():
        contenders: dict[str, Callable[[], object]] = {}
        images = {}
        for kind in kinds:
            try:
                contender = kind(geometry)
            except ImportError:
                continue
            started = time.perf_counter()
            image, _ = contender(pixels)
            if kind is Numba and first_use is None:
                first_use = time.perf_counter() - started
            images[kind.__name__] = image
            contenders[kind.__name__] = lambda contender=contender, pixels=pixels: contender(pixels)
        rounds = max(3, options.rounds * 1_000_000 // pixels.size)
        least = in_turns(contenders, rounds)
        found[case] = {
            "milliseconds": least,
            "times_before": {name: value / least["WholeFrames"] for name, value in least.items()},
            "largest_difference": {
                name: float(np.abs(image - images["WholeFrames"]).max()) for name, image in images.items()
            },
        }
    imports = {
        name: float(
            subprocess.run([sys.executable, "-c", IMPORTED.format(name)], capture_output=True).stdout or "nan"
        )
        for name in ("numba", "torch")
    }
    return {
        "what": "1043 x 981 pixels unless said otherwise, one thread, milliseconds a frame, least over rounds",
        "rounds": options.rounds,
        "cases": found,
        "numba": {"first_use_seconds": first_use, "import_seconds": imports},
    }


if __name__ == "__main__":
    with threadpool_limits(1):
        run("view-speed", __doc__, measure, rounds=2000)
