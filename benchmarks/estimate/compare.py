"""The estimate beside other solvers of the same problem, and beside other transforms: one run, identical inputs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.estimate import printed, solvers
from benchmarks.estimate.contenders import L1_RATIO, PENALTY, Contender, timed
from benchmarks.estimate.full_disk import compare_full_disk
from benchmarks.estimate.inputs import CENTERS, Case, simulate
from benchmarks.estimate.options import share, whole
from benchmarks.estimate.problem import Array, Minimum, Problem
from benchmarks.estimate.timing import machine, progress, threads
from dvfb_stream.fbt import FourierBessel, PenaltyReading
from dvfb_stream.reproduction.printed_form import estimate_printed

BATCHES = (1, 16, 128)

EARLY_SWEEPS = 20
"""The paper's, on the real basis: convergence in one reading, early stopping in the other."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is compared and how long."""

    cases: tuple[str, ...]
    frames: int
    slow_frames: int
    stiff_frames: int
    rounds: int
    stiff_rounds: int
    readings: tuple[PenaltyReading, ...]
    excess: float
    threads: int
    device: str
    full_disk: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--case", choices=(*CENTERS, "both"), default="both", help="where the beam is (%(default)s)"
    )
    parser.add_argument(
        "--reading",
        choices=(*(reading.value for reading in PenaltyReading), "both"),
        default="both",
        help="scale of the penalty (%(default)s)",
    )
    parser.add_argument("--frames", type=whole, default=128, help="frames of one geometry (%(default)s)")
    parser.add_argument(
        "--slow-frames",
        type=whole,
        default=16,
        help="the first so many of them are given to solvers that take one at a time (%(default)s)",
    )
    parser.add_argument(
        "--stiff-frames",
        type=whole,
        default=4,
        help="as --slow-frames, in the unit-norm reading, which takes thousands of steps (%(default)s)",
    )
    parser.add_argument(
        "--rounds", type=whole, default=7, help="times everything takes its turn (%(default)s)"
    )
    parser.add_argument(
        "--stiff-rounds", type=whole, default=3, help="as --rounds, in the unit-norm reading (%(default)s)"
    )
    parser.add_argument(
        "--excess",
        type=share,
        default=1e-6,
        help="share by which an objective may lie above its minimum (%(default)g)",
    )
    parser.add_argument(
        "--threads", type=whole, default=torch.get_num_threads(), help="of every library (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="of ours and of plain torch (%(default)s)")
    parser.add_argument("--no-full-disk", action="store_true", help="leave fle_2d and ASPIRE out")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare and return the result."""
    options = Options(
        cases=tuple(CENTERS) if arguments.case == "both" else (arguments.case,),
        frames=arguments.frames,
        slow_frames=min(arguments.slow_frames, arguments.frames),
        stiff_frames=min(arguments.stiff_frames, arguments.frames),
        rounds=arguments.rounds,
        stiff_rounds=arguments.stiff_rounds,
        readings=tuple(PenaltyReading)
        if arguments.reading == "both"
        else (PenaltyReading(arguments.reading),),
        excess=arguments.excess,
        threads=arguments.threads,
        device=arguments.device,
        full_disk=not arguments.no_full_disk,
    )
    with threads(options.threads), progress() as shown:
        result: dict[str, Any] = {
            "what": "compare",
            "machine": machine(options.device),
            "problem": {
                "penalty": PENALTY,
                "l1_ratio": L1_RATIO,
                "excess_allowed": options.excess,
                "type_of_ours": "float32",
            },
            "cases": [compare_case(name, options, shown) for name in options.cases],
        }
        if options.full_disk:
            result["full_disk"] = compare_full_disk(
                frames=options.frames,
                slow_frames=options.slow_frames,
                rounds=options.rounds,
                tolerance=options.excess,
                device=options.device,
                shown=shown,
            )
    return result


def compare_case(name: str, options: Options, shown: Progress) -> dict[str, Any]:
    """Return both readings of one geometry."""
    task = shown.add_task(f"{name}: simulating", total=options.frames)
    case = simulate(name, options.frames, advance=lambda: shown.advance(task))
    estimator = case.estimator(device=options.device)
    pixels = estimator.working_pixels(case.images.astype(np.float64)).cpu().numpy()
    basis = estimator.basis().cpu().numpy()
    return {
        "name": name,
        "center": [case.center_x, case.center_y],
        "view": case.size,
        "valid_share": float(case.mask.mean()),
        "fitted_pixels": pixels.shape[1],
        "unknowns": estimator.unknowns,
        "frames": len(case.images),
        "readings": {
            reading.value: compare_reading(case, estimator, basis, pixels, reading, options, shown)
            for reading in options.readings
        },
    }


def compare_reading(
    case: Case,
    estimator: FourierBessel,
    basis: Array,
    pixels: Array,
    reading: PenaltyReading,
    options: Options,
    shown: Progress,
) -> dict[str, Any]:
    """Return the contenders of one reading."""
    stiff = reading is PenaltyReading.UNIT_NORM
    slow = slice(options.stiff_frames if stiff else options.slow_frames)
    task = shown.add_task(f"{case.name}, {reading.value}: minima", total=None)
    problem = Problem.of(basis, pixels, penalty=PENALTY, l1_ratio=L1_RATIO, reading=reading)
    # In the unit-norm reading a minimum takes seconds a frame: those that others solve stand for all.
    minimum = solvers.exact_minimum(problem.take(slow) if stiff else problem, options.threads)
    contenders, left_out = our_contenders(case, estimator, problem, minimum, reading, slow, options), {}
    candidates = solvers.CANDIDATES
    if stiff:
        # Without a Gram matrix each of thousands of sweeps reads all pixels: minutes a frame.
        candidates = tuple(candidate for candidate in candidates if candidate.takes_gram)
        contenders.append(early_stopped(problem.take(slow), minimum.take(slow), options))
    else:
        contenders += plain_contenders(case, estimator, problem, minimum, options)
        contenders += printed_contenders(case, estimator, pixels[slow], slow, options)
    for candidate in candidates:
        shown.update(task, description=f"{case.name}, {reading.value}: tolerance of {candidate.name}")
        contender = at_tolerance(candidate, problem.take(slow), minimum.take(slow), options)
        if isinstance(contender, str):
            left_out[candidate.name] = contender
        else:
            contenders.append(contender)
    shown.remove_task(task)
    return {
        "minimum_uncertainty": minimum.uncertainty,
        "share_of_unknowns_not_zero": float((minimum.coefficients != 0).mean()),
        "contenders": timed(
            contenders,
            f"{case.name}, {reading.value}",
            options.stiff_rounds if stiff else options.rounds,
            shown,
        ),
        "left_out": left_out,
    }


def our_contenders(
    case: Case,
    estimator: FourierBessel,
    problem: Problem,
    minimum: Minimum,
    reading: PenaltyReading,
    slow: slice,
    options: Options,
) -> list[Contender]:
    """Return ours in each size of batch, the largest first."""
    ours = solvers.Ours(
        estimator, penalty=PENALTY, l1_ratio=L1_RATIO, reading=reading, tolerance=options.excess
    )
    contenders = []
    for batch in sorted({min(batch, options.frames) for batch in BATCHES}, reverse=True):
        # Enough frames for a batch, and several frames where they go one by one.
        frames = max(batch, slow.stop)
        frames -= frames % batch
        images = torch.from_numpy(case.images[:frames])
        judged = slice(min(frames, len(minimum.objective)))
        answers = problem.take(slice(frames)).from_basis(ours.coefficients(images, batch))
        solution = estimator.solve(
            images[:batch], PENALTY, L1_RATIO, reading=reading, tolerance=options.excess
        )
        contenders.append(
            Contender(
                f"ours_batch_{batch}",
                f"FourierBessel.estimate of images, {batch} at a time",
                frames,
                lambda images=images, batch=batch: ours.estimate(images, batch),
                {
                    "excess": problem.take(judged).excess(answers[judged], minimum.take(judged)),
                    "steps": solution.iterations,
                    "certified_excess": float((solution.gap / solution.objective).max()),
                },
            )
        )
    return contenders


def at_tolerance(
    candidate: solvers.Candidate, problem: Problem, minimum: Minimum, options: Options
) -> Contender | str:
    """Return a solver at its loosest tolerance that is good enough, or why there is none."""
    try:
        solve = candidate.make(options.threads)
    except ImportError as error:
        return f"{error}; it comes with the extra [bench]"
    found = solvers.loosest_tolerance(solve, problem, minimum, excess=options.excess)
    if found is None:
        return f"comes nowhere within {options.excess:g} of the minimum"
    tolerance, answers = found
    return Contender(
        candidate.name,
        candidate.what,
        len(problem.targets),
        lambda: solve(problem, tolerance),
        {"excess": problem.excess(answers, minimum), "tolerance_set": tolerance},
    )


def early_stopped(problem: Problem, minimum: Minimum, options: Options) -> Contender:
    """Return scikit-learn ended after the paper's sweeps, and what that does to the coefficients."""
    solve = solvers.scikit_learn_batched(options.threads, sweeps=EARLY_SWEEPS)
    answers = solve(problem, 0.0)
    error = np.linalg.norm(answers - minimum.coefficients, axis=1) / np.linalg.norm(
        minimum.coefficients, axis=1
    )
    excess = problem.objective(answers) / minimum.objective - 1
    return Contender(
        f"scikit_learn_{EARLY_SWEEPS}_sweeps",
        f"scikit-learn's enet_path with the Gram matrix, ended after {EARLY_SWEEPS} sweeps",
        len(problem.targets),
        lambda: solve(problem, 0.0),
        {
            "excess": float(excess.max()),
            "median_excess": float(np.median(excess)),
            # Of the unknowns of unit-norm columns, in the 2-norm.
            "coefficient_error": float(error.max()),
            "median_coefficient_error": float(np.median(error)),
        },
    )


def plain_contenders(
    case: Case, estimator: FourierBessel, problem: Problem, minimum: Minimum, options: Options
) -> list[Contender]:
    """Return the plain torch version on all frames."""
    plain = solvers.PlainTorch(case, estimator, penalty=PENALTY, l1_ratio=L1_RATIO)
    images = torch.from_numpy(case.images)
    answers = problem.from_basis(plain.solve(images).double().numpy())
    return [
        Contender(
            f"plain_torch_batch_{options.frames}",
            f"unfolded projection and {solvers.FISTA_STEPS} FISTA steps in float32, of images",
            options.frames,
            lambda: plain.solve(images),
            {"excess": problem.excess(answers, minimum)},
        )
    ]


def printed_contenders(
    case: Case, estimator: FourierBessel, pixels: Array, frames: slice, options: Options
) -> list[Contender]:
    """Return Algorithm 1 as printed: its solver alone, and with the basis made anew for each frame."""
    problem = printed.printed_problem(estimator, pixels, penalty=PENALTY, l1_ratio=L1_RATIO)
    answers, exact = printed.fit(problem), solvers.exact_minimum(problem, options.threads)
    facts = {
        "excess": problem.excess(answers, exact),
        "excess_of": "its own problem of twice the rows and 880 unknowns",
    }
    images = case.images[frames]
    return [
        Contender(
            "scikit_learn_as_printed",
            "Algorithm 1 as printed, 20 sweeps of ElasticNet; stacked matrix made once, not timed",
            len(images),
            lambda: printed.fit(problem),
            facts,
        ),
        Contender(
            "scikit_learn_as_printed_with_basis",
            "estimate_printed: the same, stacking the complex basis for each frame",
            len(images),
            lambda: [estimate_printed(estimator, image, PENALTY, L1_RATIO) for image in images],
            facts,
        ),
    ]
