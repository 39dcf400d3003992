"""Frames a second on a GPU: the estimate alone, from device memory and from pinned host memory."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from benchmarks.estimate.inputs import CENTERS, simulate
from benchmarks.estimate.options import share, whole
from benchmarks.estimate.timing import Work, machine, progress, summary, take_turns
from dvfb_stream.errors import SettingsError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--batch", type=whole, default=1024, help="frames of a batch (%(default)s)")
    parser.add_argument("--case", choices=tuple(CENTERS), default="off_centre", help="where the beam is")
    parser.add_argument(
        "--rounds", type=whole, default=20, help="times everything takes its turn (%(default)s)"
    )
    parser.add_argument(
        "--tolerance", type=share, default=1e-6, help="of the estimate, certified (%(default)g)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the result."""
    if not torch.cuda.is_available():
        raise SettingsError("no CUDA device is available here; run it where there is one")
    case = simulate(arguments.case, 32)
    host = torch.from_numpy(np.resize(case.images, (arguments.batch, case.size, case.size))).pin_memory()
    there = host.cuda()
    estimator = case.estimator(device="cuda")
    on_cpu = case.estimator()

    def timed(images: torch.Tensor) -> Work:
        def work() -> None:
            estimator.estimate(images.to("cuda", non_blocking=True), tolerance=arguments.tolerance)
            torch.cuda.synchronize()

        return Work("device" if images.is_cuda else "pinned host", arguments.batch, work)

    with progress() as shown:
        task = shown.add_task("estimate", total=2 * (arguments.rounds + 1))
        durations = take_turns(
            [timed(there), timed(host)], arguments.rounds, advance=lambda: shown.advance(task)
        )
    solution = estimator.solve(there, tolerance=arguments.tolerance)
    few = host[:32]
    expected = on_cpu.estimate(few, tolerance=arguments.tolerance)
    found = estimator.estimate(few.cuda(), tolerance=arguments.tolerance).cpu()
    return {
        "what": "gpu",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine("cuda"),
        "case": arguments.case,
        "batch": arguments.batch,
        "tolerance": arguments.tolerance,
        "steps": solution.iterations,
        "largest_gap": float((solution.gap / solution.objective).max()),
        "difference_from_cpu": float((found - expected).norm() / expected.norm()),
        "plan_bytes": estimator.nbytes,
        "seconds_per_frame": {name: summary(taken) for name, taken in durations.items()},
        "frames_per_second": {name: 1 / summary(taken)["median"] for name, taken in durations.items()},
    }
