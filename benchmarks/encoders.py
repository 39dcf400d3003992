"""Feed-forward encoders beside the estimate and beside its solver, stopped after as many products.

Simulated experiments that neither the encoders nor the bundle were trained on, each method on the same frames::

    python -m benchmarks.encoders > encoders.json
    python -m benchmarks.encoders --settings paper > encoders-paper.json

The result, a JSON object on stdout: per method the products with a J x J matrix, how far objective and coefficients
are from those of the converged minimum, what is left of that after (10), what it does to the labels of a model
(where the settings are the model's), and the time a frame takes, measured in turns.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.errors import DvfbError
from dvfb_stream.fbt import (
    FourierBessel,
    FourierBesselSettings,
    Projections,
    complex_from_real,
    log_scale,
    normalise,
)
from dvfb_stream.fbt.elastic_net import PenalisedFit
from dvfb_stream.fbt.settings import PRESETS, Solver
from dvfb_stream.models import find_bundle, load_bundle
from dvfb_stream.models.calibration import probabilities
from dvfb_stream.reproduction.encoder_training.problems import TOLERANCES, solve
from dvfb_stream.reproduction.encoders import EncoderWeights, LinearEncoder, UnrolledEncoder, load_weights
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.training.dataset import FRAMES_PER_EXPERIMENT
from dvfb_stream.training.evaluation import average_precision
from dvfb_stream.training.examples import by_geometry, views_of
from dvfb_stream.training.presets import SEEDS

Encode = Callable[[Projections], Tensor]


@dataclass
class Quality:
    """One method's results over all frames."""

    products: list[int] = field(default_factory=list)
    excess: list[Tensor] = field(default_factory=list)
    coefficient_error: list[Tensor] = field(default_factory=list)
    log_scaled_error: list[Tensor] = field(default_factory=list)
    logits: list[dict[str, Tensor]] = field(default_factory=list)
    """Of each head."""
    truth: list[Tensor] = field(default_factory=list)


def methods(
    estimator: FourierBessel, settings: FourierBesselSettings, weights: EncoderWeights
) -> dict[str, tuple[int, Encode]]:
    """Products and function of each method; all from what `FourierBessel.project` returns to real unknowns."""
    linear, unrolled = LinearEncoder(estimator), UnrolledEncoder(estimator, weights)
    steps = len(weights.layers)

    def stopped(solver: Solver, count: int) -> Encode:
        never_certified = settings.changed(solver=solver, tolerance=1e-300)
        return lambda projections: (
            estimator.solve_projected(projections, never_certified, max_iterations=count).coefficients
        )

    return {
        "estimate": (0, lambda projections: estimator.solve_projected(projections, settings).coefficients),
        "linear": (1, linear.encode),
        "unrolled": (steps, unrolled.encode),
        # With the one certificate at the end that comes with the solver, in float64: some two products' time.
        "admm_stopped": (steps, stopped(Solver.ADMM, steps)),
        "admm_stopped_twice_the_products": (2 * steps, stopped(Solver.ADMM, 2 * steps)),
        "fista_stopped": (steps, stopped(Solver.FISTA, steps)),
    }


