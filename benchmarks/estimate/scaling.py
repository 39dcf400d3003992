"""How the estimate's cost grows with pixels, unknowns, batch and geometries, and what an estimator costs."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.estimate.inputs import CENTERS, VIEW_SIZE, Case, simulate
from benchmarks.estimate.options import share, whole
from benchmarks.estimate.timing import Work, machine, progress, seconds, summary, take_turns, threads
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.frames import Geometry
from dvfb_stream.view import FineView, View, ViewResamplers

SIZES = (64, 128, 192, 256, 384, 512)
"""Sides of the view. The radius grows with it, so that the pixels are what differs."""

BASES = ((10, 20), (20, 20), (40, 0), (40, 8), (40, 20), (60, 20), (60, 40))
"""n_radial and highest even order: 210 to 2460 unknowns."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

GEOMETRIES = (1, 2, 3, 4, 5, 6, 8)
"""In a stream that visits them in turn, a batch each."""

PLANS_KEPT = 4
"""So many estimators does the bound of the cache hold."""

STREAM_BATCH = 16
"""Frames that arrive of one geometry before the next."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--case", choices=tuple(CENTERS), default="off_centre", help="where the beam is")
    parser.add_argument("--batch", type=whole, default=64, help="where it is not what grows (%(default)s)")
    parser.add_argument(
        "--rounds", type=whole, default=7, help="times everything takes its turn (%(default)s)"
    )
    parser.add_argument(
        "--tolerance", type=share, default=1e-6, help="of the estimate, certified (%(default)g)"
    )
    parser.add_argument(
        "--largest", type=whole, default=SIZES[-1], help="side of the largest view (%(default)s)"
    )
    parser.add_argument(
        "--threads", type=whole, default=torch.get_num_threads(), help="of every library (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the result."""
    with threads(arguments.threads), progress() as shown:
        return {
            "what": "scaling",
            "machine": machine(arguments.device),
            "case": arguments.case,
            "batch": arguments.batch,
            "tolerance": arguments.tolerance,
            "pixels": with_pixels(arguments, shown),
            "unknowns": with_unknowns(arguments, shown),
            "batches": with_batch(arguments, shown),
            "geometries": with_geometries(arguments, shown),
        }


def views(arguments: argparse.Namespace, frames: int, *, size: int = VIEW_SIZE) -> Case:
    """Return `frames` views: 16 simulated ones at most, over and over."""
    case = simulate(arguments.case, min(frames, 16), size=size)
    return replace(case, images=np.resize(case.images, (frames, size, size)))


def estimator_costs(build: Callable[[], FourierBessel], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return seconds to build an estimator, on one core and with all threads."""
    with threads(1):
        one_core = seconds(build, rounds=min(arguments.rounds, 3))
    return {
        "build_seconds_one_core": one_core,
        "build_seconds": seconds(build, rounds=min(arguments.rounds, 3)),
    }


def frame_costs(estimator: FourierBessel, case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return seconds per frame of a batch, the solver's steps, and the estimator's bytes after use."""
    images = torch.from_numpy(case.images)
    work = Work("it", len(images), lambda: estimator.estimate(images, tolerance=arguments.tolerance).cpu())
    durations = take_turns([work], arguments.rounds, advance=lambda: None)["it"]
    return {
        "seconds_per_frame": summary(durations),
        "steps": estimator.solve(images, tolerance=arguments.tolerance).iterations,
        "plan_bytes": estimator.nbytes,
        "fitted_pixels": int(estimator.fitted_pixels.sum()),
        "unknowns": estimator.unknowns,
    }


def with_pixels(arguments: argparse.Namespace, shown: Progress) -> list[dict[str, Any]]:
    """Return the costs for each size of view at 840 unknowns."""
    lines = []
    for size in shown.track([s for s in SIZES if s <= arguments.largest], description="pixels"):
        case = views(arguments, arguments.batch, size=size)
        build = lambda case=case: case.estimator(device=arguments.device)  # noqa: E731
        lines.append(
            {"size": size, **estimator_costs(build, arguments), **frame_costs(build(), case, arguments)}
        )
    return lines


def with_unknowns(arguments: argparse.Namespace, shown: Progress) -> list[dict[str, Any]]:
    """Return the costs for each basis on a 256 x 256 view."""
    case, lines = views(arguments, arguments.batch), []
    for n_radial, highest in shown.track(BASES, description="unknowns"):
        build = lambda n=n_radial, m=highest: case.estimator(  # noqa: E731
            device=arguments.device, n_radial=n, highest_order=m
        )
        costs = {**estimator_costs(build, arguments), **frame_costs(build(), case, arguments)}
        lines.append({"n_radial": n_radial, "highest_order": highest, **costs})
    return lines


def with_batch(arguments: argparse.Namespace, shown: Progress) -> list[dict[str, Any]]:
    """Return the costs for each size of batch."""
    case = views(arguments, max(BATCHES))
    estimator = case.estimator(device=arguments.device)
    return [
        {"batch": batch, **frame_costs(estimator, replace(case, images=case.images[:batch]), arguments)}
        for batch in shown.track(BATCHES, description="batches")
    ]


def with_geometries(arguments: argparse.Namespace, shown: Progress) -> dict[str, Any]:
    """Return the cost of a stream whose geometries come in turn, by how many there are.

    One round through all geometries goes before and is not timed: within the bound no visit builds an estimator then.
    Beyond it some do: the mean is what the stream pays.
    """
    case = views(arguments, STREAM_BATCH)
    images = torch.from_numpy(case.images)
    one = case.estimator(device=arguments.device)
    one.estimate(images, tolerance=arguments.tolerance)
    bound = int((PLANS_KEPT + 0.5) * one.nbytes)
    lines = []
    for count in shown.track(GEOMETRIES, description="geometries"):
        cases = [replace(case, center_x=case.center_x + 0.25 * k) for k in range(count)]
        cache = FourierBesselCache(
            one.settings, ViewResamplers(), device=torch.device(arguments.device), max_bytes=bound
        )
        seen: dict[float, FourierBessel] = {}
        built = []

        def visit(
            case: Case,
            cache: FourierBesselCache = cache,
            seen: dict[float, FourierBessel] = seen,
            built: list[float] = built,
        ) -> None:
            image, mask = case.images[0], case.mask
            view = View(image, mask, case.center_x, case.center_y, FineView.of(image, mask))
            geometry = Geometry(case.mask.shape, case.center_x, case.center_y, case.mask)
            estimator = cache.get(view, geometry)
            if seen.get(case.center_x) is not estimator:
                seen[case.center_x] = estimator
                built.append(case.center_x)
            estimator.estimate(images, tolerance=arguments.tolerance).cpu()

        for each in cases:
            visit(each)
        built.clear()
        durations = []
        visits = 2 * max(GEOMETRIES)
        for k in range(visits):
            started = time.perf_counter()
            visit(cases[k % count])
            durations.append((time.perf_counter() - started) / STREAM_BATCH)
        lines.append(
            {
                "geometries": count,
                "seconds_per_frame": {**summary(durations), "mean": statistics.fmean(durations)},
                "plans_built_per_visit": len(built) / visits,
                "bytes_held": cache.nbytes,
            }
        )
    return {
        "frames_per_visit": STREAM_BATCH,
        "plans_within_bound": PLANS_KEPT,
        "bound_bytes": bound,
        "counts": lines,
    }
