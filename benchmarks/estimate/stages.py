"""Where the time of an estimate goes, and how near each stage comes to what this machine can do."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.estimate.inputs import CENTERS, simulate
from benchmarks.estimate.options import share, whole
from benchmarks.estimate.timing import Work, machine, progress, summary, take_turns, threads
from dvfb_stream.fbt import complex_from_real
from dvfb_stream.fbt.elastic_net import Admm, certify

PEAK_SHAPES = ((128, 840, 840), (128, 4096, 1024), (2048, 2048, 2048))
"""Matrix products, (m, k, n), whose best rate counts as the machine's peak; the first is a solver's step."""

STEPS_TIMED = 10
"""Steps that are timed together, so that one start of ADMM among them does not count."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the estimate and the least that it has to do for one frame."""

    work: Work
    multiplications: int
    """Of a real product and sum."""
    bytes_moved: int
    """Read from images and written, where nothing stays in a cache."""
    dtype: torch.dtype
    times: float
    """How often the estimate does it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--batch", type=whole, default=128, help="frames of a batch (%(default)s)")
    parser.add_argument(
        "--rounds", type=whole, default=15, help="times everything takes its turn (%(default)s)"
    )
    parser.add_argument(
        "--tolerance", type=share, default=1e-6, help="of the estimate, certified (%(default)g)"
    )
    parser.add_argument(
        "--threads", type=whole, default=torch.get_num_threads(), help="of every library (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the result."""
    with threads(arguments.threads), progress() as shown:
        task = shown.add_task("stages", total=2 * (arguments.rounds + 1) + 1)
        peaks = {
            str(dtype).removeprefix("torch."): _peak(dtype, arguments)
            for dtype in (torch.float32, torch.float64)
        }
        bandwidth = _bandwidth(arguments)
        shown.advance(task)
        cases = {}
        for name in CENTERS:
            cases[name] = _case(name, arguments, peaks, bandwidth, lambda: shown.advance(task))
        return {
            "what": "stages",
            "machine": machine(arguments.device),
            "batch": arguments.batch,
            "tolerance": arguments.tolerance,
            "peak_multiplications_per_second": peaks,
            "bytes_per_second": bandwidth,
            "cases": cases,
        }


def _case(
    name: str,
    arguments: argparse.Namespace,
    peaks: dict[str, float],
    bandwidth: float,
    advance: Any,
) -> dict[str, Any]:
    case = simulate(name, min(arguments.batch, 32))
    images = torch.from_numpy(np.resize(case.images, (arguments.batch, case.size, case.size)))
    images = images.to(arguments.device)
    estimator = case.estimator(device=arguments.device)
    settings = estimator.settings.changed(tolerance=arguments.tolerance)
    projections = estimator.project(images)
    solution = estimator.solve_projected(projections, settings)
    quadratic = estimator._fit(settings).quadratic
    visible = estimator._basis
    projection = visible._projection(torch.float32)
    parts = [part for _, part in visible.pixels.parts(images)]
    working = [visible.pixels.averages(part).averages for part in parts]
    batch, unknowns = arguments.batch, estimator.unknowns
    pixels = int(images[0].numel())

    def stage(
        what: str,
        run: Any,
        multiplications: int,
        moved: int,
        dtype: torch.dtype,
        *,
        times: float,
        runs: int = 1,
    ) -> Stage:
        def synchronised() -> None:
            run()
            if images.is_cuda:
                torch.cuda.synchronize()

        return Stage(Work(what, batch * runs, synchronised), multiplications, moved, dtype, times)

    single = torch.float32
    shape = {"n_radial": estimator.settings.n_radial, "orders": estimator.settings.orders}
    stages = [
        stage(
            "averages",
            lambda: [visible.pixels.averages(part) for part in parts],
            pixels,
            4 * (pixels + pixels // 4),
            single,
            times=1,
        ),
        stage(
            "projection",
            lambda: projection.unfold([projection.fold(part) for part in working]),
            projection.products,
            pixels,
            single,
            times=1,
        ),
        stage(
            "solver's step",
            lambda: Admm(quadratic, projections.values).advance(STEPS_TIMED - 1),
            unknowns**2,
            0,
            single,
            times=solution.iterations + 1,
            runs=STEPS_TIMED,
        ),
        stage(
            "certificate",
            lambda: certify(solution.coefficients, quadratic, projections.values, projections.energies),
            unknowns**2,
            0,
            single,
            times=1,
        ),
        stage(
            "complex coefficients",
            lambda: complex_from_real(solution.coefficients, **shape),
            0,
            8 * unknowns,
            single,
            times=1,
        ),
        stage(
            "estimate",
            lambda: estimator.estimate(images, tolerance=arguments.tolerance),
            0,
            0,
            single,
            times=1,
        ),
    ]
    durations = take_turns([each.work for each in stages], arguments.rounds, advance=lambda: None)
    for _ in range(arguments.rounds + 1):
        advance()
    lines: list[dict[str, Any]] = []
    for each in stages:
        seconds = summary(durations[each.work.name])
        peak = peaks[str(each.dtype).removeprefix("torch.")]
        floor = max(each.multiplications / peak, each.bytes_moved / bandwidth)
        if each.work.name == "estimate":  # no more than its parts at their floors
            floor = sum(line["times"] * line["floor_seconds_per_frame"] for line in lines)
        lines.append(
            {
                "stage": each.work.name,
                "seconds_per_frame": seconds,
                "times": each.times,
                "multiplications": each.multiplications,
                "share_of_peak": each.multiplications / peak / seconds["median"],
                "floor_seconds_per_frame": floor,
                "times_the_floor": seconds["median"] / floor,
            }
        )
    plain = int(estimator.fitted_pixels.sum()) * unknowns
    return {"steps": solution.iterations, "plain_projection_multiplications": plain, "stages": lines}


def _peak(dtype: torch.dtype, arguments: argparse.Namespace) -> float:
    """Best rate of a matrix product, multiplications per second."""
    rates = []
    for m, k, n in PEAK_SHAPES:
        left = torch.rand(m, k, dtype=dtype, device=arguments.device)
        right = torch.rand(k, n, dtype=dtype, device=arguments.device)
        out = torch.empty(m, n, dtype=dtype, device=arguments.device)

        def product(left: torch.Tensor = left, right: torch.Tensor = right, out: torch.Tensor = out) -> None:
            torch.mm(left, right, out=out)
            if left.is_cuda:
                torch.cuda.synchronize()

        taken = take_turns([Work("it", 1, product)], arguments.rounds, advance=lambda: None)["it"]
        rates.append(m * k * n / min(taken))
    return max(rates)


def _bandwidth(arguments: argparse.Namespace) -> float:
    """Bytes per second that a sum over much more than the caches reads."""
    much = torch.rand(1 << 26, device=arguments.device)

    def read() -> None:
        float(much.sum())

    return much.nbytes / min(take_turns([Work("it", 1, read)], arguments.rounds, advance=lambda: None)["it"])