def summary(parts: list[Tensor]) -> dict[str, float]:
    values = torch.cat(parts).double()
    return {
        "median": float(values.median()),
        "p95": float(values.quantile(0.95)),
        "max": float(values.max()),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    settings = FourierBesselSettings.preset(options.settings)
    weights = load_weights(settings.reading if options.weights is None else options.weights)
    bundle = load_bundle(find_bundle(options.model))
    if bundle.network.coefficient_shape is None:
        raise SystemExit(
            f"{bundle.identity} takes no coefficients; name a bundle that does (`dvfb train compact`)"
        )
    labelled = bundle.fbt_settings.changed(tolerance=settings.tolerance) == settings
    simulator = Simulator(
        SEEDS["test"], settings=SimulationSettings(frames_per_experiment=FRAMES_PER_EXPERIMENT)
    )
    network = bundle.network.eval()
    results: dict[str, Quality] = {}
    timed: tuple[FourierBessel, Tensor] | None = None
    used = 0
    for experiment in range(options.geometries):
        first = experiment * FRAMES_PER_EXPERIMENT
        for geometry, pixels, labels in by_geometry(simulator, first, first + options.frames):
            views = views_of(pixels, geometry, settings)
            if views is None:
                continue
            sys.stderr.write(f"experiment {experiment + 1} of {options.geometries}\n")
            used += 1
            timed = timed or (views.estimator, views.images)
            projections = views.estimator.project(views.images)
            solved = solve(views.estimator, projections, settings)
            problem = PenalisedFit(views.estimator.gram, views.estimator.fitted_count, settings)
            _, lengths = problem.scaled(projections)
            shown = solved.minimum.norm(dim=1) > 0
            best = problem.in_units_of_the_image(solved.minimum, lengths.double())
            masks = torch.from_numpy(views.mask).expand(len(views.images), -1, -1)
            for name, (products, encode) in methods(views.estimator, settings, weights).items():
                a = encode(projections)
                quality = results.setdefault(name, Quality())
                if name == "estimate":
                    products = views.estimator.solve_projected(projections, settings).iterations
                quality.products.append(products)
                scaled = problem.in_units_of_the_problem(a.double(), lengths.double())
                quality.excess.append(solved.excess(scaled)[shown])
                quality.coefficient_error.append(solved.coefficient_error(scaled)[shown])
                as_seen, should_be = (
                    torch.view_as_real(log_scale(normalise(_complex(values, settings))))
                    for values in (a, best)
                )
                quality.log_scaled_error.append((as_seen - should_be).square().mean((1, 2, 3)).sqrt()[shown])
                if labelled:
                    inputs = network.prepare(views.images, masks, _complex(a, settings))
                    with torch.inference_mode():
                        quality.logits.append(network.all_logits(inputs)[0])
                    quality.truth.append(torch.from_numpy(labels))
    if timed is None:
        raise SystemExit("no experiment shows anything; ask for more --geometries")
    timings = time_in_turns(*timed, settings, weights, options)
    logits = {
        name: {
            head: torch.cat([part[head] for part in quality.logits]).double().numpy()
            for head in quality.logits[0]
        }
        for name, quality in results.items()
        if quality.logits
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "settings": options.settings,
        "weights": {"sha256": weights.sha256, "layers": len(weights.layers)},
        "experiments": used,
        "frames": len(torch.cat(results["estimate"].excess)),
        "simulator_seed": SEEDS["test"],
        "reference_tolerance": TOLERANCES[settings.reading],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "methods": {
            name: {
                "products": statistics.median(quality.products),
                "objective_excess": summary(quality.excess),
                "coefficient_error": summary(quality.coefficient_error),
                "log_scaled_error": summary(quality.log_scaled_error),
                **timings[name],
                "labels": labels_of(name, logits, results, bundle.calibrations) if labelled else None,
            }
            for name, quality in results.items()
        },
    }


def time_in_turns(
    estimator: FourierBessel,
    images: Tensor,
    settings: FourierBesselSettings,
    weights: EncoderWeights,
    options: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """Seconds a frame with and without the projection, methods taking turns so that all see the same machine."""
    batch = images[torch.arange(options.batch) % len(images)]
    projections = estimator.project(batch)
    seconds: dict[str, list[float]] = {}
    projecting: list[float] = []
    all_methods = methods(estimator, settings, weights)
    for turn in range(options.repeats + 1):
        started = time.perf_counter()
        estimator.project(batch)
        elapsed = {"project": time.perf_counter() - started}
        for name, (_, encode) in all_methods.items():
            started = time.perf_counter()
            encode(projections)
            elapsed[name] = time.perf_counter() - started
        if turn:  # the first one builds what is kept
            projecting.append(elapsed.pop("project") / options.batch)
            for name, value in elapsed.items():
                seconds.setdefault(name, []).append(value / options.batch)
    # The least of the repeats: on a shared machine all else is what others do.
    projection = min(projecting)
    whole = {name: projection + min(values) for name, values in seconds.items()}
    return {
        name: {
            "seconds_a_frame": whole[name],
            "seconds_a_frame_after_projection": min(values),
            "times_faster_than_estimate": whole["estimate"] / whole[name],
            "times_faster_after_projection": min(seconds["estimate"]) / min(values),
        }
        for name, values in seconds.items()
    }


def labels_of(
    name: str,
    logits: dict[str, dict[str, np.ndarray]],
    results: dict[str, Quality],
    calibrations: Any,
) -> dict[str, float]:
    """Mean average precision of both heads that see coefficients, and how many decisions are not the estimate's."""
    truth = torch.cat(results[name].truth).numpy()
    thresholds = np.array([calibration.threshold for calibration in calibrations])
    stated = {key: probabilities(logits[key]["joint"], calibrations) for key in (name, "estimate")}
    accepted = {key: values >= thresholds for key, values in stated.items()}
    return {
        "mean_average_precision_joint": average_precision(logits[name]["joint"], truth)["mean"],
        "mean_average_precision_coefficients_alone": average_precision(logits[name]["coefficient"], truth)[
            "mean"
        ],
        "decisions_changed": float((accepted[name] != accepted["estimate"]).mean()),
        "largest_probability_change": float(np.abs(stated[name] - stated["estimate"]).max()),
    }


def _complex(unknowns: Tensor, settings: FourierBesselSettings) -> Tensor:
    return complex_from_real(unknowns.float(), n_radial=settings.n_radial, orders=settings.orders)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings",
        choices=sorted(PRESETS),
        default="default",
        help="Fourier-Bessel settings (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", help="file of the unrolled encoder (default: the package's for the reading)"
    )
    parser.add_argument(
        "--model", default="default", help="bundle whose labels are compared (default: %(default)s)"
    )
    parser.add_argument(
        "--geometries", type=int, default=20, help="simulated experiments (default: %(default)s)"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=FRAMES_PER_EXPERIMENT,
        help="of each, at most %(default)s (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=128, help="frames at a time when timed (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="turns when timed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    options = parser.parse_args()
    for name in ("geometries", "frames", "batch", "repeats", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.frames > FRAMES_PER_EXPERIMENT:
        parser.error(f"--frames must be at most {FRAMES_PER_EXPERIMENT}, not {options.frames}")
    torch.set_num_threads(options.threads)
    try:
        result = measure(options)
    except DvfbError as error:
        sys.stderr.write(f"benchmark: error: {error}\n")
        return 1
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
